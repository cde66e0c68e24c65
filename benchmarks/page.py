"""Write the page with the results of `python -m benchmarks.gpu`."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_page(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Write a heading with the machine, a table of speeds, the costs of a step, tests, and scores."""
    facts = ", ".join(f"{name} {value}" for name, value in found.get("machine", {}).get("facts", {}).items())
    lines = [f"# Performance on a GPU\n\nMade by `python -m benchmarks.gpu` on: {facts}.\n", "## Speed\n"]
    lines += ["| what | images/s | peak GB | share of matrix speed |", "|---|---|---|---|"]
    lines += [_row(name, value) for name, value in found.get("speed", {}).items()]
    for name, value in found.get("step", {}).items():
        lines += [f"\n## A step: {name}\n", *_costs(value)]
    for name, value in found.get("tests", {}).items():
        lines += [f"\n## {name.capitalize()}\n", "```", *value.get("last_lines", [str(value)]), "```"]
    lines += ["\n## Training\n", "| method | variant | images | Frechet | KID x1000 |", "|---|---|---|---|---|"]
    for method, value in found.get("training", {}).items():
        for variant, scores in value.get("scores", {}).items():
            distances = f"{scores['frechet']:.1f} | {1000 * scores['kid']:.2f}"
            lines.append(f"| {method} | {variant} | {value['images']:,} | {distances} |")
        if "failed" in value:
            lines.append(f"| {method} | failed: {value['failed']} | | | |")
    path.write_text("\n".join(lines) + "\n")


def _row(name: str, value: Any) -> str:
    if isinstance(value, float):
        return f"| {name} | {value / 1e12:.3g} TFLOP/s | | |"
    if "failed" in value:
        return f"| {name} | failed: {value['failed']} | | |"
    peak, share = value.get("peak_bytes"), value.get("share_of_matrix_speed")
    memory = "" if peak is None else f"{peak / 1e9:.1f}"
    return f"| {name} | {value['images_per_second']:,.0f} | {memory} | {'' if share is None else f'{share:.0%}'} |"


def _costs(value: dict[str, Any]) -> list[str]:
    if "failed" in value:
        return [f"failed: {value['failed']}"]
    return [f"- {name}: {share:.0%}" for name, share in value["largest"].items()]
