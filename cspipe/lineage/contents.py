"""What a file tells of its own origin. Its kind is told by its content: copies are renamed, caches have no suffixes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.lib import format as npy

from cspipe.lineage.sources import Source
from cspipe.runtime.errors import UserError

JSON_BYTES = 2**26
"""Larger files are no JSON of this project."""
HEADER_BYTES = 10**8
"""Longest header that the safetensors format allows."""

Code = dict[str, dict[str, str]]
"""By stage: git's object ids (12 digits) of the files and folders that decided its result."""


@dataclass(frozen=True)
class Contents:
    """A file's kind and what it says of how it was made; nothing of both `facts` and `code` if it is silent."""

    source: Source
    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    code: Code = field(default_factory=dict)
    made_from: Mapping[str, str] = field(default_factory=dict)
    """sha256 of what it was made from, by kind."""


PARENTS = {
    "samples_sha256": "samples",
    "model_sha256": "main model",
    "module_sha256": "compensation module",
    "main_sha256": "main model",
    "data_sha256": "pictures",
    "reference_sha256": "reference pictures",
}


def read_contents(source: Source) -> Contents:
    """Recognise a file and read what it says of itself. Raises UserError if it is damaged or of no known kind."""
    start = source.read(0, 16)
    if start.startswith(npy.MAGIC_PREFIX):
        return _array(source)
    length = int.from_bytes(start[:8], "little")
    if len(start) > 8 and start[8:9] == b"{" and length <= HEADER_BYTES:
        return _model(source, length)
    if start.lstrip()[:1] in (b"{", b"[") and source.size <= JSON_BYTES:
        return _json(source)
    raise UserError(f"{source.name}: no safetensors model, .npy array or metrics JSON of this project, or damaged")


def _model(source: Source, length: int) -> Contents:
    """A safetensors file, of which only the header is read."""
    try:
        header = json.loads(source.read(8, length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        metadata = header.get("__metadata__") or {}
        config = json.loads(metadata["cspipe"]) if "cspipe" in metadata else None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{source.name}: damaged safetensors file: its header cannot be read ({error})") from None
    expected = 8 + length + max(ends, default=0)
    if source.size != expected:
        raise UserError(f"{source.name}: damaged: {source.size} bytes, but its header tells {expected}; copy it again")
    return _of_config(source, config) if isinstance(config, dict) else Contents(source, "safetensors file")


def _of_config(source: Source, config: Mapping[str, Any]) -> Contents:
    stage, kind = ("compensate", "compensation module") if "main_sha256" in config else ("train", "main model")
    return _told(source, kind, config, {stage: config.get("code", {})})


def _told(source: Source, kind: str, tree: Mapping[str, Any], code: Code) -> Contents:
    made_from = {PARENTS[key]: value for key, value in tree.items() if key in PARENTS and value}
    facts = {key: value for key, value in tree.items() if key not in PARENTS and key != "code"}
    return Contents(source, kind, facts, code, made_from)


def _array(source: Source) -> Contents:
    """An array, told by samples.json beside it."""
    try:
        file = io.BytesIO(source.read(0, 2**16))
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        expected = file.tell() + dtype.itemsize * _product(shape)
    except (ValueError, OSError) as error:
        raise UserError(f"{source.name}: damaged .npy file: its header cannot be read ({error})") from None
    if source.size != expected:
        raise UserError(f"{source.name}: damaged: {source.size} bytes, but its header tells {expected}; copy it again")
    beside = source.sibling("samples.json")
    if not beside.exists():
        return Contents(source, "samples")
    told = _json(beside)
    if told.facts.get("images") != shape[0]:
        raise UserError(f"{beside.name}: tells of {told.facts.get('images')} images, but {source.name} has {shape[0]}")
    return replace(told, source=source)


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _json(source: Source) -> Contents:
    try:
        tree = json.loads(source.read(0, source.size))
    except ValueError as error:
        raise UserError(f"{source.name}: damaged JSON ({error})") from None
    if isinstance(tree, list) and tree and all(isinstance(entry, dict) and "relpath" in entry for entry in tree):
        return _cached_folder(source, {entry["relpath"]: entry.get("md5", "") for entry in tree})
    if isinstance(tree, dict):
        provenance = tree.get("provenance")
        if isinstance(provenance, list) and provenance and isinstance(provenance[0], dict):
            return _told(source, "metrics", provenance[0], provenance[0].get("code", {}))
        if "variant" in tree and "model_sha256" in tree:
            return _told(source, "samples", tree, tree.get("code", {}))
        if "code" in tree and "data_sha256" in tree:
            return _of_config(source, tree)
    raise UserError(f"{source.name}: JSON, but no metrics, samples.json or config.json of this project")


def _cached_folder(source: Source, files: Mapping[str, str]) -> Contents:
    """A folder in DVC's cache or remote: a list of files, each stored under its md5."""
    for name in ("model.safetensors", "samples.npy"):
        if name in files:
            contents = read_contents(_cached(source, files[name]))
            if name == "samples.npy" and "samples.json" in files and not contents.facts:
                return replace(_json(_cached(source, files["samples.json"])), source=contents.source)
            return contents
    raise UserError(f"{source.name}: a folder in DVC's cache without a model or samples")


def _cached(listing: Source, md5: str) -> Source:
    return listing.sibling(f"../{md5[:2]}/{md5[2:]}")
