"""Training: exact resume, accumulation, the compensated path, the step size, and an end when numbers go wrong."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cspipe.config.params import Params
from cspipe.data.conditions import open_conditions
from cspipe.data.shards import INDEX, sha256_of
from cspipe.diffusion.denoiser import TimestepScaledNet
from cspipe.runtime.checkpoint import Checkpoints
from cspipe.runtime.collectives import parallel
from cspipe.runtime.device import open_device
from cspipe.runtime.errors import UserError
from cspipe.runtime.preemption import Preempted
from cspipe.runtime.registry import names_in
from cspipe.runtime.stage import PREPARED
from cspipe.stages.nets import new_compensator, new_denoiser, new_main
from cspipe.stages.train import new_trainer
from cspipe.training.compensator_trainer import CompensatorFit, CompensatorTrainer, compensator_norms
from cspipe.training.diffusion_trainer import DiffusionTrainer
from cspipe.training.loop import Plan, run
from cspipe.training.optim import rate_factor
from cspipe.training.settings import METHODS
from cspipe.training.stream import Batch, TrainingSet
from tests.conftest import Images, Tree
from tests.data.test_shards import write

Make = Callable[..., Params]


class Killed(Exception):
    """The process dies here."""


def plan(params: Params) -> Plan:
    settings = params.train
    return Plan(settings.images, settings.batch, settings.log_every, settings.checkpoint_every, params.seed)


def weights(trainer: DiffusionTrainer | CompensatorTrainer) -> list[Tensor]:
    if isinstance(trainer, CompensatorTrainer):
        return list(trainer.fit.net.state_dict().values())
    return [*trainer.net.state_dict().values(), *trainer.ema.net.state_dict().values()]


def examples_of(params: Params, images: Images) -> TrainingSet:
    conditions = open_conditions(params.task, params.condition, images, PREPARED)  # type: ignore[arg-type]
    return TrainingSet(images, conditions, params.seed)


def new_main_net(params: Params, images: Images) -> DiffusionTrainer:
    return new_trainer(params, examples_of(params, images), open_device(params.compute))


def new_fit(params: Params, _images: object) -> CompensatorTrainer:
    device = open_device(params.compute)
    net, C = new_main(params, device), new_compensator(params, device)
    torch.nn.init.normal_(list(net.parameters())[-2], std=0.1)
    denoise = new_denoiser(net.eval().requires_grad_(False), params.diffusion, device)
    fit = CompensatorFit(C, TimestepScaledNet(parallel(C), params.diffusion.steps, device), params.compensation)
    return CompensatorTrainer(fit, denoise, params.seed, flip=True, micro_batch=params.train.micro_batch)


def train(
    trainer: DiffusionTrainer | CompensatorTrainer, params: Params, images: Images, folder: Path, kill_at: int = 0
) -> list:
    log = []

    def record(seen: int, values: dict[str, float]) -> None:
        log.append((seen, dict(values)))

    if kill_at:
        step = trainer.step

        def dying_step(batch: Batch, seen: int) -> dict[str, Tensor]:
            if seen == kill_at:
                raise Killed
            return step(batch, seen)

        trainer.step = dying_step  # type: ignore[method-assign]
    device = open_device(params.compute)
    run(trainer, examples_of(params, images), plan(params), device, Checkpoints(folder, "key"), "test", record)
    return log


@pytest.fixture
def _held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: Images) -> None:
    """A working folder with prepared test images: before a task is trained, their number is checked."""
    folder = tmp_path / "data/prepared"
    folder.mkdir(parents=True)
    shards = write(folder, "test", images.pixels)
    entry = {"images": len(images), "sha256": sha256_of(shards), "shards": shards}
    (folder / INDEX).write_text(json.dumps({"channels": 3, "size": 8, "splits": {"test": entry}}))
    monkeypatch.chdir(tmp_path)


CHANGES = {
    "masks, dropout, rivals": {
        "task": "inpaint",
        "model.dropout": 0.3,
        "diffusion.self_condition": True,
        "train.perturbation": 0.1,
        "train.method": "noise_control",
    },
    "occluders, reverse states": {
        "task": "deocclude",
        "condition.occluders": ["scarf"],
        "compensation.states": "reverse",
        "train.compensation.start": 16,
    },
}


@pytest.mark.usefixtures("_held_out")
@pytest.mark.parametrize("new", [new_main_net, new_fit])
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_six_steps_equal_three_a_kill_and_three(
    new: Callable[..., DiffusionTrainer | CompensatorTrainer],
    changes: Tree,
    params: Make,
    images: Images,
    tmp_path: Path,
) -> None:
    """Weights, EMA and curves, bit for bit; the kill falls between two states, so a step is also done twice."""
    p = params({"train.snapshots": [10, 40], **changes})
    whole, first, second = new(p, images), new(p, images), new(p, images)
    curve = train(whole, p, images, tmp_path / "whole")
    with pytest.raises(Killed):
        train(first, p, images, tmp_path / "parts", kill_at=24)
    resumed = train(second, p, images, tmp_path / "parts")
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))
    assert resumed == curve
    assert [seen for seen, _ in curve] == [16, 32, 48]
    if isinstance(whole, DiffusionTrainer) and isinstance(second, DiffusionTrainer):
        assert all(torch.equal(a, b) for a, b in zip(whole.rows, second.rows, strict=True))
        assert whole.norms == second.norms
        assert len(whole.rows) == 2
        assert list(second.snapshots) == [10, 40]
        for seen, kept in second.snapshots.items():
            assert all(torch.equal(kept[name], weight) for name, weight in whole.snapshots[seen].items())


def test_a_training_too_short_for_a_row_of_samples_ends_with_one(params: Make, images: Images, tmp_path: Path) -> None:
    p = params({"train.grid_every": 1000, "train.images": 8})
    trainer = new_main_net(p, images)
    train(trainer, p, images, tmp_path)
    assert len(trainer.rows) == 1


def test_run_stopped_after_every_step_equals_an_undisturbed_one(params: Make, images: Images, tmp_path: Path) -> None:
    """Asked to stop between the points of the curves too; neither they nor the states' schedule may move."""
    p = params({"train.log_every": 24, "train.checkpoint_every": 32})
    whole, device = new_main_net(p, images), open_device(p.compute)
    curve = train(whole, p, images, tmp_path / "whole")
    for step in range(1, 7):
        part, log, asked = new_main_net(p, images), dict[int, dict[str, float]](), iter([False])
        checkpoints = Checkpoints(tmp_path / "parts", "key")

        def one_step(asked: Iterator[bool] = asked) -> bool:
            return next(asked, True)

        ends = nullcontext() if step == 6 else pytest.raises(Preempted, match=f"at {8 * step} images")
        with ends:
            run(part, examples_of(p, images), plan(p), device, checkpoints, "test", log.__setitem__, one_step)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(part), strict=True))
    assert list(log.items()) == curve
    assert [seen for seen, _ in curve] == [24, 32, 48]


