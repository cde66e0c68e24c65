"""Communication between the ranks of a stage. With a single process, inputs are returned unchanged."""

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
    """Wrap a net to average its gradients over the ranks in the backward pass; one without gradients is not wrapped."""
    if world() == 1 or not any(weight.requires_grad for weight in net.parameters()):
        return net
    shared = DistributedDataParallel(net, gradient_as_bucket_view=True)
    shared.broadcast_buffers = False  # buffers are constants, and rank 0 makes some passes alone
    return shared


def gradients_kept(nets: Iterable[nn.Module], keep: bool) -> ExitStack:
    """Context in which `parallel` nets do not average gradients over the ranks, if `keep`; otherwise without effect."""
    stack = ExitStack()
    for net in nets if keep and world() > 1 else ():
        stack.enter_context(net.no_sync())  # type: ignore[operator]  # of DistributedDataParallel, compiled or not
    return stack


def averaged(scalars: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Average device scalars over the ranks, without synchronising with the device."""
    if world() == 1:
        return scalars
    means = torch.stack([value.detach() for value in scalars.values()])
    dist.all_reduce(means)
    return dict(zip(scalars, means / world(), strict=True))


def all_agree(mine: bool) -> bool:
    """Whether `mine` is true in every rank; waits for the ranks, not for their devices."""
    if world() == 1:
        return mine
    others = torch.tensor(int(mine))
    dist.all_reduce(others, dist.ReduceOp.MIN)
    return bool(others)


def wait_for_all() -> None:
    """Wait until every rank has called this function."""
    all_agree(True)


def together(asked: Callable[[], bool]) -> Callable[[], bool]:
    """Wrap `asked` to give the same answer in all ranks: whether it was true in any rank at the previous call.

    Answering one call late keeps the wait for the other ranks short.
    """
    if world() == 1:
        return asked
    flag = torch.zeros(())
    before = dist.all_reduce(flag, async_op=True)

    def ask() -> bool:
        """Whether `asked` was true in any rank at the previous call."""
        nonlocal flag, before
        before.wait()
        answer, flag = bool(flag), torch.tensor(float(asked()))
        before = dist.all_reduce(flag, async_op=True)
        return answer

    return ask


def gathered(rows: Tensor, owners: Tensor) -> Tensor:
    """Gather the rows of all ranks in rank 0, in the order of `owners` (N,), the rank that each row is from.

    Other ranks get their own rows back. Tensors are on the CPU.
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
    """Broadcast rank 0's tree of lists, dicts, numbers and tensors to all ranks, with the tensors on `device`."""
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
