"""What ranks tell each other. Without others each function returns what it was given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves, tree_map_only

from cspipe.runtime.ranks import rank, world


def parallel(net: nn.Module) -> nn.Module:
    """The net with gradients that are averaged over the ranks during the backward pass; a net with none as it is."""
    if world() == 1 or not any(weight.requires_grad for weight in net.parameters()):
        return net
    shared = DistributedDataParallel(net, gradient_as_bucket_view=True)
    shared.broadcast_buffers = False  # they are constants, and rank 0 makes passes without the others
    return shared


def gradients_kept(nets: Iterable[nn.Module], keep: bool) -> ExitStack:
    """Context in which the gradients of `parallel` nets stay each rank's own, if `keep`."""
    stack = ExitStack()
    for net in nets if keep and world() > 1 else ():
        stack.enter_context(net.no_sync())  # type: ignore[operator]  # of DistributedDataParallel, compiled or not
    return stack


def averaged(scalars: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Means over the ranks of scalars on the device; nothing waits for it."""
    if world() == 1:
        return scalars
    means = torch.stack([value.detach() for value in scalars.values()])
    dist.all_reduce(means)
    return dict(zip(scalars, means / world(), strict=True))


def all_agree(mine: bool) -> bool:
    """Whether it is true in every rank; waits for them, not for their devices."""
    if world() == 1:
        return mine
    others = torch.tensor(int(mine))
    dist.all_reduce(others, dist.ReduceOp.MIN)
    return bool(others)


def wait_for_all() -> None:
    """Wait until every rank is here."""
    all_agree(True)


def together(asked: Callable[[], bool]) -> Callable[[], bool]:
    """`asked` of any rank, the same answer in all: that of the call before, so that a call waits little."""
    if world() == 1:
        return asked
    flag = torch.zeros(())
    before = dist.all_reduce(flag, async_op=True)

    def ask() -> bool:
        """Whether any rank was asked at the last call."""
        nonlocal flag, before
        before.wait()
        answer, flag = bool(flag), torch.tensor(float(asked()))
        before = dist.all_reduce(flag, async_op=True)
        return answer

    return ask


def gathered(rows: Tensor, owners: Tensor) -> Tensor:
    """In rank 0 the rows of all, in order, where owners (N,) has the rank of each; the other ranks keep their own.

    Tensors on the CPU.
    """
    if world() == 1:
        return rows
    if rank():
        dist.send(rows, 0)
        return rows
    whole = rows.new_empty(len(owners), *rows.shape[1:])
    for owner in owners.unique().tolist():
        theirs = owners == owner
        part = rows if owner == 0 else whole[theirs]
        if owner:
            dist.recv(part, owner)
        whole[theirs] = part
    return whole


def from_first(tree: Any, device: torch.device) -> Any:
    """Lists, dicts, numbers and tensors of rank 0, in all; tensors on the device."""
    if world() == 1:
        return tree
    shapes = [tree_map_only(Tensor, lambda tensor: tensor.to("meta"), tree)]
    dist.broadcast_object_list(shapes, device=torch.device("cpu"))
    if rank():
        tree = tree_map_only(Tensor, lambda tensor: torch.empty_like(tensor, device=device), shapes[0])
    for tensor in tree_leaves(tree):
        if isinstance(tensor, Tensor):
            dist.broadcast(tensor, 0)
    return tree
