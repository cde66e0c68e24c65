"""An imported model under real DVC: compensated, sampled and scored, never trained; or trained further."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from omegaconf import OmegaConf

from tests.conftest import Tree, change
from tests.exchange.reference_edm import weights
from tests.stages.conftest import new_clone, run_in

MODEL = {
    "layers_per_block": 1, "block_out_channels": [32, 64], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}  # fmt: skip


VARIANTS = ("ddim-100", "cs-10")
EDM = {"name": "songunet", "channels": 64, "blocks": 1, "multipliers": [1, 2], "attention": [8], "dropout": 0.0,
       "arch": "ncsnpp", "precond": "edm", "levels": 18}  # fmt: skip


def of_diffusers(place: Path) -> Tree:
    """A pipeline there, and what params.yaml needs."""
    DDPMPipeline(UNet2DModel(sample_size=8, **MODEL), DDPMScheduler()).save_pretrained(place)
    diffusion = {"steps": 1000, "schedule": "linear", "prediction": "eps", "self_condition": False}
    return {"model": {"name": "unet2d", "config": MODEL}, "diffusion": diffusion}


def of_edm(place: Path) -> Tree:
    """Weights there, and what params.yaml needs to sample them as EDM does."""
    torch.save(weights("ncsnpp"), place)
    diffusion = {"steps": 18, "schedule": "karras", "prediction": "edm", "self_condition": False}
    heun = {f"variants.{name}.sampler": "heun" for name in VARIANTS} | {"variants.cs-10.steps": 18}
    return {"data.size": 16, "model": EDM, "diffusion": diffusion, **heun}


@pytest.mark.slow
@pytest.mark.parametrize(("make", "kind"), [(of_diffusers, "diffusers"), (of_edm, "EDM")])
def test_dvc_compensates_samples_and_scores_an_imported_model(
    make: Callable[[Path], Tree], kind: str, tmp_path: Path, small: Tree
) -> None:
    changes = make(tmp_path / "theirs")
    params = change(small, {"variants": {name: small["variants"][name] for name in VARIANTS}, **changes})
    clone = new_clone(tmp_path / "clone", params)
    told = run_in(clone, "cspipe", "import", str(tmp_path / "theirs")).stdout
    told = yaml.safe_load(told.partition("params.yaml:\n")[2].partition("\nthen")[0])
    assert (told["model"]["name"], told["diffusion"]) == (params["model"]["name"], params["diffusion"])
    before = (clone / "models/main/model.safetensors").read_bytes()
    run_in(clone, "dvc", "repro", "prepare")
    run_in(clone, "dvc", "commit", "-f", "train")
    done = run_in(clone, "dvc", "repro").stdout
    assert "Running stage 'train'" not in done
    assert "Running stage 'compensate'" in done
    assert (clone / "models/main/model.safetensors").read_bytes() == before
    provenance = json.loads((clone / "metrics/cs-10.json").read_text())["provenance"]
    assert provenance[0]["training"] == f"imported ({kind})"
    assert "up to date" in run_in(clone, "dvc", "status").stdout
    compensated = ("--compensation", "models/compensation")
    run_in(clone, "cspipe", "sample", "--sampler", "heun", "--n", "2", *compensated, "-o", "grid.png")
    assert (clone / "grid.png").stat().st_size


@pytest.mark.slow
def test_dvc_trains_an_imported_model_further(tmp_path: Path, small: Tree) -> None:
    DDPMPipeline(UNet2DModel(sample_size=8, **MODEL), DDPMScheduler()).save_pretrained(tmp_path / "theirs")
    clone = new_clone(tmp_path / "clone", small)
    told = run_in(clone, "cspipe", "import", str(tmp_path / "theirs"), "-o", "data/weights/theirs").stdout
    start = yaml.safe_load(told.partition("params.yaml:\n")[2].partition("\nthen")[0])
    params = clone / "params.yaml"
    params.write_text(yaml.safe_dump(OmegaConf.to_object(OmegaConf.merge(small, start)) | {"model": start["model"]}))
    run_in(clone, "dvc", "repro", "train")
    assert "Data and pipelines are up to date" in run_in(clone, "dvc", "repro", "train").stdout
    origin = run_in(clone, "cspipe", "lineage", "models/main/model.safetensors").stdout
    assert "data/weights/theirs/model.safetensors" in origin
    other = (clone / "models/main/model.safetensors").read_bytes()
    (clone / "data/weights/theirs/model.safetensors").write_bytes(other)
    refused = run_in(clone, "dvc", "repro", "--force", "--single-item", "train", check=False)
    sha256 = hashlib.sha256(other).hexdigest()
    assert refused.returncode
    assert sha256 in refused.stderr
    params.write_text(params.read_text().replace(start["train"]["start_from"]["sha256"], sha256))
    assert "Running stage 'train'" in run_in(clone, "dvc", "repro", "train").stdout
