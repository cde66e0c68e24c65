"""Weights of EDM: what our net gives is what EDM's own code gave.

EDM's code (github.com/NVlabs/edm, commit 008a4e5) is in no package that could be a dependency. OUTPUTS and IMAGE are
numbers of its `EDMPrecond`, `VPPrecond` and `edm_sampler` with the weights of tests/exchange/reference_edm.py, run once
by hand.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cspipe.cli.exchange import import_model
from cspipe.config.params import Params
from cspipe.exchange.draw import variant_of
from cspipe.runtime.files import sha256_file
from cspipe.runtime.models import FILE
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SamplerState
from cspipe.stages.nets import finished_denoiser
from cspipe.stages.sample import new_sampler
from cspipe.stages.train import new_trainer
from cspipe.training.stream import Batch, TrainingSet
from tests.conftest import Images
from tests.exchange.conftest import CPU, refused, slow
from tests.exchange.reference_edm import LEVELS, inputs, weights

OUTPUTS = {
    ("ddpmpp", "edm"): (0.018757, -0.484402, -0.141301),
    ("ncsnpp", "edm"): (-0.063533, -0.697579, -0.329550),
    ("ddpmpp", "vp"): (-0.027705, -0.538337, -0.108547),
}
"""Of the net at pixel (5, 7) of channel 1, at the states and noise levels of `inputs`."""
IMAGE = {"ddpmpp": (-0.268103, -0.306581, -0.535865), "ncsnpp": (0.009902, -0.315672, -0.637909)}
"""Pixel (5, 7) of what 18 steps make of half of the first state, in its three channels."""

FILTER = "model.dec.16x16_up.skip.resample_filter"


def written(path: Path, arch: str, more: dict[str, Tensor] | None = None) -> Path:
    """A file of weights as EDM's nets have them, with the filters that resample."""
    side = 2 if arch == "ddpmpp" else 4
    state = {**weights(arch), FILTER: torch.ones(1, 1, side, side), **(more or {})}
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return path


@pytest.mark.parametrize(
    ("arch", "precond", "form"),
    [("ncsnpp", "edm", "pt"), ("ddpmpp", "vp", "safetensors"), slow("ddpmpp", "edm", "safetensors")],
)
def test_the_net_gives_what_theirs_gave(arch: str, precond: str, form: str, tmp_path: Path) -> None:
    """A pixel depends on all of the net, attention being on the way to it."""
    file = written(tmp_path / f"w.{form}", arch)
    import_model(file, tmp_path / "main", prediction="eps" if precond == "vp" else None, steps=LEVELS)
    denoise, config = finished_denoiser(CPU, tmp_path / "main")
    assert (config["diffusion"]["schedule"], config["model"]["attention"]) == ("karras", [8])
    with torch.no_grad():
        assert denoise.output(*inputs())[:, 1, 5, 7].tolist() == pytest.approx(OUTPUTS[arch, precond], abs=1e-4)


@pytest.mark.parametrize("arch", ["ddpmpp", slow("ncsnpp")])
def test_heun_is_their_sampler(arch: str, tmp_path: Path) -> None:
    """No estimate on this way leaves [-1, 1] by much: ours are clipped, theirs are not."""
    import_model(written(tmp_path / "w.pt", arch), tmp_path / "main", steps=LEVELS)
    denoise, config = finished_denoiser(CPU, tmp_path / "main")
    sampler = new_sampler(variant_of("heun", LEVELS, compensated=False), denoise, config, CPU)
    net, _ = sampler.net(None)
    image = sample(net, inputs()[0][:1] / 2, sampler.step, SamplerState(sampler.schedule, sampler.path))
    assert image[0, :, 5, 7].tolist() == pytest.approx(IMAGE[arch], abs=1e-3)


def test_training_goes_on_and_leaves_the_frequencies(
    params: Callable[..., Params], images: Images, tmp_path: Path
) -> None:
    import_model(written(tmp_path / "w.pt", "ncsnpp"), tmp_path / "main", steps=LEVELS)
    denoise, config = finished_denoiser(CPU, tmp_path / "main")
    start = {"folder": str(tmp_path / "main"), "sha256": sha256_file(tmp_path / "main" / FILE)}
    sections = {key: config[key] for key in ("model", "diffusion")}
    p = params({**sections, "data.size": 16, "train.start_from": start, "train.method": "plain", "train.warmup": 0})
    images = Images(np.kron(images.pixels, np.ones((2, 2), np.uint8)))
    trainer = new_trainer(p, TrainingSet(images), CPU)
    trainer.step(Batch(torch.from_numpy(images.pixels[:8]).float() / 127.5 - 1, None), 0)
    for net in (trainer.net, trainer.ema.net):
        same = {name for name, weight in net.state_dict().items() if weight.equal(denoise.net.net.state_dict()[name])}
        assert same == {"time.frequencies"}


@pytest.mark.parametrize(
    ("more", "options", "match"),
    [
        ({"model.map_label.weight": torch.zeros(64, 10)}, {}, "map_label"),
        ({"model.out_conv.weight": torch.zeros(1)}, {}, "aux_conv"),  # ADM's net, of EDM's code
        ({"model.enc.8x8_aux_skip.weight": torch.zeros(1)}, {}, "aux_skip"),
        ({FILTER: torch.ones(1, 1, 4, 4)}, {}, FILTER.removeprefix("model.")),
        ({}, {"schedule": "linear"}, "--schedule linear"),
        ({}, {"prediction": "v"}, "--prediction v"),
    ],
    ids=["labels", "adm", "pyramid of images", "filter", "schedule", "prediction"],
)
def test_other_nets_of_edm_are_refused(more: dict, options: dict, match: str, tmp_path: Path) -> None:
    refused(written(tmp_path / "w.pt", "ddpmpp", more=more), tmp_path / "main", match, steps=LEVELS, **options)
