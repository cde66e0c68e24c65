"""Draw the images of README.md and of docs/ from finished runs.

`uv run python docs/figures.py step`: docs/step.png, from the formulas alone.
`uv run python docs/figures.py first-step`: docs/first-step.png, from the formulas and docs/results/few-steps.json.
`uv run python docs/figures.py inpaint-variance`: docs/inpaint-variance.png, from docs/results/inpaint-variance.tsv.
`uv run python docs/figures.py first-estimate TO_T BELOW`: docs/first-estimate.png, from two models/main: one trained up
to T, one below it.
`uv run python docs/figures.py one-step-behind PLAIN COMPENSATED`: docs/one-step-behind.png, from the folders of two
finished runs, of T = 10, and docs/results/one-step-behind.json.
`uv run python docs/figures.py` after `dvc repro`: docs/overview.png, from the results in the working tree.
`uv run python docs/figures.py INPAINT DEOCCLUDE`: docs/tasks.png, from the folders of two runs.
`uv run python -m docs.figures serve` after `dvc repro`: docs/serve.png, the page of `cspipe serve` in Chromium
(`apt install chromium`).
"""

from __future__ import annotations

import base64
import csv
import itertools
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from cspipe.config.params_file import load_params
from cspipe.data.grid import comparison, grid, save_png
from cspipe.data.pixels import quantise
from cspipe.data.shards import open_split
from cspipe.diffusion.ddim import ddim_step, evenly_spaced
from cspipe.diffusion.process import add_noise
from cspipe.diffusion.schedule import cosine_schedule
from cspipe.runtime.device import open_device
from cspipe.stages.nets import finished_denoiser
from cspipe.study.results import read_results
from cspipe.study.statistics import interval

COLUMNS, ROWS, SCALE, MARGIN, HEADING, NARROWEST = 6, 4, 3, 24, 34, 380
TASK_ROWS, TASK_VARIANT = 7, "ddim-10"
FILLED = {
    ("plain", "ddim-10"): "plain",
    ("own-step", "ddim-10"): "own steps, no C",
    ("cs", "ddim-10"): "compensated",
    ("plain", "ddim-2"): "plain, two steps",
    ("more", "ddim-10"): "plain, 1.4 times as long",
}
"""Labels of the rows and variants of the study `inpaint` that are shown."""


def overview() -> dict[str, Image.Image]:
    """Return grids of training images, plain samples and compensated samples, by title."""
    count = COLUMNS * ROWS
    panels = {
        "training images": open_split(Path("data/prepared"), "train").gather(np.arange(count)),
        "sampled: DDIM": np.load("samples/ddim-100/samples.npy")[:count],
        "sampled: DDIM + compensation": np.load("samples/cs-100/samples.npy")[:count],
    }
    return {title: grid(images, COLUMNS, SCALE) for title, images in panels.items()}


