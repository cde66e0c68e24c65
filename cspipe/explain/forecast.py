"""What `dvc repro` would do with each stage, worked out in DVC's order without running or writing anything.

DVC itself asks stage by stage, after those before it have run; here a stage that would be restored stands for the
outputs that it would restore, and one that would run leaves those after it open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import networkx as nx
from dvc.dependency import ParamsDependency
from dvc.dependency.param import MissingParamsError
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.stage.serialize import to_single_stage_lockfile
from dvc.utils import dict_sha256
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.tree import Tree

from cspipe.explain.changes import content, dependency_change, parameter_changes
from cspipe.explain.stores import Stores


class Verdict(StrEnum):
    """What becomes of a stage."""

    SKIP = "skip"
    """Up to date, in the workspace."""
    RESTORE = "restore"
    """DVC's cache holds its result: restored, not run."""
    PULL = "pull"
    """The remote holds its result: a pull brings it, without one it runs."""
    RUN = "run"


@dataclass(frozen=True)
class Forecast:
    """What becomes of one stage, and why."""

    stage: str
    verdict: Verdict
    reasons: tuple[str, ...]
    """What changed or is missing, a line each."""
    upstream: tuple[str, ...]
    """Stages it reads from that run first."""
    pull_bytes: int
    """Bytes to pull: its own result, or the inputs of a stage that runs."""
    entry: Mapping[str, Any] | None
    """The stage's entry of dvc.lock once its known result is taken; None if it runs."""


def forecast(repo: Repo, stage: PipelineStage | None = None) -> Iterator[Forecast]:
    """Forecasts of `stage` and all it depends on, or of every stage, each after those that it reads from."""
    graph = repo.index.graph  # DVC's edges point upstream
    forecaster = _Forecaster(repo, graph)
    for each in nx.dfs_postorder_nodes(graph, stage):
        if each.cmd:
            yield forecaster.forecast(each)
        else:
            forecaster.tracked(each)


@dataclass(frozen=True)
class _Found:
    """Outputs, by path, that need no run, and the bytes to pull for them."""

    verdict: Verdict
    outputs: dict[str, HashInfo]
    entry: Mapping[str, Any]
    pull: int = 0


