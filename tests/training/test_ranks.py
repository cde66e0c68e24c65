"""Training in several processes (gloo, on the CPU) against one: the same numbers up to the order of sums."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cspipe.config.params import Params
from cspipe.config.params_file import parse_params
from cspipe.data.conditions import open_conditions
from cspipe.runtime.checkpoint import Checkpoints
from cspipe.runtime.device import open_device
from cspipe.runtime.launch import start_ranks
from cspipe.runtime.preemption import Preempted
from cspipe.runtime.ranks import LAUNCHER, rank, world
from cspipe.runtime.stage import PREPARED
from cspipe.stages.train import new_trainer
from cspipe.training.compensator_trainer import CompensatorTrainer
from cspipe.training.diffusion_trainer import DiffusionTrainer
from cspipe.training.loop import Plan, run
from cspipe.training.stream import TrainingSet, batches
from tests.conftest import Images, Tree, change
from tests.training.test_training import new_fit

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["tests.training.test_ranks"])
PATIENCE = 300
BASE: Tree = {
    "train.batch": 12,
    "train.micro_batch": 3,
    "train.images": 48,
    "train.log_every": 24,
    "train.checkpoint_every": 24,
    "train.grid_every": 24,
    "train.compensation.share": 0.7,
    "train.compensation.fade": 0.8,
    "compensation.batch": 12,
}
CHANGES: dict[str, Tree] = {
    "compensated": {},
    "rivals": {"diffusion.self_condition": True, "train.perturbation": 0.1, "train.method": "noise_control"},
    "reverse states": {"compensation.states": "reverse", "train.compensation.start": 12},
    "occluders": {"task": "deocclude", "condition.occluders": ["scarf"]},
}
Result = dict[str, Any]


def new_training(params: Params, data: TrainingSet) -> DiffusionTrainer:
    return new_trainer(params.model_copy(update={"variants": {}}), data, open_device(params.compute))


def limit(net: torch.nn.Module, most: int) -> None:
    """Let a net have memory for so many images."""
    whole = net.forward

    def forward(x: Tensor, t: Tensor) -> Tensor:
        if len(x) > most:
            raise torch.OutOfMemoryError(f"{len(x)} images")
        out: Tensor = whole(x, t)
        return out

    net.forward = forward  # type: ignore[method-assign]


def train(tree: Tree, images: Images, folder: Path, new: Callable[..., Any], stop_at: int = 0, most: int = 99) -> None:
    """Train, and leave what came of it in `folder`/<rank>.pt.

    Rank 0 is asked to stop after `stop_at` images; the memory of the last has room for `most`.
    """
    torch.set_num_threads(1)
    params, points, seen = parse_params(tree, "test"), dict[int, Any](), [0]
    data = TrainingSet(images, open_conditions(params.task, params.condition, images, PREPARED), params.seed)  # type: ignore[arg-type]
    trainer, settings = new(params, data), params.train
    if rank() == world() - 1:
        limit(trainer.denoise.net.net, most)
    step = trainer.step

    def counted(batch: Any, at: int) -> Any:
        seen[0] = at + settings.batch
        return step(batch, at)

    trainer.step = counted
    plan = Plan(settings.images, settings.batch, settings.log_every, settings.checkpoint_every, params.seed)
    states, device = Checkpoints(folder / "states", "key"), open_device(params.compute)

    def stopping() -> bool:
        return rank() == 0 and 0 < stop_at <= seen[0]

    with suppress(Preempted):
        run(trainer, data, plan, device, states, "test", points.__setitem__, stopping)
    fit = isinstance(trainer, CompensatorTrainer)
    nets = [trainer.fit.net] if fit else [trainer.net, trainer.ema.net]
    result = {
        "weights": [tensor for net in nets for tensor in net.state_dict().values()],
        "points": points,
        "seen": seen[0],
        "rows": [] if fit else trainer.rows,
        "micro_batch": trainer.accumulate.micro_batch,
    }
    torch.save(result, folder / f"{rank()}.pt")


def _in_rank(number: int, count: int, port: int, double: bool, *arguments: Any) -> None:
    """The process of a rank, started without torch's launcher, which takes longer."""
    if double:
        torch.set_default_dtype(torch.float64)
        Tensor.float = Tensor.double  # type: ignore[method-assign]
    if count > 1:
        places = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in places.items()})
        os.environ.update({"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", LAUNCHER: str(os.getppid())})
        start_ranks("train", parse_params(arguments[0], "test").compute)
    train(*arguments)
    os._exit(0)


