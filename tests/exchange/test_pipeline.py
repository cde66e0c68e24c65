"""An imported model under real DVC: compensated, sampled and scored, never trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

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
