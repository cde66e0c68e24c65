"""Building blocks of the pydantic models of params.yaml: number types, and values that name a file of the package."""

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
    """Refuse a boolean, which pydantic would take for 0 or 1, as a number of params.yaml. Raises ValueError."""
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
    """Names of a choice, as the context of pydantic's error for a Literal."""
    *others, last = [repr(name) for name in choices]
    return {"expected": f"{', '.join(others)} or {last}" if others else last}


def _listed(choices: Callable[[], Collection[str]], value: object) -> object:
    if value not in choices():
        raise PydanticKnownError("literal_error", _expected(choices()))
    return value


def file_of(package: str) -> BeforeValidator:
    """Validator of a string that must name a file of `package`."""
    return BeforeValidator(partial(_listed, partial(names_in, package)))


def key_of(package: str, name: str, member: str) -> BeforeValidator:
    """Validator of a string that must be a key of the dict `member` in the file `name` of `package`."""
    return BeforeValidator(partial(_listed, lambda: sorted(find(package, name, member))))


@dataclass(frozen=True)
class SettingsOf:
    """Annotation of a section whose key `name` names a file of `package`; the file's class `Settings` has its keys."""

    package: str
    base: type[Section]
    """Base class of every `Settings` in the package."""

    def model(self, value: Any) -> type[Section]:
        """Settings class that a section's value names; the base class if the name is missing or wrong."""
        name = value.get("name") if isinstance(value, Mapping) else None
        return find(self.package, name, "Settings") if name in names_in(self.package) else self.base

    def _read(self, value: Any) -> Any:
        """Validate a mapping with the class that it names. Raises ValidationError for keys of the section."""
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
