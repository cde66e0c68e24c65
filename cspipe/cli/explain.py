"""Which stages `dvc repro` would run and why, by `dvc status` and `dvc dag`, with the values and files that changed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import networkx as nx
from ruamel.yaml import YAML

from cspipe.cli.dvc_output import dvc_output
from cspipe.runtime.differences import MISSING, differences, value_at
from cspipe.runtime.errors import UserError
from cspipe.runtime.git import output_of

SHOWN = 3  # maximum number of reasons in the line of a stage
STATES = {"deleted": "is missing", "not in cache": "is missing, here and in the cache (`dvc pull` may bring it)"}
"""States of an output in DVC's words, and in those of a reason."""


@dataclass(frozen=True)
class Explanation:
    """What `dvc repro` would do with a stage: run it, restore its outputs from the cache, or nothing."""

    stage: str
    runs: bool
    changed: bool
    """Whether its command, parameters or files that no stage makes differ from those of its last run."""
    reasons: tuple[str, ...]
    """What the stage needs that changed or is missing."""
    upstream: tuple[str, ...]
    """Stages that would run and whose outputs this stage reads."""
    downstream: tuple[str, ...]

    def __str__(self) -> str:
        """Format the explanation as one line, with the first SHOWN reasons."""
        more = [f"and {len(self.reasons) - SHOWN} more"] if self.reasons[SHOWN:] else []
        reasons = ", ".join([*self.reasons[:SHOWN], *more])
        if not self.runs:
            return f"{self.stage}: {f'would be restored from the cache: {reasons}' if reasons else 'up to date'}"
        after = f"after {', '.join(self.upstream)}" if self.upstream else ""
        then = f"then {', '.join(self.downstream)}" if reasons and self.downstream else ""
        return f"{self.stage}: would run: {'; '.join(filter(None, [reasons, after, then]))}"


def explain(root: Path) -> list[Explanation]:
    """Explain what `dvc repro` would do with each stage of `root`; a stage comes after those that it reads from.

    Raises UserError if DVC cannot tell, for instance while it runs a stage, or if there are no stages.
    """
    status: dict[str, list[Any]] = json.loads(dvc_output(root, "status", "--json"))
    graph: nx.DiGraph[str] = nx.DiGraph()
    for stage, reader in re.findall(r'^"(.+?)"(?: -> "(.+)")?;', dvc_output(root, "dag", "--dot"), re.MULTILINE):
        graph.add_edges_from([(stage, reader)] if reader else [])
        graph.add_node(stage)
    graph.remove_nodes_from([stage for stage in graph if stage.endswith(".dvc")])  # tracked data
    if not graph:
        raise UserError(f"{root.resolve()}: no stages in dvc.yaml; run this in a clone of the project")
    locked = _read(root / "dvc.lock").get("stages", {})
    missing = {stage: dict(_entries(status.get(stage, []), "changed outs")) for stage in graph}
    made = [PurePosixPath(path) for paths in missing.values() for path in paths]
    found: dict[str, Explanation] = {}
    for stage in nx.topological_sort(graph):
        upstream = tuple(name for name in graph.predecessors(stage) if found[name].runs)
        reasons = list(_changes(root, status.get(stage, []), locked.get(stage), made))
        changed = bool(reasons)
        runs = bool(reasons or upstream or "not in cache" in missing[stage].values())
        if not reasons and not upstream:
            reasons = [f"{path} {STATES.get(state, f'{state} by hand')}" for path, state in missing[stage].items()]
        downstream = nx.topological_sort(graph.subgraph(nx.descendants(graph, stage)))
        found[stage] = Explanation(stage, runs, changed, tuple(reasons), upstream, tuple(downstream))
    return list(found.values())


def _read(path: Path) -> dict[str, Any]:
    """Read a YAML file as DVC does (1e-5 is a number); empty if there is no such file."""
    return dict(YAML(typ="safe").load(path) or {}) if path.exists() else {}


def _entries(entries: list[Any], kind: str) -> Iterator[tuple[str, Any]]:
    for entry in entries:
        yield from entry.get(kind, {}).items() if isinstance(entry, dict) else ()


def _changes(
    root: Path, entries: list[Any], locked: Mapping[str, Any] | None, made: list[PurePosixPath]
) -> Iterator[str]:
    """Yield changes of a stage's command, parameters and files; files in `made`, outputs of stages, are left out."""
    if locked is None and entries:
        yield "it has not run yet"
        return
    yield from (entry for entry in entries if isinstance(entry, str))  # such as "changed command"
    for name, state in _entries(entries, "changed deps"):
        path = PurePosixPath(name)
        if isinstance(state, dict):
            old, new = (locked or {}).get("params", {}).get(name, {}), _read(root / name)
            for key in state:
                for changed, *values in differences(old.get(key, MISSING), value_at(new, key), key):
                    yield f"{changed} {' -> '.join(str(one) if one is MISSING else json.dumps(one) for one in values)}"
        elif not any(path.is_relative_to(out) or out.is_relative_to(path) for out in made):
            read_before = any(each["path"] == name for each in (locked or {}).get("deps", []))
            changed = f"{state}{_files_changed(root, name)}"
            yield f"{name} {changed if read_before or state == 'deleted' else 'is read now'}"


def _files_changed(root: Path, folder: str) -> str:
    """Format the names of the files in a folder that changed since dvc.lock's last commit; "" if git cannot tell."""
    commit = output_of(root, "log", "-1", "--format=%H", "--", "dvc.lock").strip()
    if not commit or not (root / folder).is_dir() or output_of(root, "status", "--porcelain", "--", "dvc.lock"):
        return ""
    plain = ("-c", "core.quotePath=false")
    changed = output_of(root, *plain, "diff", "--relative", "--name-only", commit, "--", folder)
    changed += output_of(root, *plain, "ls-files", "--others", "--exclude-standard", "--", folder)
    names = changed.replace(f"{folder}/", "").splitlines()
    return f" ({', '.join(names[:6])}{', ...' if names[6:] else ''})" if names else ""
