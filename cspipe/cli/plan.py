"""`cspipe plan`: estimate time, memory and cost of params.yaml or a preset, from counted work and a device's speed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cspipe.cli.inspect import Json

if TYPE_CHECKING:
    from cspipe.config.params import Params

EXTRACTOR_FLOP = {"efficientnet-lite0": 2e8, "inception-v3-compat": 1.15e10}
"""FLOP of each extractor for one image, at the extractor's own size."""
WARM_UP, TIMED = 2, 7
"""Training steps that are run to measure a machine: first untimed, then timed ones."""


@dataclass(frozen=True)
class Card:
    """Speed, power and price of a device; None where unknown."""

    flops: float
    """FLOP/s that nets reach: the published dense bfloat16 peak times a utilisation, or measured."""
    said_of: str
    watts: float | None = None
    per_hour: float | None = None
    """Dollars per hour: an assumed price in a cloud."""


ASSUMED = "published peak x 0.3, a utilisation that is assumed until a run on this card was measured; price assumed"
CARDS = {  # the SXM cards, by NVIDIA's data sheets; h100: 80 GB at 3.35 TB/s, h200: 141 GB at 4.8 TB/s
    "h200": Card(0.3 * 989e12, ASSUMED, 700, 3.5),
    "h100": Card(0.3 * 989e12, ASSUMED, 700, 2.5),
    "a100": Card(0.3 * 312e12, ASSUMED, 400, 1.8),
}


@dataclass(frozen=True)
class Work:
    """Computation, memory and storage that one stage needs."""

    stage: str
    images: int
    flop: float
    """FLOP for all images of the stage."""
    memory: float
    """Memory on the device, in bytes."""
    stored: float
    """Bytes of the stage's outputs, and of its training state while it runs."""


def plan(
    preset: Annotated[str | None, typer.Argument(help="preset; without it, this folder's params.yaml")] = None,
    device: Annotated[Literal["h200", "h100", "a100", "measured"], typer.Option(help="measured: timed here")] = "h200",
    as_json: Json = False,
) -> None:
    """Estimate memory, images/s, hours, kWh, S3 gigabytes and cost of each stage that runs nets, before it runs."""
    from cspipe.config.overlays import read_preset
    from cspipe.config.params_file import load_params, parse_params
    from cspipe.report.numbers import significant

    params = load_params() if preset is None else parse_params(read_preset(preset).tree, f"preset {preset}")
    card = CARDS[device] if device != "measured" else measure_card(params)
    rows = [asdict(work) | estimates(work, card) for work in stages_work(params)]
    if as_json:
        print(json.dumps({"device": asdict(card), "stages": rows}, indent=2))
        return
    print(f"{'stage':20}{'memory GB':>10}{'images/s':>10}{'hours':>9}{'kWh':>9}{'S3 GB':>8}{'$':>9}")
    for row in rows:
        hours, energy, cost = (significant(row[key]) for key in ("hours", "kwh", "dollars"))
        speed = f"{row['memory'] / 1e9:>10.2f}{row['images_per_s']:>10,.0f}{hours:>9}"
        print(f"{row['stage']:20}{speed}{energy:>9}{row['stored'] / 1e9:>8.2f}{cost:>9}")
    if "compensate" not in [row["stage"] for row in rows]:
        print(f"compensate: not known, as how many images {params.data.source} has is seen when they are prepared")
    print(f"{card.flops / 1e12:.3g} TFLOP/s: {card.said_of}. Work of the nets alone: starts, disks and S3 come on top.")


def estimates(work: Work, card: Card) -> dict[str, float | None]:
    """Return hours, images/s, kWh and dollars of a stage on a card."""
    hours = work.flop / card.flops / 3600
    rates = {"kwh": card.watts and card.watts / 1000, "dollars": card.per_hour}
    known = {key: None if rate is None else hours * rate for key, rate in rates.items()}
    return {"hours": hours, "images_per_s": work.images / hours / 3600, **known}


def stages_work(params: Params) -> Iterator[Work]:
    """Yield the work of the stages that run nets; no compensate if the number of training images is still unknown."""
    from cspipe.config.workload import COPIES, FLOAT32, copies_memory, costs, path_flop, sample_flop, training_images

    main, module = costs(params)
    train, fit, half = params.train, params.compensation, params.compute.precision == "bfloat16"
    narrow = 0.5 if half else 1.0  # of the activations that autograd keeps, in bfloat16

    flop: float = train.images * (main.training + path_flop(params, main, module))
    memory = copies_memory(main) + narrow * train.micro_batch * main.activations
    copies = 2 + COPIES - 1 + 2 * len(train.snapshots)  # of the weights, in the model and in the training state
    yield Work("train", train.images, flop, memory, copies * FLOAT32 * main.parameters)

    if (count := training_images(params.data)) is not None:
        seen = fit.epochs * count
        memory = FLOAT32 * (main.parameters + COPIES * module.parameters) + narrow * fit.batch * module.activations
        stored = (2 + COPIES - 1) * FLOAT32 * module.parameters
        yield Work("compensate", seen, seen * (main.forward + module.training), memory, stored)

    images, pixels = params.sample.images, params.data.channels * params.data.size**2
    for name, variant in params.variants.items():
        memory = FLOAT32 * (main.parameters + module.parameters + params.sample.batch * 64 * pixels)
        yield Work(f"sample@{name}", images, images * sample_flop(variant, main, module), memory, images * pixels)

    read = 4 * params.evaluate.images  # samples, reference, held-out images, noise: all for the first variant
    flop, memory = read * EXTRACTOR_FLOP[params.evaluate.extractor], 2e9
    yield Work("evaluate, first", read, flop, memory, 1e5)


def measure_card(params: Params) -> Card:
    """Measure this machine by a few plain training steps of the preset, without a method's path, at the median step."""
    import numpy as np
    import torch

    from cspipe.config.workload import costs
    from cspipe.data.conditions import condition_channels
    from cspipe.data.shards import Shards
    from cspipe.runtime.device import open_device
    from cspipe.stages.train import new_trainer
    from cspipe.training.stream import Batch, TrainingSet

    device = open_device(params.compute)
    train = params.train.model_copy(update={"method": "plain"})
    params = params.model_copy(update={"train": train})
    shape = (params.data.channels, params.data.size, params.data.size)
    images = np.zeros((max(train.batch, params.compensation.batch), *shape), np.uint8)
    trainer = new_trainer(params, TrainingSet(Shards(shape, [images], "")), device)
    extra = condition_channels(params.task, shape[0])
    condition = torch.rand(train.batch, extra, *shape[1:], device=device.device) if extra else None
    batch, spent = Batch(torch.randn(train.batch, *shape, device=device.device), condition), []
    for seen in range(WARM_UP + TIMED):
        start = perf_counter()
        trainer.step(batch, seen)
        if device.device.type == "cuda":
            torch.cuda.synchronize()
        spent.append(perf_counter() - start)
    rate = costs(params)[0].training * train.batch / median(spent[WARM_UP:])
    return Card(rate, f"measured here by {TIMED} steps of training")