@pytest.mark.parametrize("method", names_in(METHODS))
def test_accumulated_gradients_equal_the_large_batch(method: str, params: Make, images: Images) -> None:
    """One step, whole or in four parts: the same gradient up to the order of summation."""
    changes = {
        "train.method": method,
        "train.compensation.share": 0.6,
        "train.compensation.fade": 0.0,
        "train.compensation.gap": 2,
        "train.perturbation": 0.1,
        "diffusion.self_condition": True,
    }
    results = []
    for micro_batch in (8, 2):
        trainer = new_main_net(params({**changes, "train.micro_batch": micro_batch}), images)
        for parameter in trainer.net.parameters():
            parameter.data += 0.05
        trainer.optimizer = torch.optim.SGD(trainer.net.parameters(), lr=1.0)
        batch = Batch(torch.from_numpy(images.pixels[:8]).float() / 127.5 - 1, None)
        before = [parameter.detach().clone() for parameter in trainer.net.parameters()]
        scalars = trainer.step(batch, 0)
        moved = [after.detach() - b for after, b in zip(trainer.net.parameters(), before, strict=True)]
        results.append((scalars["loss"], torch.cat([m.flatten() for m in moved])))
    (loss, gradient), (parts_loss, parts_gradient) = results
    assert torch.isclose(loss, parts_loss, rtol=1e-5)
    assert (gradient - parts_gradient).norm() / gradient.norm() < 1e-4
    assert gradient.norm() > 0


@pytest.mark.parametrize(("norm", "expected"), [("l2", 1.0), ("l1", math.sqrt(2 / math.pi))])
def test_first_loss_is_that_of_a_net_that_says_nothing(
    norm: str, expected: float, params: Make, images: Images
) -> None:
    """Of eps ~ N(0, 1): its mean square, or its mean absolute value."""
    changes = {"train.method": "plain", "train.loss": norm, "diffusion.prediction": "eps"}
    trainer = new_main_net(params(changes), images)
    batch = Batch(torch.from_numpy(images.pixels[:8]).float() / 127.5 - 1, None)
    assert float(trainer.step(batch, 0)["loss"]) == pytest.approx(expected, rel=0.1)


