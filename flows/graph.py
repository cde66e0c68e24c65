"""The task graph, read from dvc.yaml: its stages, their edges and their pools. No stage is listed in Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspipe.runtime.errors import UserError

if TYPE_CHECKING:
    import networkx as nx

HOURS = 240.0
"""Time limit in hours of a stage without `meta.hours` in dvc.yaml: ten days."""


@dataclass(frozen=True)
class Node:
    """A stage, or one cell of a `foreach` stage, as DVC names it."""

    name: str
    pool: str
    hours: float
    """Time limit of the stage, in hours, transfers included."""
    upstream: tuple[str, ...]
    """Names of the stages whose outputs this stage reads."""
    data: tuple[str, ...]
    """Paths of the .dvc files of tracked data that this stage reads."""
    files: tuple[str, ...]
    """Paths of the stage's outputs that git keeps instead of DVC's cache: metrics and curves."""
    gpus: int = 1
    """GPUs of the stage's job on Kubernetes, from `meta.gpus`; 1, also for `all`, leaves the number to the pool."""


def read_graph(root: Path) -> list[Node]:
    """Return the stages of `root`/dvc.yaml with its params.yaml, each after its upstream stages.

    Raises UserError if dvc.yaml cannot be read, or a stage has no `meta.pool`.
    """
    import networkx as nx  # here, like DVC: both take a second to import, and importers of Node alone do not need them
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            graph = repo.index.graph
            stages = nx.dfs_postorder_nodes(graph)  # DVC's edges point upstream
            return [_node(stage, graph, root) for stage in stages if stage.cmd]
    except DvcException as error:
        raise UserError(f"{root / 'dvc.yaml'}: {error}") from None


def _node(stage: Any, graph: nx.DiGraph[Any], root: Path) -> Node:
    meta = stage.meta or {}
    if "pool" not in meta:
        raise UserError(f"dvc.yaml: stage {stage.name} has no meta.pool; give it cpu or gpu")
    uncached = (out for out in stage.outs if not out.use_cache)
    return Node(
        stage.name,
        meta["pool"],
        float(meta.get("hours", HOURS)),
        tuple(sorted(other.name for other in graph.successors(stage) if other.cmd)),
        tuple(sorted(other.path_in_repo for other in graph.successors(stage) if not other.cmd)),
        tuple(sorted(str(Path(out.fs_path).relative_to(root.resolve())) for out in uncached)),
        gpus if isinstance(gpus := meta.get("gpus"), int) else 1,
    )
