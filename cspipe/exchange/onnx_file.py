"""Export one reverse step as an ONNX file; calling it in a loop samples."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from cspipe.compensation import Compensation, Weighting
from cspipe.diffusion.ddim import ddim_step
from cspipe.diffusion.process import clean_estimate, net_input, per_image
from cspipe.diffusion.schedule import Schedule
from cspipe.exchange.source import Source
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file

LARGEST = 15 * 2**27
"""Maximum bytes of main net weights in the file itself, which is a protobuf message of at most 2 GiB, with C."""


class ReverseStep(nn.Module):
    """A DDIM step from t to s and, with a net C, its compensation with the weight kappa."""

    signal: Tensor
    noise: Tensor

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.net = source.main.net
        C = source.compensator
        self.C = C.net if C else None
        self.mean = source.mean.net if source.mean else None
        self.seen_by_C = C.arguments["in_channels"] - source.channels if C else 0
        self.prediction, self.scale = source.diffusion.prediction, 1000 / source.diffusion.steps
        schedule = source.diffusion.new_schedule().to(torch.device("cpu"))
        self.register_buffer("signal", schedule.sqrt_alpha_bar)
        self.register_buffer("noise", schedule.sqrt_one_minus_alpha_bar)

    def forward(self, x_t: Tensor, t: Tensor, s: Tensor, told: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return x_s and x0_hat (N, C, H, W) from x_t (N, C, H, W), steps t > s (N,) int64 and told (N, K, H, W)."""
        schedule = Schedule(self.signal, self.noise)
        inputs = net_input(self.prediction, x_t, t, schedule)
        output = self.net(inputs if told is None else torch.cat([inputs, told], 1), t * self.scale)
        x0_hat = clean_estimate(self.prediction, output, x_t, t, schedule)
        given = per_image(t == schedule.steps)
        if self.mean is not None:
            x0_hat = torch.where(given, self.mean(x_t, t), x0_hat)
        x_s = ddim_step(x_t, x0_hat, t, s, schedule)
        if self.C is not None:
            seen = x0_hat if told is None else torch.cat([x0_hat, told[:, : self.seen_by_C]], 1)
            exact = Compensation(self.C, schedule, Weighting(weight="kappa", scale=1.0, cap=None))
            added = exact.add(x_s, self.C(seen, t * self.scale), t, s)
            x_s = added if self.mean is None else torch.where(given, x_s, added)
        return x_s, x0_hat


def write_onnx(source: Source, out: Path) -> str:
    """Write the file; return a line on its inputs and outputs. Raises UserError where the packages are missing.

    Inputs are x_t, t, s and, where the net sees more than the image, told: the condition, then its previous estimate.
    """
    told = source.main.arguments["in_channels"] - source.channels
    x, t = torch.zeros(2, source.channels, source.size, source.size), torch.tensor([source.diffusion.steps] * 2)
    inputs = {"x_t": x, "t": t, "s": t - 1}
    if told:
        inputs["told"] = torch.zeros(2, told, source.size, source.size)
    batch = {name: {0: Dim("batch")} for name in inputs}
    try:
        import onnx

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                ReverseStep(source).eval(), tuple(inputs.values()), dynamo=True, dynamic_shapes=tuple(batch.values()),
                input_names=list(inputs), output_names=["x_s", "x0_hat"], verbose=False,
            )  # fmt: skip
    except ImportError:
        raise UserError("ONNX needs more packages; `pip install 'cspipe[export]'` brings them") from None
    assert program is not None, "with dynamo it is returned"
    model = program.model_proto
    facts = {"native_steps": source.diffusion.steps, "task": source.task, "compensated": source.compensator is not None}
    facts["terminal"] = "mean" if source.mean else "net"
    for key, value in facts.items():
        model.metadata_props.add(key=f"cspipe.{key}", value=json.dumps(value))
    weights = out.with_name(f"{out.name}.data")
    apart = sum(tensor.nbytes for tensor in source.main.net.state_dict().values()) > LARGEST
    if apart:
        weights.unlink(missing_ok=True)  # onnx would write into an existing file
    with whole_file(out) as beside:
        onnx.save(model, beside, save_as_external_data=apart, location=weights.name)
    said = f"; the weights are in {weights.name} beside it" if apart else ""
    return f"inputs {', '.join(inputs)} of any batch, outputs x_s, x0_hat; t and s in 0..{source.diffusion.steps}{said}"
