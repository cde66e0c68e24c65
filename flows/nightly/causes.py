"""Why a model may behave otherwise than it did: which recorded facts differ between then and now."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from flows.pins import read_pins

MOST = 3
"""Packages that a line names, besides those of VERSIONS."""
VERSIONS = ("torch", "torchvision", "torch_fidelity")
"""Packages whose version stands in a metrics file, the likeliest first."""
CONTENT = {
    "model_sha256": "models/main is not what the recorded samples were drawn from",
    "module_sha256": "models/compensation is not what the recorded samples were drawn from",
    "samples_sha256": "the samples are not those of the recorded scores",
    "reference_sha256": "data/prepared is not what the recorded scores compare with",
    "extractor_weights_sha256": "the extractor has other weights",
}
UNKNOWN = "no recorded version, code or data differs, so a package changed in place, a driver, or the machine"


def changed_versions(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Packages of another version than in the recorded provenance. Builds (+cu130) count on the same device alone."""
    same_device = then.get("device") == now.get("device")

    def shown(facts: Mapping[str, Any], name: str) -> str:
        """A version as far as it counts."""
        return str(facts.get(name, "unknown")) if same_device else str(facts.get(name, "unknown")).partition("+")[0]

    return [
        f"{name.replace('_', '-')} {shown(then, name)} then, {shown(now, name)} now"
        for name in VERSIONS
        if shown(then, name) != shown(now, name)
    ]


def changed_pins(root: Path) -> list[str]:
    """Installed packages of another version than the revision pins, without those of VERSIONS."""
    changed = []
    for pin in read_pins((root / "pyproject.toml").read_text()):
        try:
            wanted = Requirement(pin)
            here = version(wanted.name)
        except (InvalidRequirement, PackageNotFoundError):
            continue
        if wanted.name.replace("-", "_") in VERSIONS:
            continue
        if (wanted.marker is None or wanted.marker.evaluate()) and not wanted.specifier.contains(here, True):
            changed.append(f"{wanted.name} {str(wanted.specifier).removeprefix('==')} then, {here} now")
    return changed


def changed_content(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Files whose content is not that of the recorded provenance."""
    return [
        f"{key} {str(then.get(key))[:12]} then, {str(now.get(key))[:12]} now"
        for key in CONTENT
        if then.get(key) != now.get(key)
    ]


def likely_causes(then: Mapping[str, Any], now: Mapping[str, Any], root: Path) -> str:
    """One line: what differs between two provenances (`now` with the facts of samples drawn now).

    The environment is named only if content and code are the recorded ones: else they explain enough.
    """
    found = [text for key, text in CONTENT.items() if then.get(key) != now.get(key)]
    if then.get("code") != now.get("code"):
        found.append("the revision's code is not what made the recorded files")
    return "; ".join(found or _environment(then, now, root)) or UNKNOWN


def _environment(then: Mapping[str, Any], now: Mapping[str, Any], root: Path) -> list[str]:
    """What differs in packages and device, the likeliest first."""
    found = changed_versions(then, now)
    if then.get("device") != now.get("device"):
        found.append(f"device {then.get('device')} then, {now.get('device')} now")
    others = changed_pins(root)
    more = [f"and {len(others) - MOST} other packages"] if len(others) > MOST else []
    return found + others[:MOST] + more
