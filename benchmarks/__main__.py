"""Compare speeds with other libraries, on two CPU cores in under 15 minutes: `python -m benchmarks --out DIR`.

Each row is measured by a function in ROWS of a module `benchmarks.rows_*`. DIR/table.json has all numbers, DIR/table.md
the table, DIR/table.png a chart; each is rewritten after every row. `--smallest` tries the command: numbers of no use.
"""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import platform
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import benchmarks
from cspipe.runtime.runlog import processor

SECONDS = 45.0
"""Time budget of each row, in seconds."""


def rows() -> list[Callable[[float], dict[str, Any]]]:
    """Return the row functions of all modules, in the order of the names of modules."""
    names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name[:5] == "rows_")
    return [row for name in names for row in import_module(f"benchmarks.{name}").ROWS]


def markdown(found: dict[str, Any]) -> str:
    """Return the table as Markdown, under a line on the machine."""
    facts = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    lines = [f"Made by `python -m benchmarks` on: {facts}.\n", "| work | ours | peer | ratio | goal |"]
    lines.append("|---|---|---|---|---|")
    for row in found["rows"]:
        if "failed" in row:
            lines.append(f"| {row['work']} | failed: {row['failed']} | | | |")
            continue
        ours, peer = f"{row['ours']:.4g} {row['unit']}", f"{row['peer']:.4g} ({row['peer_name']})"
        lines.append(f"| {row['work']} | {ours} | {peer} | {row['ratio']:.2f} | {row['goal']} |")
    return "\n".join(lines) + "\n"


def picture(found: dict[str, Any], path: Path) -> None:
    """Draw a bar for the ratio of each row, with a mark at its goal, to a file."""
    from matplotlib.figure import Figure

    shown = [row for row in found["rows"] if "failed" not in row]
    figure = Figure(figsize=(8, 1 + 0.5 * len(shown)), layout="constrained")
    axes = figure.subplots()
    axes.barh([row["work"] for row in shown], [row["ratio"] for row in shown])
    goals = [float(str(row["goal"]).split()[-1]) for row in shown]  # 5.0, ">= 1.2"
    axes.plot(goals, range(len(shown)), "k|", markersize=16, label="goal")
    axes.set(xlabel="ratio to the peer")
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path)


def main() -> None:
    """Measure row by row, and write the results after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("table"), help="folder of the results")
    parser.add_argument("--smallest", action="store_true", help="a try")
    chosen = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    chosen.out.mkdir(parents=True, exist_ok=True)
    machine: dict[str, Any] = {"processor": processor(), "instructions": torch.backends.cpu.get_cpu_capability()}
    machine |= {"cores": os.cpu_count(), "torch": torch.__version__, "python": platform.python_version()}
    found: dict[str, Any] = {"machine": machine, "rows": []}
    for row in rows():
        start = time.monotonic()
        try:
            found["rows"].append(row(0.1 if chosen.smallest else SECONDS))
        except Exception as error:  # one row that fails loses no other
            found["rows"].append({"work": row.__name__, "failed": f"{type(error).__name__}: {error}"})
        print(f"{json.dumps(found['rows'][-1])} ({time.monotonic() - start:.0f} s)", flush=True)
        (chosen.out / "table.json").write_text(json.dumps(found, indent=1) + "\n")
        (chosen.out / "table.md").write_text(markdown(found))
        picture(found, chosen.out / "table.png")
    if failed := [row["work"] for row in found["rows"] if "failed" in row]:
        sys.exit(f"failed: {', '.join(failed)}; the lines above have the errors")


if __name__ == "__main__":
    main()
