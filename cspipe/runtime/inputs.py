"""The parameters and the code of a stage, which must not change while it runs: DVC records them when it has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cspipe.runtime.code_lock import LOCK
from cspipe.runtime.differences import differences, value_at
from cspipe.runtime.errors import UserError
from cspipe.runtime.provenance import PIPELINE, fill_in, shipped
from cspipe.runtime.registry import ROOT

PARAMS = Path("params.yaml")
SHOWN = 3
"""Most changes that a message names."""


class Inputs:
    """Parameters and code at the start of a stage, such as "sample@cs-10"; nothing is parsed unless they change."""

    def __init__(self, stage: str) -> None:
        self._stage, self._params, self._code = stage, _content(PARAMS), _code()

    def check(self) -> None:
        """Raise UserError if anything that the stage depends on was changed or removed since its start.

        Files of code that are new, such as an editor's, are no reason.
        """
        code, params = _code(), _content(PARAMS)
        edited = [path for path, content in self._code.items() if code.get(path) != content]
        if not edited and params == self._params:
            return
        try:
            changed = self._changed(params, edited)
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):  # of an edit that is not finished
            changed = edited if params == self._params else [str(PARAMS), *edited]
        if not changed:
            return
        more = f" and {len(changed) - SHOWN} more" if changed[SHOWN:] else ""
        raise UserError(
            f"{', '.join(changed[:SHOWN])}{more} changed while the stage ran, and DVC would record what is there now "
            "for a result of what was there before. Undo the change, or keep it, and run the same command again; with "
            "the old values a training or sampling goes on from its stored state"
        )

    def _changed(self, text: bytes, edited: list[str]) -> list[str]:
        """Return the stage's parameters that have another value in `text`, and those of the edited files it reads."""
        before, now = _parsed(self._params), _parsed(text)
        values = [
            f"{PARAMS}: {name}"
            for key in self._declared("params", before)
            for name, _, _ in differences(value_at(before, key), value_at(now, key), key)
        ]
        deps = [LOCK, *self._declared("deps", before)]
        return values + [path for path in edited if any(Path(path).is_relative_to(dep) for dep in deps)]

    def _declared(self, kind: str, params: Any) -> list[str]:
        """Return the stage's "params" or "deps" in dvc.yaml, with names from params.yaml filled in."""
        name, _, variant = self._stage.partition("@")
        pipeline = Path(PIPELINE) if Path(PIPELINE).is_file() else shipped(PIPELINE)
        stage = _parsed(pipeline.read_bytes())["stages"].get(name, {})
        entries = [entry for entry in stage.get("do", stage).get(kind, []) if isinstance(entry, str)]
        variants = [variant] if variant else []
        return [path for entry in entries for path in fill_in(entry, params, variants)]


def _code() -> dict[str, bytes]:
    """Return the files of code, by path; of cspipe.lock alone where there is one, which DVC reads in their place."""
    if lock := _content(Path(LOCK)):
        return {LOCK: lock}
    files = (path for path in (ROOT / "cspipe").rglob("*") if path.suffix != ".pyc")
    return {path.relative_to(ROOT).as_posix(): _content(path) for path in files}


def _content(path: Path) -> bytes:
    """Return the content of a file; nothing if there is none."""
    return path.read_bytes() if path.is_file() else b""


def _parsed(text: bytes) -> Any:
    """Parse YAML as DVC does, for which 1e-4 is a number. Raises ValueError if it is not valid."""
    from ruamel.yaml import YAML  # takes a tenth of a second to import
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ValueError(str(error)) from None
