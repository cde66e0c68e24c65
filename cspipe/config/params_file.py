"""Reading params.yaml, and messages that say what is wrong in it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from cspipe.runtime.errors import UserError
from cspipe.runtime.project import check_at_root
from cspipe.runtime.settings import SettingsOf
from cspipe.runtime.wording import printable

if TYPE_CHECKING:  # torch takes seconds to import: commands that only read presets do without
    from cspipe.config.params import Params


class ParamsError(UserError):
    """params.yaml cannot be used; the message names the file, the key, the value and the fix."""


LONGEST = 1_000_000
"""Most characters of a file with its aliases written out: a few lines of aliases of aliases can stand for gigabytes."""
_UNION_MEMBERS = ("function-", "literal[", "constrained-", "list[")
"""Prefixes of what pydantic adds to an error's location for the members of a union; these are no keys of the file."""


def _meaning(keys: list[str], tree: Any) -> str:
    """The description of a key such as train.batch, in a file with the content `tree`."""
    return _followed(keys, tree)[1] or "see `cspipe params show demo`"


def _siblings(keys: list[str], tree: Any) -> str:
    """The keys of the section of a key, if a file has its settings; else where a complete file is printed."""
    section = _followed(keys[:-1], tree)[0]
    if "name" not in getattr(section, "model_fields", {}):
        return "`cspipe params show demo` prints a complete file"
    return f"the keys of {section.__module__} are {', '.join(section.model_fields)}"


def _followed(keys: list[str], tree: Any) -> tuple[Any, str]:
    """(type, description) of a key such as train.batch, in a file with the content `tree`."""
    from cspipe.config.params import Params
    from cspipe.sampling.settings import Variant

    annotation: Any = Params
    meaning = ""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
        field = getattr(annotation, "model_fields", {}).get(key)
        if field is None:
            annotation = Variant if annotation == Params.model_fields["variants"].annotation else None
            continue
        annotation, meaning = _type_of(field, tree), field.description or ""
    return annotation, meaning


def _type_of(field: FieldInfo, value: Any) -> Any:
    """Type of a field; for a section whose `name` chooses a file, that file's class of settings."""
    named = [part.model(value) for part in field.metadata if isinstance(part, SettingsOf)]
    return named[0] if named else field.annotation


def _explain(error: ValidationError, tree: Any, where: str) -> str:
    """Message for an invalid params file, one line per problem: key, what is wrong, value, and the key's meaning."""
    lines = [f"{where}: {error.error_count()} problem(s); fix the values named here and run the same command again"]
    for problem in error.errors():
        keys = [str(part) for part in problem["loc"] if not str(part).startswith(_UNION_MEMBERS)]
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key; remove it or correct its spelling"
        elif problem["type"] == "missing":
            message = f"key is missing; {_siblings(keys, tree)}"
        elif problem["type"] != "value_error":
            message += f" (got {problem['input']!r:.200}; {_meaning(keys, tree)})"
        lines.append(printable(f"  {'.'.join(keys) + ': ' if keys else ''}{message}"))
    return "\n".join(lines)


def parse_params(tree: Any, where: str) -> Params:
    """Validate a parsed YAML tree; `where` names it in messages. Raises ParamsError."""
    from cspipe.config.params import Params

    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise ParamsError(_explain(error, tree, where)) from None


def read_text(path: Path) -> str:
    """Read the text of a params file. Raises ParamsError if it is not readable."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file{_where_else(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: cannot be read ({error}); `cspipe params use demo` writes a new one") from None


def _where_else(path: Path) -> str:
    """Advice for a file that is missing: how this folder gets a params.yaml, or where there is one."""
    if path != Path("params.yaml"):
        return ""
    try:
        check_at_root()
    except UserError as error:
        return f"; {error}"
    return "; `cspipe params use demo` writes one"


def read_yaml(path: Path) -> Any:
    """Parse a params file as YAML, without validating it. Raises ParamsError."""
    try:
        node = yaml.compose(read_text(path), yaml.SafeLoader)
        length = _length(node, {})
        if length > LONGEST:
            raise ValueError(f"{length} characters with its aliases (*name) written out, more than {LONGEST}")
        return node and yaml.SafeLoader("").construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: also an invalid date or number
        problem = str(error).replace('in "<unicode string>", ', "")  # PyYAML's name for the text
        raise ParamsError(f"{path}: not valid YAML: {problem}; correct it there") from None


def _length(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Count the characters of a node, aliases written out; `known` keeps counts by id, as an alias is the same node.

    Raises ValueError for a key that its mapping has twice, of which PyYAML silently takes the last one.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1 + len(node.value) if node else 0
    if id(node) not in known:
        keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        last = {str(key.value): key for key in keys}
        if twice := [key for key in keys if last[str(key.value)] is not key]:
            raise ValueError(f"line {twice[0].start_mark.line + 1}: {twice[0].value} stands in its section once more")
        parts = chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_length(part, known) for part in parts)
    return known[id(node)]


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and validate a params file. Raises ParamsError naming file, key, value and fix."""
    return parse_params(read_yaml(path), str(path))
