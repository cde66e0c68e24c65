"""An imported model under real DVC: compensated, sampled and scored, never trained; or trained further."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from omegaconf import OmegaConf

from tests.conftest import Tree, change
from tests.stages.conftest import new_clone, run_in

MODEL = {
    "layers_per_block": 1, "block_out_channels": [32, 64], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}  # fmt: skip


@pytest.mark.slow
def test_dvc_compensates_samples_and_scores_an_imported_model(tmp_path: Path, small: Tree) -> None:
    DDPMPipeline(UNet2DModel(sample_size=8, **MODEL), DDPMScheduler()).save_pretrained(tmp_path / "theirs")
    diffusion = {"steps": 1000, "schedule": "linear", "prediction": "eps", "self_condition": False}
    variants = {name: small["variants"][name] for name in ("ddim-100", "cs-10")}
    params = change(small, {"variants": variants, "model": {"name": "unet2d", "config": MODEL}, "diffusion": diffusion})
    clone = new_clone(tmp_path / "clone", params)
    run_in(clone, "cspipe", "import", str(tmp_path / "theirs"))
    before = (clone / "models/main/model.safetensors").read_bytes()
    run_in(clone, "dvc", "repro", "prepare")
    run_in(clone, "dvc", "commit", "-f", "train")
    done = run_in(clone, "dvc", "repro").stdout
    assert "Running stage 'train'" not in done
    assert "Running stage 'compensate'" in done
    assert (clone / "models/main/model.safetensors").read_bytes() == before
    provenance = json.loads((clone / "metrics/cs-10.json").read_text())["provenance"]
    assert provenance[0]["training"] == "imported (diffusers)"
    assert "up to date" in run_in(clone, "dvc", "status").stdout


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
