"""Stage compensate: the module C, fit for one epoch against the finished main net."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from cspipe.config.params_file import load_params
from cspipe.data.shards import open_split
from cspipe.diffusion.denoiser import Timed
from cspipe.nets.build import count_parameters
from cspipe.runtime.device import open_device
from cspipe.runtime.files import sha256_file, whole_folder
from cspipe.runtime.models import FILE, save_model
from cspipe.runtime.preemption import sigterm_deferred
from cspipe.runtime.provenance import code_ids
from cspipe.runtime.tracking import tracked
from cspipe.stages.examples import open_examples
from cspipe.stages.nets import conditions_of, finished_denoiser, new_module, write_tsv
from cspipe.stages.stage import COMPENSATION, MAIN, PREPARED, stage, state_key
from cspipe.stages.states import open_states
from cspipe.training.loop import Plan, run
from cspipe.training.module import FinishedFit, ModuleFit, module_norms

CODE = (
    "cspipe/runtime/device.py",
    "cspipe/data/conditions.py",
    "cspipe/data/masks",
    "cspipe/data/occluders",
    "cspipe/data/shards.py",
    "cspipe/diffusion/denoiser.py",
    "cspipe/diffusion",
    "cspipe/runtime/models.py",
    "cspipe/nets",
    "cspipe/data/pixels.py",
    "cspipe/data/seeds.py",
    "cspipe/stages/compensate.py",
    "cspipe/stages/examples.py",
    "cspipe/stages/nets.py",
    "cspipe/training",
)
"""Code that decides the stage's bytes, as in dvc.yaml."""
CURVES, NORMS = Path("curves/compensate"), Path("curves/norm.tsv")


def main() -> None:
    """Read params.yaml, data/prepared and models/main; write models/compensation, its curves and its size over t."""
    with stage("compensate") as log:
        params = load_params()
        device = open_device(params.compute)
        log.device = device.name
        images = open_split(PREPARED, "train")
        examples = open_examples(params, images)
        denoise, main_config = finished_denoiser(device)
        module, settings = new_module(params, device), params.compensation
        timed = Timed(module, params.diffusion.steps, device)
        trainee = FinishedFit(
            ModuleFit(module, timed, settings), denoise, params.seed, params.train.flip, params.train.micro_batch
        )
        config = {
            "compensation": settings.model_dump(),
            "channels": params.data.channels,
            "size": params.data.size,
            "task": params.task,
            "condition": conditions_of(params),
            "parameters": count_parameters(module),
            "data_sha256": images.sha256,
            "main_sha256": sha256_file(MAIN / FILE),
            "main_images_seen": main_config["images_seen"],
            "seed": params.seed,
            "code": code_ids(*CODE),
        }
        total = settings.epochs * len(images)
        plan = Plan(total, settings.batch, params.train.log_every, params.train.checkpoint_every, params.seed)
        key = state_key(config, params.compute.model_dump(), asdict(plan), params.train.flip, params.train.micro_batch)
        checkpoints = open_states("compensate", key)
        with sigterm_deferred() as stopping, tracked(CURVES, params.tracking, f"compensate-{key}", config) as curves:
            run(trainee, examples, plan, device, checkpoints, "compensate", curves, stopping)
        with whole_folder(COMPENSATION) as folder:
            save_model(folder, {"module": module}, config)
        rows = module_norms(denoise, timed, examples, params.seed, params.train.micro_batch, "compensate-norm")
        write_tsv(NORMS, rows, ("t", "norm_ratio", "error"))
        checkpoints.remove()
        log.images(total)


if __name__ == "__main__":
    main()
