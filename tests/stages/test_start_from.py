"""Training that starts from the weights of a model: `train.start_from`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from cspipe.cli.exchange import import_model
from cspipe.cli.models import describe as card_of
from cspipe.config.params import Params
from cspipe.diffusion.training_pair import plain_pair
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file
from cspipe.runtime.models import FILE
from cspipe.runtime.stage import state_key
from cspipe.stages.nets import finished_denoiser
from cspipe.stages.train import describe, new_trainer
from cspipe.training.stream import Batch, TrainingSet
from tests.conftest import MODELS, Images, Tree
from tests.exchange.conftest import CPU
from tests.stages.test_nets import stored
from tests.training.test_training import Killed, new_main_net, train, weights

Make = Callable[..., Params]


def start_of(folder: Path) -> Tree:
    """The keys that train a model of a folder further."""
    return {"train.start_from": {"folder": str(folder), "sha256": sha256_file(folder / FILE)}}


@pytest.fixture
def start(params: Make, tmp_path: Path) -> Tree:
    """The keys that train a model of the small parameters further."""
    (tmp_path / "theirs").mkdir()
    stored(tmp_path / "theirs", params())
    return start_of(tmp_path / "theirs")


def test_the_first_loss_is_that_of_the_imported_net(params: Make, images: Images, tmp_path: Path) -> None:
    """And nets, the moving average among them, have its weights; `theirs` is diffusers' own."""
    torch.manual_seed(0)
    theirs = UNet2DModel(sample_size=8, **MODELS["unet2d"]["config"])
    DDPMPipeline(theirs, DDPMScheduler()).save_pretrained(tmp_path / "theirs")
    import_model(tmp_path / "theirs", tmp_path / "main")
    diffusion = {"diffusion.steps": 1000, "diffusion.schedule": "linear", "diffusion.prediction": "eps"}
    denoise, config = finished_denoiser(CPU, tmp_path / "main")
    plain = {"model": config["model"], "train.method": "plain"}
    trainer = new_trainer(params({**plain, **diffusion, **start_of(tmp_path / "main")}), TrainingSet(images), CPU)
    for net in (trainer.net, trainer.ema.net):
        assert all(map(torch.equal, net.state_dict().values(), denoise.net.net.state_dict().values()))
    batch = Batch(torch.from_numpy(images.pixels[:8]).float() / 127.5 - 1, None)
    sample = trainer.draw(batch, 0)
    pair = plain_pair("eps", sample.x0, sample.eps, sample.t, denoise.schedule)
    with torch.no_grad():
        expected = pair.loss(theirs(pair.x, pair.t - 1).sample)
    torch.testing.assert_close(trainer.step(batch, 0)["loss"], expected)


def test_what_goes_on_from_a_state_is_not_started_anew(
    params: Make, images: Images, tmp_path: Path, start: Tree
) -> None:
    p = params({**start, "train.method": "plain"})
    whole, first, second = (new_main_net(p, images) for _ in range(3))
    before = [weight.clone() for weight in weights(whole)]
    curve = train(whole, p, images, tmp_path / "whole")
    with pytest.raises(Killed):
        train(first, p, images, tmp_path / "parts", kill_at=24)
    assert train(second, p, images, tmp_path / "parts") == curve
    assert all(map(torch.equal, weights(whole), weights(second)))
    assert not any(map(torch.equal, weights(whole), before))


def test_other_weights_are_another_training_and_their_place_says_nothing(
    params: Make, images: Images, tmp_path: Path, start: Tree
) -> None:
    """Nor does the card tell it, which tells of the weights."""
    (tmp_path / "theirs").rename(tmp_path / "moved")
    moved = start_of(tmp_path / "moved")
    stored(tmp_path, params({"seed": 1}))
    keys = []
    for changes in ({}, moved, start_of(tmp_path)):
        p = params(changes)
        keys.append(state_key(describe(p, images, new_main_net(p, images))))  # type: ignore[arg-type]
    assert len(set(keys)) == 3
    (tmp_path / "moved").rename(tmp_path / "theirs")
    p = params(start)
    config = describe(p, images, new_main_net(p, images))  # type: ignore[arg-type]
    assert state_key(config) == keys[1]
    assert start["train.start_from"]["sha256"][:12] in card_of(config | {"images_seen": 48}, {}, {}, None)


@pytest.mark.parametrize(
    ("changes", "key", "values"),
    [
        ({"model.channels": 32}, "model.channels", ("16", "32")),
        ({"model": MODELS["dit"]}, "model.name", ("adm", "dit")),
        ({"diffusion.prediction": "eps"}, "diffusion.prediction", ("v", "eps")),
        ({"data.size": 16, "model.attention": [8]}, "data.size", ("8", "16")),
        ({"train.start_from.sha256": "0" * 64}, "train.start_from.sha256", ("0" * 64,)),
        ({"train.start_from.folder": "nowhere"}, "train.start_from", ("nowhere",)),
    ],
)
def test_another_net_is_refused_in_a_line(
    params: Make, images: Images, start: Tree, changes: Tree, key: str, values: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as error:
        new_trainer(params({**start, **changes}), TrainingSet(images), CPU)
    said = str(error.value)
    assert "\n" not in said
    assert all(word in said for word in (key, *values))


def test_keys_that_no_weight_tells_are_compared(params: Make, images: Images, tmp_path: Path) -> None:
    stored(tmp_path, params({"model": MODELS["unet2d"]}))
    config = {**MODELS["unet2d"]["config"], "act_fn": "gelu"}
    p = params({"model": {"name": "unet2d", "config": config}, **start_of(tmp_path)})
    with pytest.raises(UserError, match=r"model\.config\.act_fn gelu.* none"):
        new_trainer(p, TrainingSet(images), CPU)


def test_a_file_that_is_replaced_while_it_is_read_is_refused(
    params: Make, images: Images, start: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hash was that of the parameters when it was compared."""

    def read_late(*arguments: Any) -> Any:
        stored(tmp_path / "theirs", params({"seed": 1}))
        return finished_denoiser(*arguments)

    monkeypatch.setattr("cspipe.stages.train.finished_denoiser", read_late)
    with pytest.raises(UserError, match=r"train\.start_from .*theirs"):
        new_trainer(params(start), TrainingSet(images), CPU)
