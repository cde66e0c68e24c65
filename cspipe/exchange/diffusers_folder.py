"""Write a folder that diffusers loads: with stock classes where they are the same net, else with the net's code."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cspipe.exchange.bundle import bundle
from cspipe.exchange.source import Part, Source
from cspipe.exchange.unet2d import as_unet2d
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_folder
from cspipe.runtime.models import save_tensors

PIPELINE = Path(__file__).parent / "templates" / "pipeline.py"
WEIGHTS = "diffusion_pytorch_model.safetensors"
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
TIMES = 1000
"""Number of timesteps of a stock scheduler: nets see times up to this, whatever their own number of steps."""
LOAD = "DiffusionPipeline.from_pretrained({0!r}, custom_pipeline={0!r}, trust_remote_code=True)"
STOCK = "DDIMPipeline.from_pretrained({!r})"


def write_diffusers(source: Source, out: Path) -> str:
    """Write the folder `out`; return the line of Python that loads it."""
    stock = as_unet2d(source.main.net, source.model, source.size)
    plain = (
        stock is not None and source.diffusion.prediction in PREDICTIONS and not source.diffusion.self_condition
        and source.task == "generate" and TIMES % source.diffusion.steps == 0
    )  # fmt: skip
    with whole_folder(out) as folder:
        if stock is None:
            unet = _write_own(folder / "unet", source.main, source.size)
        else:
            unet = ["diffusers", "UNet2DModel"]
            _write_net(folder / "unet", {"_class_name": "UNet2DModel", **stock[0]}, stock[1])
        named = "DDIMPipeline" if plain else ["pipeline", "CompensatedPipeline"]
        index: dict[str, Any] = {"_class_name": named, "unet": unet, "scheduler": ["diffusers", "DDIMScheduler"]}
        _write_json(folder / "scheduler" / "scheduler_config.json", scheduler(source))
        more = {"compensator": source.compensator, "mean": source.mean}
        index |= {name: _write_own(folder / name, part, source.size) for name, part in more.items() if part}
        load = STOCK if plain and not any(more.values()) else LOAD
        if load == LOAD:
            shutil.copy(PIPELINE, folder / "pipeline.py")
            index |= source.diffusion.model_dump(include={"prediction", "self_condition"})
            index |= {"native_steps": source.diffusion.steps, "channels": source.channels}
        _write_json(folder / "model_index.json", index)
        (folder / "README.md").write_text(readme(source, load))
    return load.format(str(out))


def readme(source: Source, load: str) -> str:
    """Return the README.md that hubs show: how to load the folder, what it contains, and how it samples."""
    diffusion = source.diffusion
    first = "the mean training image, in `mean` (`terminal: mean`)" if source.mean else "the net's (`terminal: net`)"
    stock = f", with `use_clipped_model_output=True`, in numbers of steps that divide {diffusion.steps}"
    how = stock if load.startswith("DDIM") else ""
    return f"""---
library_name: diffusers
tags: [diffusion, compensation-sampling]
---
# A diffusion model of {source.size} x {source.size} pixels, task {source.task}

    pipe = {load.format("this folder")}

Exported by cspipe, whose images it draws for the same noise{how}.

- **Net**: {source.model.name}; it predicts {diffusion.prediction}; {diffusion.steps} steps, \
schedule {diffusion.schedule}
- **Estimate at the first step**: {first}{"; `pipe.mean = None` leaves it to the net" if source.mean else ""}
- **Steps**: DDIM, {"compensated by the net in `compensator`" if source.compensator else "not compensated"}
"""


def scheduler(source: Source) -> dict[str, Any]:
    """Return the config of a DDIMScheduler with the noise levels of our schedule.

    It has TIMES levels if our number of steps divides TIMES, evenly in log alpha-bar between ours; else ours alone.
    """
    native = source.diffusion.steps
    count = native if TIMES % native else TIMES
    log_alpha_bar = 2 * source.diffusion.new_schedule().sqrt_alpha_bar.log().numpy()
    spread = np.interp(np.linspace(0, native, count + 1), np.arange(native + 1), log_alpha_bar)
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": count,
        "trained_betas": (-np.expm1(np.diff(spread))).tolist(),
        "prediction_type": PREDICTIONS.get(source.diffusion.prediction, "sample"),
        "timestep_spacing": "trailing",
        "clip_sample": True,
        "clip_sample_range": 1.0,
        "set_alpha_to_one": True,
        "steps_offset": 0,
    }


def _write_own(folder: Path, part: Part, size: int) -> list[str]:
    """Write a net with its code; return its entry in model_index.json. Raises UserError if the code cannot be bundled.

    Diffusers copies the code of all models to one place by file name, so the name holds a hash of the code.
    """
    code = bundle(part.module)
    if f"\nclass {part.maker}(" not in code and f"\ndef {part.maker}(" not in code:
        raise UserError(f"{part.module}: has no {part.maker} at its top level; move it there to export the net")
    name = f"net_{hashlib.sha256(code.encode()).hexdigest()[:8]}"
    config = {"maker": part.maker, "arguments": part.arguments, "in_channels": part.arguments["in_channels"]}
    state = {f"net.{name}": tensor for name, tensor in part.net.state_dict().items()}
    _write_net(folder, {"_class_name": "Net", "sample_size": size, **config}, state)
    (folder / f"{name}.py").write_text(code)
    return [name, "Net"]


def _write_net(folder: Path, config: dict[str, Any], state: dict[str, Tensor]) -> None:
    _write_json(folder / "config.json", config)
    save_tensors({name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS, {"format": "pt"})


def _write_json(path: Path, tree: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, indent=2) + "\n")