def on(count: int, *arguments: Any, double: bool = False) -> list[Result]:
    folder: Path = arguments[2]
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [FORK.Process(target=_in_rank, args=(n, count, port, double, *arguments)) for n in range(count)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(PATIENCE)
        if process.exitcode is None:
            process.kill()
    assert [process.exitcode for process in ranks] == [0] * count
    return [torch.load(folder / f"{n}.pt") for n in range(count)]


def apart(ours: Result, theirs: Result) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(ours["weights"], theirs["weights"], strict=True))


def assert_near(ours: Result, theirs: Result, tolerance: float) -> None:
    assert apart(ours, theirs) < tolerance
    assert ours["points"].keys() == theirs["points"].keys()
    for at, point in ours["points"].items():
        assert point == pytest.approx(theirs["points"][at], rel=10 * tolerance)


@pytest.fixture
def tree(small: Tree) -> Callable[..., Tree]:
    return lambda changes=None: change(small, {**BASE, **(changes or {})})


def test_two_ranks_train_as_one(tree: Callable[..., Tree], images: Images, tmp_path: Path) -> None:
    (one,) = on(1, tree(), images, tmp_path / "1", new_training)
    two = on(2, tree(), images, tmp_path / "2", new_training)
    assert_near(two[0], one, 1e-5)
    assert apart(*two) == 0
    assert [len(ranked["rows"]) for ranked in (one, *two)] == [2, 2, 0]


@pytest.mark.slow
@pytest.mark.parametrize("new", [new_training, new_fit])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_what_differs_is_the_order_of_sums(
    changes: Tree, count: int, new: Callable[..., Any], tree: Callable[..., Tree], images: Images, tmp_path: Path
) -> None:
    """In float64 a billion times less than in float32."""
    for double, tolerance in ((False, 1e-4), (True, 1e-12)):
        folder = tmp_path / str(double)
        (one,) = on(1, tree(changes), images, folder / "one", new, double=double)
        some = on(count, tree(changes), images, folder / "some", new, double=double)
        assert_near(some[0], one, tolerance)
        assert {apart(some[0], other) for other in some} == {0}


@pytest.mark.slow
def test_a_run_goes_on_with_as_many_ranks_bit_for_bit_and_with_others_nearly(
    tree: Callable[..., Tree], images: Images, tmp_path: Path
) -> None:
    (one,), two = (on(n, tree(), images, tmp_path / f"{n}", new_training) for n in (1, 2))
    whole = {3: on(3, tree(), images, tmp_path / "3", new_training)[0], 2: two[0]}
    for counts, tolerance in (((2, 2), 0.0), ((3, 3), 0.0), ((3, 2), 1e-4), ((2, 1), 1e-4)):
        parts = tmp_path / f"{counts}"
        stopped = on(counts[0], tree(), images, parts, new_training, 12)
        assert {part["seen"] for part in stopped} <= {24}, "a step after the one at which it was asked"
        ended = on(counts[1], tree(), images, parts, new_training)[0]
        if tolerance:
            assert_near(ended, one, tolerance)
        else:
            assert apart(ended, whole[counts[1]]) == 0
            assert ended["points"] == whole[counts[1]]["points"]
        assert len(ended["rows"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_what_is_out_of_memory_is_halved_by_all(
    count: int, tree: Callable[..., Tree], images: Images, tmp_path: Path
) -> None:
    whole = tree({"train.micro_batch": 12})
    (one,) = on(1, whole, images, tmp_path / "1", new_training)
    some = on(count, whole, images, tmp_path / "some", new_training, 0, 2)
    assert {ranked["micro_batch"] for ranked in some} == {1}
    assert_near(some[0], one, 1e-4)


def test_memory_that_the_net_C_wants_later_is_looked_for_when_it_starts(
    tree: Callable[..., Tree], images: Images
) -> None:
    params = parse_params(tree({"train.compensation.start": 36}), "test")
    data = TrainingSet(images)
    trainer = new_training(params, data)
    assert trainer.fit is not None
    limit(trainer.fit.net, 2)
    stream = batches(data, 12, 0, 0, open_device(params.compute))
    found = []
    for seen in range(0, 60, 12):
        trainer.step(next(stream), seen)
        found.append(trainer.accumulate.micro_batch)
    assert found == [3, 3, 3, 1, 1]