def test_compensated_training_with_no_share_is_plain_training(params: Make, images: Images, tmp_path: Path) -> None:
    none = params({"train.method": "compensated", "train.compensation.share": 0.0})
    plain = params({"train.method": "plain"})
    one, two = new_main_net(none, images), new_main_net(plain, images)
    train(one, none, images, tmp_path / "a")
    train(two, plain, images, tmp_path / "b")
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(two), strict=True))


def test_module_learns_in_its_epoch_and_is_frozen_after_it(params: Make, images: Images) -> None:
    trainer = new_main_net(params({"train.compensation.fade": 0.0}), images)
    batch = Batch(torch.from_numpy(images.pixels[:8]).float() / 127.5 - 1, None)
    module = trainer.fit.net

    def moved_by(seen: int) -> bool:
        before = torch.cat([w.flatten() for w in module.parameters()]).detach().clone()
        trainer.step(batch, seen)
        return not torch.equal(before, torch.cat([w.flatten() for w in module.parameters()]))

    assert moved_by(0)
    assert moved_by(32)
    assert not moved_by(40)
    assert trainer.share(40) == 1.0


def test_path_and_fit_wait_for_their_start(params: Make, images: Images) -> None:
    changes = {"train.images": 100, "train.compensation.start": 40, "train.compensation.fade": 0.5}
    trainer = new_main_net(params(changes), images)
    assert [trainer.share(seen) for seen in (0, 39, 40, 65, 90)] == pytest.approx([0.0, 0.0, 1.0, 0.5, 0.0])
    assert [trainer.fits(seen) for seen in (0, 39, 40, 79, 80)] == [False, False, True, True, False]


def test_training_lowers_the_loss_and_the_module_shrinks_the_error(
    params: Make, images: Images, tmp_path: Path
) -> None:
    flat = Images(images.pixels // 64 * 10 + 100)
    p = params({"train.images": 1200, "train.log_every": 200, "train.checkpoint_every": 1200, "train.grid_every": 1200})
    trainer = new_main_net(p, flat)
    curve = train(trainer, p, flat, tmp_path)
    assert curve[-1][1]["loss"] < 0.7 * curve[0][1]["loss"]
    assert {"loss", "grad_norm", "share", "module_loss", "step"} == set(curve[0][1])
    norms = compensator_norms(trainer.denoise, trainer.fit.C, TrainingSet(flat), 0, 8, "norm")
    assert [row["t"] for row in norms] == list(range(1, 11))
    assert all(row["norm_ratio"] > 0 and row["error"] > 0 for row in norms)


def test_norms_of_an_exact_estimate_are_finite(params: Make, images: Images) -> None:
    """White images, which a net that predicts x0 and adds 1.5 hits by being clipped."""
    trainer = new_main_net(params({"diffusion.prediction": "x0"}), images)
    torch.nn.init.constant_(list(trainer.net.parameters())[-1], 1.5)
    white = TrainingSet(Images(np.full_like(images.pixels, 255)))
    norms = compensator_norms(trainer.denoise, trainer.fit.C, white, 0, 8, "norm")
    assert all(math.isfinite(value) for row in norms for value in row.values())


def test_diverged_run_ends_with_place_seed_and_last_good_state(params: Make, images: Images, tmp_path: Path) -> None:
    p = params({"train.method": "plain"})
    trainer = new_main_net(p, images)
    step = trainer.step

    def poisoned(batch: Batch, seen: int) -> dict[str, Tensor]:
        return step(Batch(batch.x0 * float("nan"), None) if seen == 24 else batch, seen)

    trainer.step = poisoned  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"being finite at 24 images seen \(seed of that step \d+\)") as error:
        train(trainer, p, images, tmp_path)
    assert "last good state" in str(error.value)
    assert "000000000016-" in str(error.value)


def test_fewer_images_than_a_batch_is_an_error(params: Make, images: Images, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="5 training images are fewer than a batch of 8"):
        train(new_main_net(params(), images), params(), Images(images.pixels[:5]), tmp_path)


def test_rate_rises_stays_and_falls_linearly() -> None:
    factors = [rate_factor(seen, 1000, 100, 0.4) for seen in (0, 49, 99, 500, 600, 800, 1000)]
    assert factors == pytest.approx([0.01, 0.5, 1, 1, 1, 0.5, 0])
