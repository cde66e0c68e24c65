"""What holds for every main net and for every compensation net."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cspipe.compensation import COMPENSATORS, CompensationSettings
from cspipe.compensators import transformer
from cspipe.nets.backbone import BACKBONES
from cspipe.runtime.registry import find, names_in
from tests.conftest import MODELS
from tests.exchange.conftest import slow

Build = Callable[..., nn.Module]
NETS = [*(f"main {name}" for name in names_in(BACKBONES)), *names_in(COMPENSATORS)]
TRACED = ("main dit", "transformer")
"""Nets whose graph the fast tests look for, those of tests/gpu apart: tracing takes seconds each."""


@pytest.fixture(params=NETS)
def build(request: pytest.FixtureRequest) -> Build:
    """(image channels, size, condition channels) to a small net with fixed weights.

    No group of its norms holds a single channel: such a norm swallows the bias before it, whose gradient is then 0.
    """

    def make(channels: int, size: int, condition: int = 0) -> nn.Module:
        torch.manual_seed(0)
        if request.param.startswith("main"):
            keys = MODELS[request.param.removeprefix("main ")]
            moved = {"attention": [size // 2]} if "attention" in keys else {}
            model = find(BACKBONES, keys["name"], "Settings")(**{**keys, **moved})
            return model.build(channels + condition, channels, size).eval().requires_grad_()  # frequencies, too
        module = CompensationSettings(
            net=request.param, channels=48, epochs=1, batch=1, learning_rate=1e-3, loss="l2", states="forward"
        )
        return module.build(channels + condition, channels, size).eval()

    return make


def inputs(channels: int = 3, size: int = 8, count: int = 2) -> tuple[Tensor, Tensor]:
    """Images and times with fixed values."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn((count, channels, size, size), generator=generator)
    return x, 1000 * torch.rand(count, generator=generator)


@pytest.mark.parametrize(("channels", "size"), [(1, 12), (3, 32)])
def test_starts_at_zero_in_the_shape_of_the_image(build: Build, channels: int, size: int, stir) -> None:
    x, t = inputs(channels, size)
    net = build(channels, size)
    assert torch.equal(net(x, t), torch.zeros_like(x))
    stirred = stir(net)(x, t)
    assert stirred.shape == x.shape
    assert stirred.std() > 1e-3


def test_reads_a_condition_after_the_channels_of_the_image(build: Build, stir) -> None:
    net, (x, t) = stir(build(3, 8, 4)), inputs()
    condition = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    output = net(torch.cat([x, condition], 1), t)
    assert output.shape == x.shape
    for channel in range(4):
        other = condition.index_copy(1, torch.tensor([channel]), -condition[:, [channel]])
        assert (net(torch.cat([x, other], 1), t) - output).abs().amax((1, 2, 3)).min() > 1e-4


def test_gradient_reaches_every_parameter(build: Build, stir) -> None:
    net, (x, t) = stir(build(3, 8)).double(), inputs()
    net(x.double(), t.double()).square().sum().backward()
    gone = [name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9]
    assert [name for name in gone if not name.endswith("to_k.bias")] == []  # the same on all keys: softmax has none


def test_images_of_a_batch_do_not_meet(build: Build, stir) -> None:
    net, (x, t) = stir(build(3, 8)), inputs(count=3)
    together = net(x, t)
    alone = torch.cat([net(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    x[1], t[1] = 9.0, 1.0
    assert torch.equal(net(x, t)[[0, 2]], together[[0, 2]])


@pytest.mark.parametrize("build", [name if name in TRACED else slow(name) for name in NETS], indirect=True)
def test_compiles_as_one_graph(build: Build, stir) -> None:
    net, (x, t) = stir(build(3, 8)), inputs()
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, t), net(x, t))


def test_channels_last_gives_the_same_and_no_layer_loses_it(build: Build, stir) -> None:
    """The layout of nets on a GPU: up to the order of sums."""
    net, (x, t) = stir(build(3, 16)), inputs(size=16)
    last, lost = copy.deepcopy(net).to(memory_format=torch.channels_last), []

    def look(layer: nn.Module, given: tuple[Tensor], made: Tensor) -> None:
        features = [each for each in (*given, made) if each.shape[1] > 3]  # all but the image itself
        lost.extend(layer for each in features if not each.is_contiguous(memory_format=torch.channels_last))

    for layer in last.modules():
        if isinstance(layer, (nn.Conv2d, nn.GroupNorm)):
            layer.register_forward_hook(look)
    for each in (net, last):
        each(x, t).square().sum().backward()
    assert lost == [] or type(net).__name__ == "UNet2D", "diffusers' attention works on rows of pixels"
    for ours, theirs in zip(last.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6 + 1e-4 * float(theirs.grad.abs().max()))


def test_the_transformer_knows_positions(stir) -> None:
    torch.manual_seed(0)
    net = stir(transformer.build(3, 3, 8, 16))
    x = torch.randn(1, 3, 4, 4).repeat(1, 1, 2, 2)
    out = net(x, torch.tensor([500.0]))
    assert (out[..., :4] - out[..., 4:]).abs().max() > 1e-2
