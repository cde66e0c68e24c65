"""Foreign nets, made here with random weights, read back: what the source's own forward pass gives.

guided-diffusion and DDPM's ports are in no package: their nets are written out here from their papers' code, with their
names of weights and their order of queries, keys and values.
"""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, EDMEulerScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cspipe.cli.exchange import import_model
from cspipe.exchange.diffusers_folder import WEIGHTS
from cspipe.exchange.draw import variant_of
from cspipe.runtime.errors import UserError
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SamplerState
from cspipe.stages.nets import finished_denoiser
from cspipe.stages.sample import new_sampler
from tests.exchange import reference
from tests.exchange.conftest import CPU, refused, slow
from tests.exchange.reference import Guided, OldDDPM

TUTORIAL = {
    "sample_size": 16, "in_channels": 3, "out_channels": 3, "layers_per_block": 1, "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
"""Not this project's nets: other groups of norms, other heads."""


@pytest.fixture
def pipeline(tmp_path: Path) -> Callable[..., Path]:
    """pipeline(more of the net, config of the scheduler): the folder of a pipeline with random weights."""

    def make(net: dict[str, Any] | None = None, **config: Any) -> Path:
        torch.manual_seed(0)
        config = {"clip_sample": True, "timestep_spacing": "trailing", **config}
        unet = UNet2DModel(**TUTORIAL, **(net or {}))
        DDIMPipeline(unet, DDIMScheduler(**config)).save_pretrained(tmp_path / "theirs")
        return tmp_path / "theirs"

    return make


@pytest.mark.parametrize(
    ("config", "schedule", "prediction"),
    [
        ({}, "linear", "eps"),
        slow({"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}, "cosine", "v"),
        slow({"prediction_type": "sample"}, "linear", "x0"),
    ],
)
def test_a_pipeline_of_diffusers_draws_the_same_images(
    pipeline: Callable[..., Path], tmp_path: Path, config: dict, schedule: str, prediction: str
) -> None:
    folder = pipeline(**config)
    import_model(folder, tmp_path / "main")
    denoise, stored = finished_denoiser(CPU, tmp_path / "main")
    assert (stored["diffusion"]["schedule"], stored["diffusion"]["prediction"]) == (schedule, prediction)
    sampler = new_sampler(variant_of("ddim", 10, compensated=False), denoise, stored, CPU)
    x_T = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    net, _ = sampler.net(None)
    drawn = sample(net, x_T, sampler.step, SamplerState(sampler.schedule, sampler.path)).clamp(-1, 1)
    theirs = DDIMPipeline.from_pretrained(folder)
    options = {"num_inference_steps": 10, "use_clipped_model_output": True, "output_type": "np"}
    images = theirs(2, torch.Generator().manual_seed(0), **options).images
    images = torch.from_numpy(images).permute(0, 3, 1, 2)
    torch.testing.assert_close(drawn, images * 2 - 1, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("make", "form"),
    [(Guided, "safetensors"), slow(OldDDPM, "pt"), slow(Guided, "pt"), slow(OldDDPM, "safetensors")],
)
def test_weights_alone_give_the_same_estimates(
    make: type[nn.Module], form: str, tmp_path: Path, stir: Callable[[nn.Module], nn.Module]
) -> None:
    torch.manual_seed(0)
    theirs, file = stir(make()).eval(), tmp_path / f"theirs.{form}"
    if form == "pt":
        torch.save(theirs.state_dict(), file)
    else:
        save_file(theirs.state_dict(), file)
    import_model(file, tmp_path / "main", size=16)
    denoise, config = finished_denoiser(CPU, tmp_path / "main")
    assert config["model"]["attention"] == [8]
    x, t = torch.randn(3, 3, 16, 16), torch.tensor([1, 438, 1000])
    with torch.no_grad():
        expected = theirs(x, (t - 1).float())[:, :3]
        assert expected.std() > 0.1
        torch.testing.assert_close(denoise.output(x, t), expected, rtol=1e-4, atol=1e-4)


def as_of_2022(folder: Path) -> None:
    """A pipeline's folder as the oldest ones are: without subfolders, attention with its first names."""
    weights = folder / "unet" / WEIGHTS
    state = load_file(weights)
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        state = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in state.items()}
    save_file(state, weights)
    for part in ("unet", "scheduler"):
        for file in (folder / part).iterdir():
            file.rename(folder / file.name)
        (folder / part).rmdir()


def test_a_folder_of_2022_gives_the_same_estimates(pipeline: Callable[..., Path], tmp_path: Path) -> None:
    """One attention head as wide as the net (null) is no head of the default width."""
    folder = pipeline({"attention_head_dim": None}, beta_schedule="squaredcos_cap_v2")
    as_of_2022(folder)
    import_model(folder, tmp_path / "main")
    denoise, stored = finished_denoiser(CPU, tmp_path / "main")
    assert stored["diffusion"]["schedule"] == "cosine"
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([1, 700])
    with torch.no_grad():
        expected = DDIMPipeline.from_pretrained(folder).unet(x, t - 1).sample
        torch.testing.assert_close(denoise.output(x, t), expected, rtol=1e-4, atol=1e-4)


class Runs:
    """A pickle that leaves a file when it is read with code."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("save", [lambda tree, file: file.write_bytes(pickle.dumps(tree)), torch.save])
def test_no_code_of_a_pickle_runs(tmp_path: Path, save: Callable[[Any, Path], Any]) -> None:
    file, trace = tmp_path / "edm.pkl", tmp_path / "trace"
    save({"ema": Runs(trace)}, file)
    refused(file, tmp_path / "main", "edm.pkl.*state_dict")
    assert not trace.exists()


def test_tensors_larger_than_their_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save({"temb.dense.0.weight": torch.zeros(1).expand(10**12)}, file)
    refused(file, tmp_path / "main", "w.pt.*larger than the file")


def test_compressed_tensors_are_refused(tmp_path: Path) -> None:
    plain, file = tmp_path / "plain.pt", tmp_path / "w.pt"
    torch.save({"temb.dense.0.weight": torch.zeros(10**6)}, plain)
    with ZipFile(plain) as stored, ZipFile(file, "w", ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    assert file.stat().st_size < 10**5
    refused(file, tmp_path / "main", "w.pt.*compressed")


@pytest.mark.parametrize(
    "of",
    [
        lambda w: w.to("meta"), lambda w: w.to_sparse(), lambda w: w.to(torch.complex64), lambda w: w > 0,
        lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
    ],
    ids=["meta", "sparse", "complex", "bool", "quantised"],
)  # fmt: skip
def test_tensors_that_are_no_dense_floats_are_refused(tmp_path: Path, of: Callable[[Tensor], Tensor]) -> None:
    state = OldDDPM().state_dict()
    torch.save(state | {"conv_in.weight": of(state["conv_in.weight"])}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", tmp_path / "main", "w.pt", size=16)


@pytest.mark.parametrize("wrong", [float("nan"), float("-inf"), 1e300])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, wrong: float) -> None:
    """Nor may one overflow in float32."""
    state = OldDDPM().state_dict()
    bias = state["conv_out.bias"].double()
    bias[-1] = wrong
    torch.save(state | {"conv_out.bias": bias}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", tmp_path / "main", r"w.pt.*conv_out\.bias", size=16)


@pytest.mark.parametrize("name", ["unet/config.json", f"unet/{WEIGHTS}", "scheduler/scheduler_config.json"])
def test_only_plain_files_are_read(
    pipeline: Callable[..., Path], tmp_path: Path, name: str, pipe_at: Callable[[Path], None]
) -> None:
    """Nor /dev/zero, to which a link may lead: it has no end."""
    pipe_at(pipeline() / name)
    refused(tmp_path / "theirs", tmp_path / "main", Path(name).name)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"PK\x03\x04", (2**40).to_bytes(8, "little") + b"{}", b"\x80\x02."], ids=repr
)
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_files_of_no_weights_are_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"w.{suffix}"
    file.write_bytes(content)
    refused(file, tmp_path / "main", f"w.{suffix}")


UNET, SCHEDULER = "unet/config.json", "scheduler/scheduler_config.json"


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        (UNET, {"layers_per_block": 10**9}, "not a net"),
        slow(UNET, {"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        slow(UNET, {"_class_name": "UNet1D\nall is well"}, "UNet1D"),
        slow(UNET, {"num_class_embeds": 10}, "num_class_embeds"),
        slow(UNET, {"sample_size": [16, 8]}, "sample_size"),
        slow(UNET, {"sample_size": 10**9}, "sample_size"),
        slow(UNET, {"in_channels": "3"}, "in_channels"),
        slow(UNET, {"layers_per_block": 2}, "not a net"),
        slow(UNET, {"block_out_channels": [32, 10**15]}, "not a net"),
        slow(UNET, {"block_out_channels": [32, 64] * 10**4}, "not a net"),
        slow(UNET, {"block_out_channels": 7}, "not a net"),
        slow(UNET, {"act_fn": "no"}, "not a net"),
        slow(UNET, {"unheard_of": 1}, "not a net"),
        slow(UNET, {"norm_num_groups": 7}, "not a net"),
        (SCHEDULER, {"beta_end": 0.03}, "beta_schedule linear"),
        (SCHEDULER, {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        slow(SCHEDULER, {"beta_schedule": "sigmoid"}, "sigmoid"),
        slow(SCHEDULER, {"trained_betas": "many"}, "trained_betas"),
        slow(SCHEDULER, {"num_train_timesteps": 10**12}, "num_train_timesteps"),
        slow(SCHEDULER, {"prediction_type": ["epsilon"]}, "prediction_type"),
        (SCHEDULER, {"prediction_type": "epsilon\nall is well"}, "prediction_type"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_configuration_that_does_not_fit_is_refused(
    pipeline: Callable[..., Path], tmp_path: Path, file: str, changes: dict, match: str
) -> None:
    """Of the net, or of a scheduler of other noise levels."""
    config = pipeline() / file
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    refused(tmp_path / "theirs", tmp_path / "main", match)


def test_a_scheduler_without_betas_is_refused(pipeline: Callable[..., Path], tmp_path: Path) -> None:
    folder = pipeline()
    EDMEulerScheduler().save_pretrained(folder / "scheduler")
    refused(folder, tmp_path / "main", "beta_schedule None")


@pytest.mark.parametrize(
    ("changes", "size", "match"),
    [
        ({}, 18, "multiple of 4"),
        ({"down.9.x": torch.zeros(1), "down.0.block.9999.x": torch.zeros(1)}, 16, "10 .*10000"),
        slow({"conv_in.weight": torch.tensor(1.0)}, 16, "make no net"),
        slow({"down.1.block.0.conv1.weight": torch.tensor(1.0)}, 16, "make no net"),
    ],
    ids=["size", "stages", "scalar", "scalar further in"],
)
def test_weights_that_make_no_net_are_refused(tmp_path: Path, changes: dict, size: int, match: str) -> None:
    torch.save({**OldDDPM().state_dict(), **changes}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", tmp_path / "main", f"w.pt.*{match}", size=size)


def test_norms_of_other_groups_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs have 32 groups at any width; ours have fewer in narrow nets, and would give other numbers."""
    monkeypatch.setattr(reference, "WIDTH", 64)
    torch.save(OldDDPM().state_dict(), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", tmp_path / "main", "w.pt.*64 channels", size=16)


@pytest.mark.slow
def test_two_names_of_one_tensor_are_two_weights(tmp_path: Path) -> None:
    state = OldDDPM().state_dict()
    state["mid.block_1.conv1.bias"] = state["mid.block_1.conv2.bias"]
    torch.save(state, tmp_path / "w.pt")
    import_model(tmp_path / "w.pt", tmp_path / "main", size=16)
    finished_denoiser(CPU, tmp_path / "main")


@pytest.mark.slow
@pytest.mark.parametrize("drop", ["middle_block.0.in_layers.0.bias", "out.2.bias", "middle_block.1.qkv.bias"])
def test_missing_weights_are_named(tmp_path: Path, drop: str) -> None:
    state = Guided().state_dict()
    del state[drop]
    save_file(state, tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", tmp_path / "main", "w.safetensors", size=16)


def test_what_is_there_stays(pipeline: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "mine").touch()
    with pytest.raises(UserError, match="main"):
        import_model(pipeline(), tmp_path / "main")
    assert (tmp_path / "main" / "mine").exists()
