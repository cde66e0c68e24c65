"""Derived figures: closed forms where there are some, real memory where there are none."""

from collections.abc import Callable

import pytest
import torch
import yaml
from torch import Tensor, nn

from cspipe.compensation import COMPENSATORS
from cspipe.config.overlays import preset_names, read_preset
from cspipe.config.params import Params
from cspipe.config.params_file import parse_params
from cspipe.config.workload import Cost, costs, derived, path_flop, sample_flop
from cspipe.data.conditions import condition_channels
from cspipe.exchange.draw import variant_of
from cspipe.runtime.registry import names_in
from tests.conftest import MODELS, Tree


def nets(params: Params) -> tuple[nn.Module, nn.Module, Tensor]:
    """The real nets on the CPU, and an input of theirs."""
    channels, size = params.data.channels, params.data.size
    condition = condition_channels(params.task, channels)
    main, module = (part.build(channels + condition, channels, size) for part in (params.model, params.compensation))
    return main, module, torch.randn(1, channels + condition, size, size)


def kept_in_memory(net: nn.Module, *inputs: Tensor) -> int:
    """Bytes of all tensors that autograd really saves, by their addresses, the weights left out."""
    weights = {weight.untyped_storage().data_ptr() for weight in (*net.parameters(), *net.buffers())}
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: (kept.append(each), each)[1], lambda each: each):
        output = net(*inputs)
    sizes = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in kept}
    del output
    return sum(size for place, size in sizes.items() if place not in weights)


@pytest.mark.parametrize(
    "net",
    [{"model": model} for model in MODELS.values()]
    + [{"compensation.net": module} for module in names_in(COMPENSATORS)],
    ids=lambda net: str(*net.values()) if "model" not in net else net["model"]["name"],
)
def test_activations_are_what_autograd_keeps_on_the_cpu(params: Callable[..., Params], net: Tree) -> None:
    """The small nets have attention and dropout. diffusers' attention copies on meta what it views on the CPU."""
    chosen = params({"model.dropout": 0.1, **net})
    main, other, x = nets(chosen)
    expected = [kept_in_memory(net, x, torch.ones(1)) for net in (main, other)]
    off = 0.02 if chosen.model.name == "unet2d" else 0
    assert [cost.activations for cost in costs(chosen)] == pytest.approx(expected, rel=off, abs=0)
    assert min(expected) > 4 * x.numel()


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_params_file(name: str) -> None:
    parse_params(read_preset(name).tree, name)


@pytest.mark.parametrize("name", ["demo-inpaint", "cifar10", "ffhq256-small"])
def test_a_preset_with_its_figures_stays_a_params_file(name: str) -> None:
    preset = read_preset(name)
    params = parse_params(preset.tree, name)
    figures = derived(params)
    assert parse_params(yaml.safe_load(preset.text() + figures), name) == params
    assert all(len(line) <= 120 for line in figures.splitlines())


def test_the_net_of_ffhq256_is_guided_diffusions() -> None:
    """552.8 M parameters and 1,120 G multiply-adds, as published for ADM at 256 pixels (both to their last digit)."""
    main, _ = costs(parse_params(read_preset("ffhq256").tree, "ffhq256"))
    assert round(main.parameters / 1e6, 1) == 552.8
    assert main.forward / 2e9 == pytest.approx(1120, rel=0.005)


@pytest.mark.parametrize(
    ("method", "changes", "expected"),
    [
        ("plain", {}, 0),
        ("compensated", {"fade": 0}, 110),
        ("compensated", {"fade": 0.5, "share": 0.8}, 0.8 * 0.25 * 110),
        ("compensated", {"fade": 0, "gap": 3}, 110),
        ("scheduled_sampling", {"fade": 0, "gap": 3}, 300),
        ("scheduled_sampling", {"fade": 1.0, "gap": 3}, 150),
    ],
)
def test_path_of_a_method_costs_its_passes_for_its_share(
    params: Callable[..., Params], method: str, changes: dict, expected: float
) -> None:
    keys = {f"train.compensation.{key}": value for key, value in changes.items()}
    main, module = (Cost(0, forward, 0, 0) for forward in (100, 10))
    assert path_flop(params({"train.method": method, **keys}), main, module) == pytest.approx(expected, abs=1)
    told = params({"train.method": method, **keys, "diffusion.self_condition": True})
    assert path_flop(told, main, module) == pytest.approx(expected + 50, abs=1)


@pytest.mark.parametrize(
    ("sampler", "compensated", "keys", "expected"),
    [
        ("ddim", True, {}, 1100),
        ("ddim", False, {}, 1000),
        ("heun", False, {}, 1900),
        ("heun", True, {"terminal": "mean"}, 1980),
        ("ddim", False, {"terminal": "mean", "repaint": {"rounds": 3, "masks": ["half"]}}, 2700),
        ("ddim", False, {"correction": {"name": "epsilon_scaling", "base": 1.005, "slope": 0.0}}, 1000),
    ],
)
def test_a_sample_costs_the_calls_of_its_sampler(
    sampler: str, compensated: bool, keys: dict, expected: int
) -> None:  # fmt: skip
    """Heun's last step of ten asks the net once, a mean image saves the first call, only C costs what C does."""
    main, module = (Cost(0, forward, 0, 0) for forward in (100, 10))
    assert sample_flop(variant_of(sampler, 10, compensated, **keys), main, module) == expected
