"""Stage compensate: the net C, fit for one epoch against the finished main net."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from cspipe.config.params import Params
from cspipe.config.params_file import load_params
from cspipe.data.conditions import open_conditions
from cspipe.data.seeds import derive_seed
from cspipe.data.shards import Shards, open_split
from cspipe.diffusion.denoiser import TimestepScaledNet
from cspipe.nets.blocks import count_parameters
from cspipe.runtime.collectives import parallel
from cspipe.runtime.device import open_device
from cspipe.runtime.files import sha256_file, whole_folder
from cspipe.runtime.launch import start_ranks
from cspipe.runtime.models import FILE, save_model
from cspipe.runtime.preemption import sigterm_deferred
from cspipe.runtime.provenance import stage_code
from cspipe.runtime.ranks import rank
from cspipe.runtime.stage import COMPENSATION, MAIN, PREPARED, stage, state_key
from cspipe.runtime.states import open_states
from cspipe.runtime.tracking import tracked
from cspipe.stages.nets import check_images, conditions_of, finished_denoiser, new_compensator, write_tsv
from cspipe.training.compensator_trainer import CompensatorFit, CompensatorTrainer, compensator_norms
from cspipe.training.loop import Plan, run
from cspipe.training.stream import TrainingSet

CURVES, NORMS = Path("curves/compensate"), Path("curves/norm.tsv")


def main() -> None:
    """Read params.yaml, data/prepared and models/main; write models/compensation, its curves and its norms over t."""
    with stage("compensate") as log:
        params = load_params()
        start_ranks(log.stage, params.compute)
        device = open_device(params.compute)
        log.device = device.name
        images = open_split(PREPARED, "train")
        conditions = open_conditions(params.task, params.condition, images, PREPARED)
        seed = derive_seed(params.seed, "compensate")  # otherwise the main net's first pass would be repeated
        data = TrainingSet(images, conditions, seed)
        denoise, main_config = finished_denoiser(device)
        net, settings = new_compensator(params, device), params.compensation
        C = TimestepScaledNet(parallel(net), denoise.schedule.steps, device)
        fit = CompensatorFit(net, C, settings)
        trainer = CompensatorTrainer(fit, denoise, seed, params.train.flip, params.train.micro_batch)
        config = describe(params, images, net, main_config["images_seen"])
        check_images(MAIN, main_config, config, "params.yaml's", "set it there, or run `dvc repro train`")
        total = settings.epochs * len(images)
        plan = Plan(total, settings.batch, params.train.log_every, params.train.checkpoint_every, seed)
        key = state_key(config, params.compute.decisive(), asdict(plan), params.train.flip, params.train.micro_batch)
        checkpoints = open_states("compensate", key)
        with sigterm_deferred() as stopping, tracked(CURVES, params.tracking, f"compensate-{key}", config) as curves:
            run(trainer, data, plan, device, checkpoints, "compensate", curves, stopping)
        if rank():
            return
        with whole_folder(COMPENSATION) as folder:
            save_model(folder, {"module": net}, config)
        rows = compensator_norms(denoise, C, data, seed, trainer.accumulate.micro_batch, "compensate-norm")
        write_tsv(NORMS, rows, ("t", "norm_ratio", "error"))
        log.inputs.check()
        checkpoints.remove()
        log.images(total)


def describe(params: Params, images: Shards, net: nn.Module, main_images_seen: int) -> dict[str, Any]:
    """Configuration that the file of C contains."""
    return {
        "compensation": params.compensation.model_dump(),
        "channels": params.data.channels,
        "size": params.data.size,
        "task": params.task,
        "condition": conditions_of(params),
        "parameters": count_parameters(net),
        "data_sha256": images.sha256,
        "main_sha256": sha256_file(MAIN / FILE),
        "main_images_seen": main_images_seen,
        "seed": params.seed,
        "code": stage_code("compensate", params.model_dump()),
    }


if __name__ == "__main__":
    main()
