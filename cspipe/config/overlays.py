"""Params files in layers: one is complete, the others contain only what differs from the file that they extend.

The key `extends` of a file names another, relative to its folder; a file without it is complete. A file's values
replace those of the file that it extends, key by key; `model` and `variants`, and what is in them, are replaced whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from cspipe.config.params_file import ParamsError, read_text, read_yaml
from cspipe.runtime.errors import UserError

PRESETS = Path(__file__).parent / "presets"
EXTENDS = "extends"
REPLACED = ("model", "variants")
"""Sections that a file replaces whole, as another name in them means other keys."""


@dataclass(frozen=True)
class Layered:
    """A params file merged with those that it extends."""

    tree: dict[str, Any]
    """All values, as in a complete file; not validated."""
    comments: dict[str, str]
    """Comments by dotted key, of the file that gives the value, else of the complete file, where they explain keys."""
    origins: dict[str, str]
    """Names of the files that give the values, by dotted key."""
    header: str
    """Comment lines at the top of the file itself."""

    def text(self, tree: Mapping[str, Any] | None = None, *, origins: bool = False) -> str:
        """Return a complete params.yaml with comments, of another `tree` if given; `origins` adds each value's file."""
        lines = _lines(tree or self.tree, self.comments, self.origins if origins else {})
        return self.header + "".join(f"{line}\n" for line in lines)


def preset_names(folder: Path = PRESETS) -> list[str]:
    """Names of the presets in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_preset(name: str, folder: Path = PRESETS) -> Layered:
    """Read a preset. Raises UserError, listing the presets, if there is none of this name."""
    if name not in preset_names(folder):
        raise UserError(f"no preset {name!r}; there are {', '.join(preset_names(folder))}")
    return read_layers(folder / f"{name}.yaml")


def read_layers(file: Path) -> Layered:
    """Read a params file and merge it with those that it extends. Raises ParamsError naming file and key."""
    complete, *overlays = _chain(file)
    tree, explained = complete.tree, complete.comments
    comments, origins = dict(explained), dict.fromkeys(explained, complete.path.stem)
    for overlay in overlays:
        tree = set_keys(tree, overlay.tree, str(overlay.path))
        comments |= {key: comment or explained.get(key, "") for key, comment in overlay.comments.items()}
        origins |= dict.fromkeys(overlay.comments, overlay.path.stem)
    header = takewhile(lambda line: line.startswith("#"), read_text(file).splitlines(keepends=True))
    return Layered(tree, comments, origins, "".join(header))


def set_keys(tree: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Copy a params tree with dotted keys set, such as {"train.images": 1000}.

    A mapping as a value changes only the keys that it has, except in `model` and `variants`, where it replaces all.
    Raises ParamsError naming `where` and the key if the tree has no such key; one directly below a variant may be new.
    """
    key = ""
    try:
        config = OmegaConf.create(dict(tree), flags={"struct": True})
        for key, value in changes.items():
            section, *rest = key.split(".")
            new = section == "variants" and len(rest) == 2 and isinstance(config.variants.get(rest[0]), DictConfig)
            OmegaConf.update(config, key, value, merge=section not in REPLACED, force_add=new)
    except (ConfigKeyError, ConfigAttributeError) as error:
        known = "correct its spelling, `cspipe params show demo` prints all keys"
        whole = "; what a variant leaves out is set whole" if key.startswith("variants.") else ""
        raise ParamsError(f"{where}: no key {error.full_key or key}; {known}{whole}") from None
    except OmegaConfBaseException as error:
        raise ParamsError(f"{where}: {error.full_key or key}: {str(error).splitlines()[0]}; change the value") from None
    copy: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]  # a mapping stays one
    return copy


@dataclass(frozen=True)
class _File:
    path: Path
    extends: str | None
    tree: dict[str, Any]
    comments: dict[str, str]
    """Comments of all dotted keys of the file; "" for keys without one."""


def _read(path: Path) -> _File:
    found = read_yaml(path)
    if not isinstance(found, Mapping):
        raise ParamsError(f"{path}: not a mapping; `cspipe params show demo` prints a complete file")
    tree = {str(key): value for key, value in found.items()}
    extends = tree.pop(EXTENDS, None)
    if extends is not None and not (isinstance(extends, str) and (path.parent / extends).is_file()):
        raise ParamsError(f"{path}: {EXTENDS}: no file {extends!r} beside it; name one relative to its folder")
    return _File(path, extends, tree, _comments(read_text(path)))


def _chain(file: Path) -> list[_File]:
    """Read a file and those that it extends; the complete one is first. Raises ParamsError."""
    chain = [_read(file)]
    while chain[-1].extends is not None:
        path = (chain[-1].path.parent / chain[-1].extends).resolve()
        if path in [each.path.resolve() for each in chain]:
            raise ParamsError(f"{chain[-1].path}: {EXTENDS}: {chain[-1].extends} extends this file; name another")
        chain.append(_read(path))
    return chain[::-1]


def _comments(text: str) -> dict[str, str]:
    """The dotted keys of a YAML mapping, each with the comment at the end of its line, "" if there is none."""
    lines = [*text.splitlines(), ""]

    def walk(node: yaml.Node | None, parent: str) -> Iterator[tuple[str, str]]:
        """Iterate over (dotted key, comment) below a node; `parent` is the keys' prefix."""
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            block = isinstance(value, yaml.MappingNode) and not value.flow_style
            end = key.end_mark if block else value.end_mark
            comment = re.match(r":?\s*#\s*(.*)", lines[end.line][end.column :])
            yield parent + key.value, comment[1] if comment else ""
            yield from walk(value, f"{parent}{key.value}.")

    return {key: comment for key, comment in walk(yaml.compose(text), "") if key != EXTENDS}


def _lines(
    tree: Mapping[str, Any], comments: Mapping[str, str], origins: Mapping[str, str], parents: tuple[str, ...] = ()
) -> Iterator[str]:
    """Iterate over lines of YAML: mappings of the first two levels are blocks, deeper ones are written in one line."""
    for key, value in tree.items():
        name = ".".join(map(str, (*parents, key)))
        section = isinstance(value, Mapping) and bool(value) and len(parents) < 2
        if section and not parents:
            yield ""
        entry = "  " * len(parents) + (f"{_flow([key])}:" if section else _flow({key: value}))
        note = [comments.get(name), None if section else origins.get(name)]
        comment = ": ".join(part for part in reversed(note) if part)
        yield f"{entry:24} # {comment}" if comment else entry
        if section:
            yield from _lines(value, comments, origins, (*parents, str(key)))


def _flow(value: object) -> str:
    """Format a mapping or a list as YAML in one line, without the brackets around it."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1_000_000)
    return text.strip()[1:-1]
