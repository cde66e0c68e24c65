"""Draw docs/forest.png: what compensation changes in the settings that were measured, from docs/results.

`uv run python docs/forest.py`
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cspipe.study.claims import UNDECIDED, decide
from cspipe.study.definition import Claim
from cspipe.study.results import RESULTS, Results, read_results
from cspipe.study.statistics import difference


class Pair(NamedTuple):
    """Two lines of a study's table to compare, and the point of the study at which."""

    label: str
    """Description of the setting; after "…" its difference from the one above."""
    study: str
    line: str
    than: str
    point: str | None = None


TRAINING = [
    Pair("faces, T = 10, eps, 16,000 images", "few-steps", "cs / mean-10", "plain / mean-10", "16000"),
    Pair("faces, T = 10, eps, 128,000 images", "few-steps", "cs / mean-10", "plain / mean-10", "128000"),
    Pair("… other seeds", "t-max", "cs / mean-10", "plain / mean-10"),
    Pair("… other seeds, not trained at T", "t-max", "cs-below / net-10", "plain-below / net-10"),
    Pair("faces, T = 10, v, 16,000 images", "few-steps", "cs-v / net-10", "plain-v / net-10", "16000"),
    Pair("faces, T = 10, v, 64,000 images", "one-step-behind", "cs-10", "plain-10"),
    Pair("faces, T = 10, v, 128,000 images", "few-steps-control", "cs", "plain"),
    Pair("faces, T = 10, x0, l1, 64,000 images", "loss", "cs-x0-l1 / net-10", "x0-l1 / net-10"),
    Pair("faces, T = 20, v, 64,000 images", "one-step-behind", "cs-20", "plain-20"),
    Pair("faces, T = 40, v, 64,000 images", "one-step-behind", "cs-40", "plain-40"),
    Pair("faces, T = 100, v, 32,000 images", "convergence", "cs-v / net-20", "plain-v / net-20", "32000"),
    Pair("faces, T = 100, eps, 32,000 images", "convergence", "cs / mean-20", "plain / mean-20", "32000"),
    Pair("… C fit after the warm-up, capped", "convergence", "cs-late / mean-20", "plain / mean-20", "32000"),
    Pair("… 100 sampling steps", "steps", "cs / mean", "plain / mean", "100"),
    Pair("… DDPM's U-Net", "backbone", "ddpm+cs / ddim-20", "ddpm / ddim-20"),
    Pair("… NCSN++", "backbone", "ncsnpp+cs / ddim-20", "ncsnpp / ddim-20"),
    Pair("… DiT", "backbone", "dit+cs / ddim-20", "dit / ddim-20"),
    Pair("faces, T = 100, eps, 256,000 images", "stability", "cs", "plain", "256000"),
    Pair("faces, T = 100, v, 128,000 images, 100 sampling steps", "t100", "cs / ddim-100", "plain / ddim-100"),
    Pair("… after as many operations", "t100", "cs / ddim-100", "longer / ddim-100"),
    Pair("faces, T = 1000, eps, 32,000 images", "steps", "cs / mean", "plain / mean", "1000"),
    Pair("faces, EDM's own levels, capped", "edm", "lognormal+cs-cap / heun-10", "lognormal / heun-10"),
    Pair("… other seeds", "edm-control", "cs-cap", "plain"),
    Pair("faces, EDM, even levels, capped", "edm", "edm+cs-cap / heun-10", "edm / heun-10"),
    Pair("faces, EDM, even levels, no cap", "edm", "edm+cs / heun-10", "edm / heun-10"),
    Pair("CIFAR-10, 16 px, T = 100, eps", "cifar10", "cs / ddim-20", "plain / ddim-20"),
    Pair("… after as many operations", "cifar10", "cs-short / ddim-20", "plain / ddim-20"),
    Pair("… other seeds", "cifar10-cap", "cs", "plain"),
    Pair("… other seeds, capped", "cifar10-cap", "cs-cap", "plain"),
    Pair("CIFAR-10, 16 px, T = 100, v", "cifar10", "cs-v / ddim-20", "plain-v / ddim-20"),
    Pair("… ten sampling steps, 80,000 images", "cifar10-t100", "cs / ddim-10", "plain / ddim-10"),
    Pair("… 100 sampling steps", "cifar10-t100", "cs / ddim-100", "plain / ddim-100"),
    Pair("CIFAR-10, 16 px, T = 10, v", "cifar10-few-steps", "cs / ddim-10", "plain / ddim-10"),
    Pair("CIFAR-10, 32 px, T = 100, eps, capped", "cifar10-32", "cs", "plain"),
    Pair("CIFAR-10, 32 px, T = 100, v, capped", "cifar10-32", "cs-v", "plain-v"),
    Pair("… other seeds", "cifar10-32-v", "cs", "plain"),
    Pair("400 photographs, 16 px, T = 100, eps", "orl-faces", "cs / ddim-20", "plain / ddim-20"),
    Pair("… after as many operations", "orl-faces", "cs-short / ddim-20", "plain / ddim-20"),
    Pair("400 photographs, 16 px, T = 100, v", "orl-faces", "cs-v / ddim-20", "plain-v / ddim-20"),
    Pair("… after as many operations", "orl-faces", "cs-v-short / ddim-20", "plain-v / ddim-20"),
]
OWN_STEPS = [
    Pair("faces, T = 10, v, 128,000 images", "few-steps-control", "own-step", "plain"),
    Pair("faces, T = 100, v, 100 sampling steps", "t100", "own-step / ddim-100", "plain / ddim-100"),
    Pair("faces, EDM's own levels", "edm-control", "own-step", "plain"),
    Pair("CIFAR-10, 16 px, T = 10, v", "cifar10-few-steps", "own-step / ddim-10", "plain / ddim-10"),
    Pair("CIFAR-10, 16 px, T = 100, eps", "cifar10-cap", "own-step", "plain"),
    Pair("CIFAR-10, 16 px, T = 100, v, ten sampling steps", "cifar10-t100", "own-step / ddim-10", "plain / ddim-10"),
    Pair("… 100 sampling steps", "cifar10-t100", "own-step / ddim-100", "plain / ddim-100"),
]
SAMPLING = [
    Pair("faces, T = 10, eps, 128,000 images", "few-steps", "plain / cs-10", "plain / mean-10", "128000"),
    Pair("faces, T = 10, v, 128,000 images", "few-steps-whole", "plain / cs-10", "plain / ddim-10"),
    Pair("… trained on own steps", "few-steps-whole", "own-step / cs-10", "own-step / ddim-10"),
    Pair("… compensated training", "few-steps-whole", "cs / cs-10", "cs / ddim-10"),
    Pair("faces, T = 10, x0, l1", "loss", "x0-l1 / cs-10", "x0-l1 / net-10"),
    Pair("… other seeds", "loss-control", "x0 / cs-10", "x0 / net-10"),
    Pair("faces, T = 10, v, l1", "loss", "v-l1 / cs-10", "v-l1 / net-10"),
    Pair("… other seeds", "loss-control", "v / cs-10", "v / net-10"),
    Pair("faces, T = 10, x0, l2", "loss", "x0-l2 / cs-10", "x0-l2 / net-10"),
    Pair("faces, T = 10, v, l2", "loss", "v-l2 / cs-10", "v-l2 / net-10"),
    Pair("faces, T = 100, eps, 32,000 images", "module-architecture", "plain / cs-20", "plain / ddim-20"),
    Pair("… 100 sampling steps", "steps", "plain / cs", "plain / mean", "100"),
    Pair("faces, T = 100, v, 100 sampling steps", "t100", "plain / cs-100", "plain / ddim-100"),
    Pair("… trained on own steps", "t100", "own-step / cs-100", "own-step / ddim-100"),
    Pair("… compensated training", "t100", "cs / cs-100", "cs / ddim-100"),
    Pair("2,000 faces, C in one epoch", "module-epochs", "1 / cs-20", "1 / ddim-20"),
    Pair("2,000 faces, C in ten epochs", "module-epochs", "10 / cs-20", "10 / ddim-20"),
    Pair("CIFAR-10, 16 px, T = 100, eps", "cifar10", "plain / cs-20", "plain / ddim-20"),
    Pair("CIFAR-10, 16 px, T = 10, v", "cifar10-few-steps", "plain / cs-10", "plain / ddim-10"),
    Pair("… trained on own steps", "cifar10-few-steps", "own-step / cs-10", "own-step / ddim-10"),
    Pair("… compensated training", "cifar10-few-steps", "cs / cs-10", "cs / ddim-10"),
    Pair("CIFAR-10, 16 px, T = 100, v, ten sampling steps", "cifar10-t100", "plain / cs-10", "plain / ddim-10"),
    Pair("… 100 sampling steps", "cifar10-t100", "plain / cs-100", "plain / ddim-100"),
    Pair("400 photographs, 16 px, T = 100, eps", "orl-faces", "plain / cs-20", "plain / ddim-20"),
    Pair("400 photographs, 16 px, T = 100, v", "orl-faces", "plain-v / cs-20", "plain-v / ddim-20"),
]
WHOLE = [
    Pair("faces, T = 10, eps, 128,000 images", "few-steps", "cs / cs-10", "plain / mean-10", "128000"),
    Pair("faces, T = 10, v, 128,000 images", "few-steps-whole", "cs / cs-10", "plain / ddim-10"),
    Pair("faces, T = 10, x0, l1, 64,000 images", "loss", "cs-x0-l1 / cs-10", "x0-l1 / net-10"),
    Pair("faces, T = 100, 100 sampling steps", "steps", "cs / cs", "plain / mean", "100"),
    Pair("faces, T = 100, v, 100 sampling steps", "t100", "cs / cs-100", "plain / ddim-100"),
    Pair("… after as many operations", "t100", "cs / cs-100", "longer / ddim-100"),
    Pair("CIFAR-10, 16 px, T = 100, eps", "cifar10", "cs / cs-20", "plain / ddim-20"),
    Pair("CIFAR-10, 16 px, T = 10, v", "cifar10-few-steps", "cs / cs-10", "plain / ddim-10"),
    Pair("CIFAR-10, 16 px, T = 100, v, ten sampling steps", "cifar10-t100", "cs / cs-10", "plain / ddim-10"),
    Pair("… 100 sampling steps", "cifar10-t100", "cs / cs-100", "plain / ddim-100"),
    Pair("400 photographs, 16 px, T = 100, eps", "orl-faces", "cs / cs-20", "plain / ddim-20"),
    Pair("400 photographs, 16 px, T = 100, v", "orl-faces", "cs-v / cs-20", "plain-v / ddim-20"),
]
NEITHER = [
    Pair("a tenth more images (x0, l1)", "loss-control", "x0-longer / net-10", "x0 / net-10"),
    Pair("1.4 times as many images (EDM)", "edm-control", "longer", "plain"),
    Pair("1.4 times as many images (T = 100, v)", "t100", "longer / ddim-100", "plain / ddim-100"),
    Pair("not trained at T (eps, ten steps)", "t-max", "plain-below / net-10", "plain / mean-10"),
    Pair("not trained at T (v, ten steps)", "t-max", "plain-v-below / net-10", "plain-v / net-10"),
    Pair("EDM's own noise levels, not even ones", "edm", "lognormal / heun-10", "edm / heun-10"),
]
GROUPS = {
    "compensated training, against plain": TRAINING,
    "the net's own steps without C, against plain": OWN_STEPS,
    "C in sampling, against none, same net": SAMPLING,
    "C in training and sampling, against neither": WHOLE,
    "without compensation, for scale": NEITHER,
}
COLOURS = {"held": "C0", "not held": "C3", UNDECIDED: "C7"}
WORDS = {"held": "better", "not held": "worse", UNDECIDED: "undecided"}
WIDEST = 45
"""Largest change on the axis, in percent; a larger one is drawn as a triangle at the edge, with its number."""