class _Forecaster:
    def __init__(self, repo: Repo, graph: nx.DiGraph[Any]) -> None:
        self.repo, self.graph, self.stores = repo, graph, Stores(repo)
        self.running: set[str] = set()
        self.expected: dict[str, HashInfo] = {}
        """Content that an output (by path) has once its stage is done, where no run is needed to know it."""
        self.pulled: dict[str, int] = {}
        """Bytes to pull before an output (by path) is there."""

    def tracked(self, stage: PipelineStage) -> None:
        """Take note of data that a .dvc file tracks; where it lies in the workspace, that counts."""
        for out in stage.outs:
            self.expected[out.fs_path] = out.get_hash() if out.exists else out.hash_info
            if not out.exists and not self.stores.here([out.hash_info]):
                self.pulled[out.fs_path] = self.stores.bytes_to_pull([out.hash_info]) or 0

    def forecast(self, stage: PipelineStage) -> Forecast:
        """What becomes of the stage; those that it reads from have been forecast before."""
        locked = self._lock(stage)
        reasons = self._stage_changes(stage, locked)
        upstream = tuple(sorted(up.name for up in self.graph.successors(stage) if up.cmd and up.name in self.running))
        if locked is not None or not upstream:
            reasons += [] if stage.frozen else self._dependency_changes(stage)
        found = self._from_lock(stage, locked, reasons) if locked is not None and not reasons else None
        if found is None and not upstream:
            found = self._from_run_cache(stage, reasons)
        if found is None or upstream:
            self.running.add(stage.name)
            pull = sum(self.pulled.get(out.fs_path, 0) for dep in stage.deps for out in self._makers(stage, dep))
            trouble = [self.stores.trouble] if self.stores.trouble else []
            lines = (*(reasons if found is None else ()), *trouble)
            return Forecast(stage.name, Verdict.RUN, lines, upstream, pull, None)
        for out in stage.outs:
            self.expected[out.fs_path] = found.outputs[out.def_path]
            self.pulled[out.fs_path] = 0
        self.pulled[stage.outs[0].fs_path] = found.pull
        return Forecast(stage.name, found.verdict, tuple(reasons), (), found.pull, found.entry)

    def _lock(self, stage: PipelineStage) -> Mapping[str, Any] | None:
        """The stage's entry of dvc.lock."""
        lock: Mapping[str, Any] = stage.dvcfile._lockfile.load()
        entry: Mapping[str, Any] | None = lock.get("stages", {}).get(stage.name)
        return entry

    def _stage_changes(self, stage: PipelineStage, locked: Mapping[str, Any] | None) -> list[str]:
        if locked is None:
            return ["dvc.lock has no entry: it has not run yet"]
        changes = []
        if stage.cmd_changed:
            changes.append(f"command: {locked['cmd']} -> {stage.cmd}")
        if stage.always_changed:
            changes.append("always_changed is set in dvc.yaml")
        changes += [f"{out.def_path}: new output of the stage" for out in stage.outs if not out.hash_info]
        return changes

    def _dependency_changes(self, stage: PipelineStage) -> list[str]:
        """Lines about what differs; the dependencies then hold the content they will have when the stage begins."""
        changes = []
        in_lock = any(dep.hash_info for dep in stage.deps)
        for dep in stage.deps:
            if isinstance(dep, ParamsDependency):
                lines = parameter_changes(dep) if in_lock else []
                try:
                    dep.hash_info = dep.get_hash()
                except MissingParamsError as error:
                    lines = [str(error)]
            else:
                lines = self._content_changes(stage, dep, in_lock)
            changes += lines
        return changes

    def _content_changes(self, stage: PipelineStage, dep: Output, in_lock: bool) -> list[str]:
        makers = self._makers(stage, dep)
        if any(maker.stage.cmd and maker.stage.name in self.running for maker in makers):
            return []
        now = self._content(dep, makers) if makers else dep.get_hash() if dep.exists else None
        if now is None:
            return [] if makers else [f"{dep.def_path}: missing, and no stage makes it"]
        changed = now != dep.hash_info
        lines = [dependency_change(self.repo, dep)] if changed and in_lock else []
        dep.hash_info, dep.meta = now, Meta() if makers else dep.get_meta()
        return lines

    def _makers(self, stage: PipelineStage, dep: Output) -> list[Output]:
        """Outputs of other stages that make up a dependency."""
        isin = dep.fs.isin_or_eq
        outs = (out for other in self.graph.successors(stage) for out in other.outs)
        return [out for out in outs if isin(out.fs_path, dep.fs_path) or isin(dep.fs_path, out.fs_path)]

    def _content(self, dep: Output, makers: list[Output]) -> HashInfo | None:
        """Content of a dependency once the stages that make it are done; None if that cannot be known here."""
        if len(makers) == 1 and makers[0].fs_path == dep.fs_path:
            return self.expected[dep.fs_path]
        tree = content(dep) or _empty()
        for out in makers:
            key = dep.fs.relparts(out.fs_path, dep.fs_path)
            expected = self.expected[out.fs_path]
            if not dep.fs.isin(out.fs_path, dep.fs_path):
                return dep.get_hash() if dep.exists and not out.workspace_status() else None
            if out.exists and out.get_hash() == expected:
                continue
            tree = _without(tree, key)
            files = self.stores.tree(expected) if expected.isdir else _empty()
            if files is None:
                return None
            for name, meta, value in files if expected.isdir else [((), None, expected)]:
                tree.add((*key, *name), meta, value)
        tree.digest()
        return tree.hash_info

    def _from_lock(self, stage: PipelineStage, locked: Mapping[str, Any], reasons: list[str]) -> _Found | None:
        """The outputs of dvc.lock, where nothing that they depend on changed; adds what is wrong with them."""
        states = {out.def_path: next(iter(out.status().values()), "") for out in stage.outs}
        outputs = _outputs(locked)
        if not any(states.values()):
            return _Found(Verdict.SKIP, outputs, locked)
        for out in stage.outs:
            state = "lost" if states[out.def_path] == "not in cache" and not out.exists else states[out.def_path]
            reasons += [f"{out.def_path}: {_STATES.get(state, state)}"] if state else []
        # Outputs that git keeps are objects of the local run cache only: DVC neither pushes nor pulls them.
        in_git = all(not states[out.def_path] for out in stage.outs if not out.use_cache)
        wanted = [out.hash_info for out in stage.outs if out.use_cache] if in_git else list(outputs.values())
        found = self._stored(locked, outputs, wanted)
        if found is not None and found.verdict is Verdict.PULL:
            reasons.append(f"`dvc {'pull' if in_git else 'repro --pull'} {stage.name}` brings it")
        return found

    def _from_run_cache(self, stage: PipelineStage, reasons: list[str]) -> _Found | None:
        """What the stage made from the same inputs before, as the run cache remembers."""
        entry = self._run_cache_entry(stage)
        outputs = _outputs(entry) if entry else {}
        found = self._stored(entry, outputs, outputs.values()) if entry else None
        if found is not None:
            reasons.append("the run cache holds what it made from the same inputs before")
            if found.verdict is Verdict.PULL:
                reasons.append(f"`dvc repro --pull {stage.name}` brings it")
        return found

    def _stored(
        self, entry: Mapping[str, Any], outputs: dict[str, HashInfo], wanted: Iterable[HashInfo]
    ) -> _Found | None:
        """The outputs if the cache has all of them, or the remote those that are wanted of it."""
        if self.stores.here(outputs.values()):
            return _Found(Verdict.RESTORE, outputs, entry)
        pull = self.stores.bytes_to_pull(wanted)
        return None if pull is None else _Found(Verdict.PULL, outputs, entry, pull)

    def _run_cache_entry(self, stage: PipelineStage) -> Mapping[str, Any] | None:
        """What DVC's run cache holds for the stage's command, parameters and the content of its dependencies."""
        if stage.frozen or stage.always_changed or not all(dep.hash_info for dep in stage.deps):
            return None
        entry = dict(to_single_stage_lockfile(stage))
        entry["outs"] = [out["path"] for out in entry.get("outs", [])]
        return self.stores.run(dict_sha256(entry, exclude=["size", "nfiles"]))


_STATES = {
    "deleted": "not in the workspace",
    "not in cache": "not in the cache",
    "lost": "neither in the workspace nor in the cache",
    "modified": "changed by hand since the stage wrote it",
}


def _outputs(entry: Mapping[str, Any]) -> dict[str, HashInfo]:
    """Outputs of an entry of dvc.lock or of the run cache, by path."""
    return {out["path"]: HashInfo("md5", out["md5"]) for out in entry.get("outs", [])}


def _without(tree: Tree, key: tuple[str, ...]) -> Tree:
    """The tree's files but those at or below `key`."""
    rest = _empty()
    for name, meta, value in tree:
        if name[: len(key)] != key:
            rest.add(name, meta, value)
    return rest


def _empty() -> Tree:
    return Tree()  # type: ignore[no-untyped-call]
