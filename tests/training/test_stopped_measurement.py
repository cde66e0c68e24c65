"""A stop that comes while C is measured."""

from pathlib import Path

import pytest

from cspipe.runtime.checkpoint import Checkpoints
from cspipe.runtime.device import open_device
from cspipe.runtime.preemption import Preempted
from cspipe.training.loop import run
from tests.conftest import Images
from tests.training.test_training import Make, examples_of, new_main_net, plan, train


def test_a_measurement_that_is_stopped_is_made_when_the_training_goes_on(
    params: Make, images: Images, tmp_path: Path
) -> None:
    p = params({})
    whole, first, second = (new_main_net(p, images) for _ in range(3))
    train(whole, p, images, tmp_path / "whole")
    assert whole.norms
    asked: list[bool] = []

    def comes_while_c_is_measured() -> bool:
        asked.append(True)
        return True

    first.stopping = comes_while_c_is_measured
    states, device = Checkpoints(tmp_path / "parts", "key"), open_device(p.compute)
    with pytest.raises(Preempted):
        run(first, examples_of(p, images), plan(p), device, states, "test", lambda *_: None, lambda: bool(asked))
    assert first.norms is None
    second.accumulate.micro_batch *= 2  # as after a start that has not found out yet what fits into memory
    train(second, p, images, tmp_path / "parts")
    assert second.norms == whole.norms