def task(run: Path) -> Image.Image:
    """Draw some results of a run beside inputs and truths."""
    folder = run / "samples" / TASK_VARIANT
    families = len(json.loads((folder / "samples.json").read_text())["families"])
    chosen = np.arange(TASK_ROWS) * (families + 1 if families > 1 else 1)  # another image and family in each row
    results, inputs = (np.load(folder / name)[chosen] for name in ("samples.npy", "inputs.npy"))
    truths = open_split(run / "data/prepared", "test").gather(chosen // families)
    return comparison(inputs[:, : results.shape[1]], results, truths, pairs=1)


def step_figure() -> Figure:
    """Plot kappa along trajectories, and one pixel in ten steps with an estimate that is always 0.5 too high."""
    schedule, figure = cosine_schedule(100), Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for steps in (100, 10, 5):
        times = torch.tensor(evenly_spaced(100, steps))
        left.plot(times[:-1], schedule.kappa(times[:-1], times[1:]), ".-", label=f"{steps} steps")
    left.set(title="kappa(t, s): how much of the error enters a step", xlabel="t", xlim=(102, -2))
    x0, eps = torch.full((1, 1, 1, 1), -0.3).double(), torch.full((1, 1, 1, 1), 1.2).double()
    times = torch.tensor(evenly_spaced(100, 10)).unsqueeze(1)
    right.plot(times, [float(add_noise(x0, eps, t, schedule)) for t in times], "k--", label="true")
    for label, known in (("DDIM", 0.0), ("compensated, C knows 80 %", 0.8)):
        states = [add_noise(x0, eps, times[0], schedule)]
        for t, s in itertools.pairwise(times):
            state = ddim_step(states[-1], x0 + 0.5, t, s, schedule)
            states.append(state - known * 0.5 * schedule.kappa(t, s))
        right.plot(times, [float(state) for state in states], ".-", label=label)
    right.set(title="a pixel in ten steps", xlabel="t", xlim=(102, -2))
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def first_step_figure() -> Figure:
    """Plot what random signs at t = T add to the first state, and their effect on scores."""
    schedule, figure = cosine_schedule(100), Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = torch.tensor([5, 10, 20, 50, 100])
    left.loglog(steps, schedule.kappa(torch.full_like(steps, 100), 100 - 100 // steps) ** 2, ".-")
    left.set(title="variance that random signs add in the first step", xlabel="steps")
    left.set_xticks(steps, [str(int(each)) for each in steps], minor=False)
    left.minorticks_off()
    results = read_results(Path("docs/results/few-steps.json"))
    images = [float(point) for point in results.study.points]
    for number, line in enumerate(("plain / net-10", "cs / net-10", "plain / mean-10", "cs / mean-10")):
        scores = [
            interval(list(results.scores(line, point, "frechet").values())).mean for point in results.study.points
        ]
        right.plot(images, scores, "o--" if number < 2 else "o-", color=f"C{number % 2}", label=line)
    right.set(title="Frechet distance, mean of the seeds", xlabel="images seen", xscale="log", ylim=(0, None))
    right.set_xticks(images, [f"{each:,.0f}" for each in images])
    right.minorticks_off()
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def first_estimate(model: Path) -> Image.Image:
    """Draw x0_hat(T) of a net, from the same noise for every net with its shape of images."""
    denoise, config = finished_denoiser(open_device(load_params().compute), model)
    shape = (COLUMNS * ROWS, config["channels"], config["size"], config["size"])
    x_T = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    x0_hat = denoise(x_T, torch.full((len(x_T),), denoise.schedule.steps))
    return grid(quantise(x0_hat).numpy(), COLUMNS, 48 // config["size"])


@torch.no_grad()
def errors(plain: Path, compensated: Path) -> dict[str, list[float]]:
    """Return mean square errors of x0_hat on held-out images for s = 1..T - 1; the reverse step is without C."""
    device, split = open_device(load_params().compute), open_split(plain / "data/prepared", "test")
    x0 = torch.from_numpy(split.gather(np.arange(len(split)))).float() / 127.5 - 1
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    net, behind = (finished_denoiser(device, run / "models/main")[0] for run in (plain, compensated))
    schedule, labels = net.schedule, ("plain", "plain, one step earlier", "compensated, after its own step")
    curves: dict[str, list[float]] = {label: [] for label in labels}
    for number in range(1, schedule.steps):
        t, s = torch.full((len(x0),), number + 1), torch.full((len(x0),), number)
        x_t, x_s = (add_noise(x0, eps, time, schedule) for time in (t, s))
        reached = ddim_step(x_t, behind(x_t, t), t, s, schedule)
        for curve, x0_hat in zip(curves.values(), (net(x_s, s), net(x_t, t), behind(reached, s)), strict=True):
            curve.append(float((x0_hat - x0).square().mean()))
    return curves


def missing(steps: int, variance: float, compensated: bool) -> float:
    """Return the variance that sampling misses at T / 2, for Gaussian data and linear nets (docs/METHOD.md)."""
    schedule = cosine_schedule(steps)
    ab = schedule.sqrt_alpha_bar**2
    best = schedule.sqrt_alpha_bar * variance / (ab * variance + 1 - ab)
    estimate, state = float(best[steps]), 1.0
    for t in range(steps, steps // 2, -1):
        time, one = torch.tensor([t]), torch.ones((1, 1, 1, 1))
        factor = float(ddim_step(one, estimate * one, time, time - 1, schedule))
        estimate, state = float(best[t]) / factor if compensated else float(best[t - 1]), state * factor**2
    return float(ab[steps // 2] * variance + 1 - ab[steps // 2]) - state


def one_step_behind_figure(plain: Path, compensated: Path) -> Figure:
    """Plot errors of x0_hat on true states and on those of own steps, and the variance that sampling misses."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    curves = errors(plain, compensated)
    for (label, curve), style in zip(curves.items(), ("C0o-", "C0--", "C1o"), strict=True):
        left.semilogy(range(1, len(curve) + 1), curve, style, label=label)
    left.set(title="mean square error of the estimate of x0", xlabel="timestep s")
    results = read_results(Path("docs/results/one-step-behind.json"))
    images = open_split(plain / "data/prepared", "train")
    variance = float((images.gather(np.arange(len(images))) / 127.5).reshape(len(images), -1).var(1).mean())
    for number, method in enumerate(("plain", "cs")):
        rows = {int(row.split("-")[1]): row for row in results.study.rows if row.startswith(f"{method}-")}
        scores = [[-score for score in results.scores(row, None, "exposure_50").values()] for row in rows.values()]
        means = [interval(values) for values in scores]
        spans = [[each.mean - each.low for each in means], [each.high - each.mean for each in means]]
        label = ("plain", "compensated")[number]
        right.errorbar(list(rows), [each.mean for each in means], spans, fmt=f"C{number}o", label=label)
        theory = [missing(steps, variance, compensated=number == 1) for steps in rows]
        right.plot(list(rows), theory, f"C{number}--", label=f"{label}, Gaussian data")
    right.set(title="variance that sampling misses at T / 2", xlabel="T", xscale="log", ylim=(0, None))
    right.set_xticks(list(rows), [str(steps) for steps in rows])
    right.minorticks_off()
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def inpaint_variance_figure() -> Figure:
    """Plot the error in holes as bars, split into the variance of results and the rest, with the PSNR."""
    with Path("docs/results/inpaint-variance.tsv").open(newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    for axes, point in zip(figure.subplots(1, 2, sharex=True, sharey=True), ("10", "100"), strict=True):
        for (row, variant), label in FILLED.items():
            chosen = [line for line in lines if (line["row"], line["point"], line["variant"]) == (row, point, variant)]
            columns = ([float(line[key]) for line in chosen] for key in ("rest", "variance", "psnr"))
            rest, variance, psnr = map(np.mean, columns)
            axes.barh(label, rest, color="C0", label="error of the mean of many results")
            axes.barh(label, variance, left=rest, color="C1", label="variance of results")
            axes.text(rest + variance, label, f" {psnr:.2f} dB", va="center")
        axes.set(title=f"mean square error in the holes, T = {point}", xlim=(0, 0.2), xticks=(0, 0.05, 0.1, 0.15))
        axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[:2], labels[:2], loc="outside lower center", ncols=2, frameon=False)
    return figure


def serve_page() -> bytes:
    """Take a screenshot of `cspipe serve`: nine compensated samples in 20 steps, and a stroke over the eyes of one."""
    from tests.cli.browser import browser
    from tests.cli.test_serve import serving

    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path("models")) as server,
        browser(Path(folder), f"{server.url}/#{server.token}") as tab,
    ):
        tab.call("Emulation.setScrollbarsHidden", hidden=True)
        tab.size(1080, 735)
        tab.until("document.body?.dataset.done == 1")
        for name, value in {"seed": 41, "count": 3, "steps": 20}.items():
            tab.js(f"$('{name}').value = {value}")
        tab.js("$('compensation').checked = true; again()")
        tab.until("document.body.dataset.done == 2")
        tab.js("document.querySelectorAll('#gallery canvas')[4].click()")
        left, top, side = tab.js("(box => [box.left, box.top, box.width])(mask.getBoundingClientRect())")
        tab.drag((left + 0.3 * side, top + 0.42 * side), (left + 0.7 * side, top + 0.42 * side))
        return base64.b64decode(tab.call("Page.captureScreenshot")["data"])


def side_by_side(panels: Mapping[str, Image.Image], narrowest: int = 0) -> Image.Image:
    """Paste panels of one size side by side, under their titles, each at least `narrowest` pixels wide."""
    width, height = next(iter(panels.values())).size
    width = max(width, narrowest)
    canvas = Image.new("RGB", (len(panels) * (width + MARGIN) + MARGIN, height + HEADING + MARGIN), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=17)
    for column, (title, image) in enumerate(panels.items()):
        left = MARGIN + column * (width + MARGIN)
        draw.text((left, 8), title, fill="black", font=font)
        canvas.paste(image, (left, HEADING))
    return canvas


FORMULAS = {"step": step_figure, "first-step": first_step_figure, "inpaint-variance": inpaint_variance_figure}

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in FORMULAS:
        FORMULAS[sys.argv[1]]().savefig(f"docs/{sys.argv[1]}.png", dpi=140, metadata={"Software": None})
    elif sys.argv[1:2] == ["serve"]:
        Path("docs/serve.png").write_bytes(serve_page())
    elif sys.argv[1:2] == ["first-estimate"]:
        nets = dict(zip(("trained at t = T", "not trained at t = T"), map(Path, sys.argv[2:]), strict=True))
        panels = {title: first_estimate(net) for title, net in nets.items()}
        save_png(side_by_side(panels), Path("docs/first-estimate.png"))
    elif sys.argv[1:2] == ["one-step-behind"]:
        figure = one_step_behind_figure(*map(Path, sys.argv[2:]))
        figure.savefig("docs/one-step-behind.png", dpi=140, metadata={"Software": None})
    elif runs := sys.argv[1:]:
        names = (f"{name}: input, result, truth, difference" for name in ("inpainting", "de-occlusion"))
        tasks = dict(zip(names, map(task, map(Path, runs)), strict=True))
        save_png(side_by_side(tasks, NARROWEST), Path("docs/tasks.png"))
    else:
        save_png(side_by_side(overview()), Path("docs/overview.png"))
