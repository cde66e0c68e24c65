"""An origin as people read it, or as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from cspipe.lineage.trace import Origin
from cspipe.runtime.wording import readable_seconds

SHOWN = {
    "main model": (
        "images_seen", "seed", "channels", "size", "parameters", "train.method", "train.batch", "train.learning_rate",
        "diffusion.steps", "diffusion.schedule", "diffusion.prediction",
    ),
    "compensation module": ("main_images_seen", "seed", "channels", "size", "parameters", "compensation"),
    "samples": ("variant", "sampler", "steps", "eta", "correction", "seed", "images", "images_seen", "training"),
    "metrics": (
        "variant", "sampler", "steps", "eta", "correction", "seed", "samples_images", "images_seen", "training",
        "reference", "extractor", "torch", "device",
    ),
}  # fmt: skip
"""Facts of each kind that the text shows; the JSON has all."""


def as_json(origin: Origin) -> dict[str, Any]:
    """All that is known, as JSON can write it."""
    return asdict(origin)


def text(origin: Origin, indent: str = "") -> str:
    """A short tree: a block of lines per file, what it was made from below it and further in."""
    place = f" {origin.place}" if origin.place else ""
    lines = [f"{origin.kind}{place} (sha256 {origin.sha256[:12]})", *(f"  {line}" for line in _details(origin))]
    blocks = ["\n".join(f"{indent}{line}" for line in lines)]
    return "\n".join([*blocks, *(text(parent, f"{indent}    ") for parent in origin.made_from)])


def _details(origin: Origin) -> Iterator[str]:
    facts = ", ".join(_facts(origin.kind, origin.facts))
    if facts:
        yield facts
    yield from _code(origin)
    if origin.record is not None:
        yield from _record(origin.record)
    if not facts and origin.record is None:
        yield "not in this clone, and no record of it"


def _facts(kind: str, facts: Mapping[str, Any]) -> Iterator[str]:
    for key in SHOWN.get(kind, tuple(facts)):
        value: Any = facts
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):
            value = " ".join(f"{name} {item}" for name, item in value.items() if item is not None)
        if value is not None:
            yield f"{key.rpartition('.')[2].replace('_', ' ')} {value}"


def _code(origin: Origin) -> Iterator[str]:
    """Stages with the same commits share a line."""
    told: dict[str, list[str]] = {}
    for stage, commits in origin.code.items():
        told.setdefault(commits.text() if commits else "no history of the project here to find it in", []).append(stage)
    for what, stages in told.items():
        yield f"code of {', '.join(stages)}: {what}"


def _record(record: Mapping[str, Any]) -> Iterator[str]:
    started = str(record.get("started", "?")).replace("T", " ")[:16]
    took = record.get("seconds")
    flow = f", flow run {record['flow_run']}" if record.get("flow_run") else ""
    spent = f" in {readable_seconds(took)}" if isinstance(took, int | float) else ""
    yield f"made by {record.get('stage', '?')}, {started} UTC{spent}{flow}"
    changed = record.get("changed") or []
    but = f" with changes to {', '.join(changed[:4])}" if changed else ""
    commit, params = (str(record.get(key, "?"))[:12] for key in ("commit", "params_sha256"))
    yield f"at commit {commit}{but}, params.yaml {params}"
    versions = (f"{name} {record[name.lower()]}" for name in ("Python", "torch", "CUDA") if record.get(name.lower()))
    yield f"on {record.get('host', '?')}: {', '.join([str(record.get('device', '?')), *versions])}"
