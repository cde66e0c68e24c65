"""Figures that follow from a params file: sizes of the nets, work and memory per image, the last alpha-bar, passes.

Nets are built and run on torch's meta device, where tensors have shapes but no data, so that any preset takes seconds
and no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_backward_flop, sdpa_flop

from cspipe.config.params import Params
from cspipe.data.conditions import condition_channels
from cspipe.diffusion.schedule import SCHEDULES
from cspipe.ingest.settings import SOURCES, DataSettings
from cspipe.ingest.source import count_test
from cspipe.nets.blocks import count_parameters
from cspipe.runtime.registry import choice
from cspipe.runtime.wording import readable_bytes
from cspipe.sampling.settings import Variant
from cspipe.training.settings import METHODS

FLOAT32 = 4
"""Bytes of a float32 number."""
MOMENTS = 1000
"""Number of moments in training at which a method's share of images is evaluated, for its mean."""
COPIES = 5
"""Copies of every weight of the main net in training: itself, its gradient, AdamW's two states, the EMA."""
NOTES = (
    "a multiplication and an addition are 2 FLOP; convolutions, linear layers and attention are counted",
    "activations are what autograd keeps for the backward pass, in float32; bfloat16 keeps less",
    "not counted: C, what single operations need for themselves, CUDA's own and unused parts of its blocks",
)
ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
ATTENTION_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
flop_registry.update({ATTENTION: sdpa_flop, ATTENTION_BACKWARD: sdpa_backward_flop})  # torch 2.12 lacks them


@dataclass(frozen=True)
class Cost:
    """Size of a net, and its work and memory for one image."""

    parameters: int
    forward: int
    """FLOP of a forward pass."""
    training: int
    """FLOP of a forward and a backward pass."""
    activations: int
    """Bytes that autograd keeps from the forward to the backward pass."""


class FusedAttention(TorchFunctionMode):
    """Run attention in one kernel, as on a CPU or GPU; the meta device would keep an L x L matrix per head."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        """Torch's hook, called in place of every function."""
        if func is scaled_dot_product_attention:
            return ATTENTION(*args, **(kwargs or {}))[0]
        return func(*args, **(kwargs or {}))


def cost_of(net: nn.Module, *inputs: Tensor) -> Cost:
    """Measure the cost of net(*inputs) for one image, and of its backward pass to the weights; on any device."""
    weights = {_place(tensor) for tensor in (*net.parameters(), *net.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        """Autograd's hook: each piece of memory counts once, however many views of it are kept."""
        if _place(tensor) not in weights:
            kept[_place(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with FusedAttention(), FlopCounterMode(display=False) as flop:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            output = net(*inputs)
        forward = flop.get_total_flops()
        output.sum().backward()
    return Cost(count_parameters(net), forward, flop.get_total_flops(), sum(kept.values()))


def _place(tensor: Tensor) -> int:
    """Identifier of the piece of memory that a tensor uses; meta tensors have no address."""
    place: int = tensor.untyped_storage()._cdata
    return place


def costs(params: Params) -> tuple[Cost, Cost]:
    """(cost of the main net, cost of C)."""
    image, size = params.data.channels, params.data.size
    condition = condition_channels(params.task, image)
    with_estimate = condition + (image if params.diffusion.self_condition else 0)
    with torch.device("meta"):
        t = torch.empty(1)
        main = params.model.build(image + with_estimate, image, size)
        module = params.compensation.build(image + condition, image, size)
        return (
            cost_of(main, torch.empty(1, image + with_estimate, size, size), t),
            cost_of(module, torch.empty(1, image + condition, size, size), t),
        )


def path_flop(params: Params, main: Cost, module: Cost) -> int:
    """FLOP per image on the path of train.method, besides the training step itself; averaged over all images seen.

    Includes the estimate that a self-conditioned net is given for half of the images. The fit of C in its epochs is
    not counted.
    """
    settings, name = params.train.compensation, params.train.method
    method = choice(METHODS, name)
    mean: float = sum(method.share(settings, (i + 0.5) / MOMENTS) for i in range(MOMENTS)) / MOMENTS
    passes = settings.gap if name == "scheduled_sampling" else 1
    path = mean * (passes * main.forward + (module.forward if method.USES_COMPENSATOR else 0))
    return round(path + (main.forward / 2 if params.diffusion.self_condition else 0))


def sample_flop(variant: Variant, main: Cost, module: Cost) -> int:
    """FLOP of one sample of a variant. The fit of a sampler, once before the first sample, is not counted."""
    calls = 2 * variant.count - 1 if variant.sampler == "heun" else variant.count
    calls -= variant.terminal == "mean"  # at T no pass of a net is needed
    corrected = variant.correction is not None and variant.correction.needs_compensator
    rounds = variant.repaint.rounds if variant.repaint else 1
    return rounds * calls * (main.forward + (module.forward if corrected else 0))


def copies_memory(main: Cost) -> int:
    """Bytes of all copies of the main net's weights in training."""
    return COPIES * FLOAT32 * main.parameters


def training_images(data: DataSettings) -> int | None:
    """Number of images in the train split, if params.yaml and the published size of the source tell it; else None.

    A source of a published size has `PUBLISHED`, with its `images` in all, or `TRAIN_IMAGES` of its official split.
    """
    source = choice(SOURCES, data.source)
    if data.held_out == "official":
        train: int | None = getattr(source, "TRAIN_IMAGES", None)
        return train if data.limit is None else None
    published = getattr(source, "PUBLISHED", None)
    total = published.images if published is not None and data.limit is None else data.limit
    return None if total is None else total - count_test(total, data.held_out)


def derived(params: Params) -> str:
    """Return the figures as YAML comments, to append to the params file that they follow from."""
    main, module = costs(params)
    copies = copies_memory(main)
    lines = [
        "Derived figures, for one image (nothing reads them)",
        f"main net:    {params.model.name}, {_in_words(main)}",
        f"net C:       {_in_words(module)}",
        f"memory:      {readable_bytes(copies + main.activations)} to train the main net on batch 1 in float32:",
        f"             {readable_bytes(copies)} weights, gradients, AdamW's two states and EMA,",
        f"             {readable_bytes(main.activations)} activations",
        f"alpha-bar:   {alpha_bar(params):.3g} at T = {params.diffusion.steps}",
        f"training:    {params.train.images:,} images, {_passes(params)}",
    ]
    if params.train.method != "plain":
        lines.append(f"             on the path of train.method {_giga(main.forward + module.forward)} more for each")
    return "".join(f"# {line}\n" for line in (*lines, *NOTES))


def alpha_bar(params: Params) -> float:
    """The share of signal (of its variance) that is left in x_T."""
    return float(SCHEDULES[params.diffusion.schedule](params.diffusion.steps).sqrt_alpha_bar[-1] ** 2)


def _in_words(cost: Cost) -> str:
    forward, training = _giga(cost.forward), _giga(cost.training)
    return f"{cost.parameters:,} parameters; {forward} forward, {training} forward and backward"


def _giga(flop: int) -> str:
    """Format FLOP as GFLOP, with three significant digits, or with all digits before the point if these are more."""
    count = flop / 1e9
    return f"{count:,.0f} GFLOP" if count >= 100 else f"{count:.3g} GFLOP"


def _passes(params: Params) -> str:
    """Describe how often training sees each image."""
    images = training_images(params.data)
    if images is None:
        return f"passes unknown: how many images {params.data.source} has is seen when they are prepared"
    at_most = " at most" if params.data.limit is not None and params.data.path is not None else ""
    return f"{params.train.images / images:,.4g} passes over {images:,} images{at_most}"