class Change(NamedTuple):
    """Change of the Frechet distance with its interval, in percent of that of the second line of a pair."""

    mean: float
    low: float
    high: float
    word: str
    """Verdict on the change by the rules of all studies."""
    claimed: bool
    """Whether a claim on the change was committed before the runs."""


def forest() -> Figure:
    """Plot the change for each pair with its 95 % interval."""
    figure = Figure(figsize=(9, 0.22 * sum(map(len, GROUPS.values())) + 1.5), layout="constrained")
    axes = figure.subplots()
    draw(axes)
    marks = [axes.plot([], [], "o", color=COLOURS[word], label=WORDS[word])[0] for word in COLOURS]
    marks += axes.plot([], [], "o", color="C7", fillstyle="none", label="open: no claim before the runs, so no verdict")
    figure.legend(handles=marks, loc="outside lower center", ncols=4, frameon=False)
    return figure


def draw(axes: Axes) -> None:
    """Draw a line for each pair, under the title of its group."""
    rows: list[tuple[str, Pair | None]] = []
    for title, pairs in GROUPS.items():
        rows += [(title, None), *((pair.label, pair) for pair in pairs)]
    axes.set(xlim=(-WIDEST, WIDEST), yticks=range(len(rows)), yticklabels=[label for label, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for place, (label, (_, pair)) in enumerate(zip(axes.get_yticklabels(), rows, strict=True)):
        if pair is None:
            label.set_fontweight("bold")
            continue
        mark(axes, place, change(pair))
        edge = axes.get_yaxis_transform()
        axes.text(1.03, place, pair.study, transform=edge, va="center", color="C7", fontsize="small")
    axes.axvline(0, color="black", linewidth=0.8, zorder=0)
    axes.set_xlabel("Frechet distance, change in %: left is better")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, pad=9)


def mark(axes: Axes, place: int, found: Change) -> None:
    """Draw a mean change with its interval, cut at the edges."""
    colour = COLOURS[found.word]
    look: dict[str, Any] = {"color": colour, "markerfacecolor": colour if found.claimed else "white"}
    axes.plot([max(found.low, -WIDEST), min(found.high, WIDEST)], [place] * 2, color=colour)
    if abs(found.mean) < WIDEST:
        axes.plot(found.mean, place, "o", **look)
        return
    side = 1 if found.mean > 0 else -1
    axes.plot(side * WIDEST, place, ">" if side > 0 else "<", clip_on=False, **look)
    where, aligned = side * (WIDEST - 1.5), "right" if side > 0 else "left"
    axes.text(where, place - 0.05, f"{found.mean:+.0f} %", ha=aligned, va="bottom", color=colour, fontsize="small")


def change(pair: Pair) -> Change:
    """Return the change from the second line of a pair to the first, over the seeds that both have."""
    results = read_results(RESULTS / f"{pair.study}.json")
    claim = Claim(text="better", kind="lower", row=pair.line, than=pair.than, score="frechet", point=pair.point)
    point = results.points[-1] if pair.point is None else pair.point
    ours, others = (results.scores(line, point, "frechet") for line in (pair.line, pair.than))
    seeds = sorted(ours.keys() & others.keys())
    found = difference([ours[seed] for seed in seeds], [others[seed] for seed in seeds])
    scale = 100 * len(seeds) / sum(others[seed] for seed in seeds)
    word = decide(claim, results).word
    return Change(found.mean * scale, found.low * scale, found.high * scale, word, claimed(pair, results))


def claimed(pair: Pair, results: Results) -> bool:
    """Whether a claim of the study, written before the runs, compares the two lines of a pair at its point."""
    last = results.points[-1]
    return any(
        (claim.row, claim.than, claim.score) == (pair.line, pair.than, "frechet")
        and (claim.point or last) == (pair.point or last)
        and claim.than_point is None
        and claim.kind in ("lower", "higher")
        and claim.text not in results.late
        for claim in results.study.claims
    )


if __name__ == "__main__":
    forest().savefig(Path("docs/forest.png"), dpi=140, metadata={"Software": None})
