"""What the models of params.yaml are made of: kinds of numbers, and values that name a file of the package."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, PydanticKnownError
from pydantic_core.core_schema import no_info_before_validator_function

from cspipe.runtime.registry import find, names_in

Count = Annotated[int, Field(ge=1, strict=True)]
WholeNumber = Annotated[int, Field(ge=0, le=2**62, strict=True)]


def no_switch(value: object) -> object:
    """Python counts true as 1; a number in params.yaml is never meant by it. Raises ValueError."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}")
    return value


Number = Annotated[float, BeforeValidator(no_switch)]
Rate = Annotated[Number, Field(gt=0, le=1)]
Share = Annotated[Number, Field(ge=0, le=1)]
Scale = Annotated[Number, Field(ge=0, le=10)]


class Section(BaseModel):
    """A section of params.yaml: unknown keys are errors, values cannot change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _expected(choices: Iterable[str]) -> dict[str, Any]:
    """The values of a choice, as pydantic's error of a Literal wants them."""
    *others, last = [repr(name) for name in choices]
    return {"expected": f"{', '.join(others)} or {last}" if others else last}


def _listed(choices: Callable[[], Collection[str]], value: object) -> object:
    if value not in choices():
        raise PydanticKnownError("literal_error", _expected(choices()))
    return value


def file_of(package: str) -> BeforeValidator:
    """Annotation of a string that names a file of `package`."""
    return BeforeValidator(partial(_listed, partial(names_in, package)))


def key_of(package: str, name: str, member: str) -> BeforeValidator:
    """Annotation of a string that is a key of the dict `member` in a file of `package`."""
    return BeforeValidator(partial(_listed, lambda: sorted(find(package, name, member))))


@dataclass(frozen=True)
class SettingsOf:
    """Annotation of a section whose key `name` names a file of `package`; the class `Settings` there has its keys."""

    package: str
    base: type[Section]
    """What every `Settings` of the package is derived from."""

    def model(self, value: Any) -> type[Section]:
        """The class for a section of the file; the base if its name is missing or wrong."""
        name = value.get("name") if isinstance(value, Mapping) else None
        return find(self.package, name, "Settings") if name in names_in(self.package) else self.base

    def _read(self, value: Any) -> Any:
        """Validate a mapping by the class that it names. Raises ValidationError at the keys of the section."""
        if not isinstance(value, Mapping):
            return value
        model = self.model(value)
        if model is not self.base:
            return model.model_validate(value)
        expected = _expected(names_in(self.package))
        missing = PydanticCustomError("value_error", "key is missing; it is {expected}", expected)
        problem: InitErrorDetails = {"type": missing, "loc": ("name",), "input": value}
        if "name" in value:
            problem = {**problem, "type": "literal_error", "input": value["name"], "ctx": expected}
        raise ValidationError.from_exception_data(self.package, [problem])

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Pydantic's hook: the mapping becomes the named class before the field's own type looks at it."""
        return no_info_before_validator_function(self._read, handler(source))
