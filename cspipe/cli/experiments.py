"""A table of DVC's experiments as narrow as a terminal: changed parameters, and the scores of each variant.

`dvc exp show` instead has a column for each of 50 parameters and for each number of each metrics file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cspipe.cli.dvc_output import dvc_output
from cspipe.cli.explain import explain
from cspipe.report.numbers import kid, significant
from cspipe.runtime.differences import MISSING, differences
from cspipe.runtime.errors import UserError
from cspipe.runtime.wording import printable

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Experiment:
    """Parameters and scores of a commit, of one of its experiments, or of the workspace."""

    name: str
    state: str
    """queued, running or failed, as DVC says; "out of date" for a workspace whose scores are of other parameters or
    files than it has now; empty for a finished one."""
    params: Tree
    scores: dict[str, Tree]
    """Scores by variant, for the evaluated variants: kid, kid_std, frechet and others."""


def read_experiments(root: Path, commits: int) -> list[list[Experiment]]:
    """Read the last commits of a clone, each followed by its experiments.

    The workspace follows the first commit if it differs from it. Raises UserError with the message of DVC if DVC fails.
    """
    workspace, *rows = json.loads(dvc_output(root, "exp", "show", "--json", "--num", str(commits)))
    groups = [[_experiment(row), *_derived(row)] for row in rows]
    if groups:
        here, head = replace(_experiment(workspace), name="workspace"), groups[0][0]
        if (here.params, here.scores) != (head.params, head.scores):
            groups[0][1:1] = [replace(here, state="out of date") if _is_stale(root) else here]
    return groups


def _is_stale(root: Path) -> bool:
    """Whether parameters, code or data of the scores have changed since; False while the pipeline runs."""
    with suppress(UserError):
        return any(each.changed for each in explain(root) if each.stage != "report")
    return False


def _derived(row: Tree) -> Iterator[Experiment]:
    for found in row["experiments"] or []:
        state = (found["executor"] or {}).get("state")
        yield _experiment(found["revs"][0], "" if state in (None, "success") else state)


def _experiment(row: Tree, state: str = "") -> Experiment:
    data = row["data"] or {"params": {}, "metrics": {}}
    params = {key: value for file in data["params"].values() for key, value in file.get("data", {}).items()}
    files = {PurePosixPath(path): file.get("data", {}) for path, file in data["metrics"].items()}
    scores = {path.stem: scores_in(tree) for path, tree in files.items() if path.parent.name == "metrics"}
    return Experiment(row["name"] or row["rev"][:7], "failed" if row["error"] else state, params, scores)


def scores_in(metrics: Tree) -> Tree:
    """Return the scores in a metrics file, which stand below the name of their extractor; empty if there are none."""
    return next((part for part in metrics.values() if isinstance(part, dict) and "kid" in part), {})


def change(key: str, old: Any, new: Any) -> str:
    """Describe a changed parameter, a new value as `dvc exp run -S` takes it: "train.images=96000"."""
    return f"{key} left out" if new is MISSING else f"{key} added" if old is MISSING else f"{key}={json.dumps(new)}"


def table(groups: Sequence[Sequence[Experiment]]) -> Table:
    """Return a table with a row per experiment: what differs from the commit above, and a line of scores per variant.

    Code in cspipe.lock that only one of the two uses is left out: it belongs to a choice in params.yaml.
    """
    shown = Table(box=SIMPLE_HEAD, show_edge=False)
    shown.add_column("experiment", no_wrap=True)
    shown.add_column("what differs", overflow="fold")  # the value is at the end of a line
    shown.add_column("variant", no_wrap=True)
    for score in ("KID x1000", "Frechet"):
        shown.add_column(score, justify="right", no_wrap=True)
    for commit, *others in groups:
        for each in (commit, *others):
            found = differences(commit.params, each.params)
            changes = [printable(change(*one)) for one in found if not (one[0][:7] == "cspipe." and MISSING in one)]
            name = each.name if each is commit else f"  {each.name}"
            shown.add_row(
                f"{name} ({each.state})" if each.state else name,
                "\n".join(changes),
                "\n".join(each.scores),
                "\n".join(kid(scores.get("kid"), scores.get("kid_std")) for scores in each.scores.values()),
                "\n".join(significant(scores.get("frechet")) for scores in each.scores.values()),
            )
    return shown
