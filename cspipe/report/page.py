"""Rendering of a Report as one HTML file that needs no other file. The same inputs give the same bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cspipe.ingest.settings import DataSettings
from cspipe.report.charts import Reference, Series, line_chart
from cspipe.report.numbers import MINUS, TIMES, compact, count, kid, significant
from cspipe.report.paired import families_table, measures_table, paired_verdict
from cspipe.report.results import Bracket, Columns, Report
from cspipe.report.summary import leaders, module_effects, module_helps, verdict
from cspipe.sampling.correction import CorrectionSettings
from cspipe.sampling.settings import Variant

EXTRACTORS = {"efficientnet-lite0": "EfficientNet-Lite0", "inception-v3-compat": "Inception v3 (TF weights)"}
TASKS = {"generate": [], "inpaint": ["inpainting"], "deocclude": ["de-occlusion"]}
IMAGES_SEEN = "images seen"
NATIVE_STEP = "t, native step (0: clean)"


def render(report: Report, stages: Sequence[str]) -> str:
    """Render the HTML page. `stages` names the run logs, log/<stage>.js beside the page, in pipeline order."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(significant=significant, count=count, compact=compact, kid=kid)
    environment.globals.update(
        sampler_words=sampler_words, correction_words=correction_words, scale_position=scale_position, nan=math.nan
    )
    return environment.get_template("page.html.jinja").render(
        report=report,
        params=report.params,
        stages=list(stages),
        title=data_words(report.params.data),
        summary=summary_facts(report),
        extractor=EXTRACTORS[report.params.evaluate.extractor],
        truth_verdict=paired_verdict(report.results),
        truth_tables=list(filter(None, [measures_table(report.results), families_table(report.results)])),
        verdict=verdict(report.results, report.bracket, report.real),
        effects=module_effects(report.results),
        helps=module_helps("C fit in training", report.curves["train_norm"])
        + module_helps("C of the compensate stage", report.curves["norm"]),
        best=[result.name for result in leaders(report.results)],
        charts=_charts(report.curves),
        provenance={
            r.name: json.dumps(r.metrics.provenance[0].model_dump(), indent=2, sort_keys=True) for r in report.results
        },
    )


def data_words(data: DataSettings) -> str:
    """Describe the images in a few words: 'pixel-art avatars'; for files the name of data.path, without its folders."""
    if data.source == "avatars":
        return f"{data.avatars.style} avatars"
    return data.path.stem if data.path else data.source


def summary_facts(report: Report) -> list[str]:
    """Return what was trained, on which images and for how long, one fact per entry."""
    params, index = report.params, report.index
    colour = "grey" if index.channels == 1 else "RGB"
    return [
        f"{index.size} {TIMES} {index.size} {colour}",
        f"{count(index.splits['train'].images)} training images",
        f"{count(max(result.metrics.provenance[0].images_seen for result in report.results))} images seen",
        f"{compact(report.parameters)} parameters (net C {compact(report.module_parameters)})",
        f"T = {params.diffusion.steps}, {params.diffusion.schedule}, {params.diffusion.prediction}-prediction",
        f"{params.train.method} training",
        *TASKS[params.task],
    ]


def sampler_words(variant: Variant) -> str:
    """Describe the sampler, with what its name does not say: eta, a start from the mean image, an earlier net."""
    eta = "" if variant.sampler == "ddpm" or variant.eta == 0 else f", η {variant.eta:g}"
    mean = ", from the mean" if variant.terminal == "mean" else ""
    return variant.sampler + eta + mean + (f", {compact(variant.snapshot)} images seen" if variant.snapshot else "")


def correction_words(correction: CorrectionSettings | None) -> str:
    """Describe the correction in its own words, '0.5 x kappa, cap 0.3' for the compensation; 'none' without one."""
    return "none" if correction is None else correction.words()


def scale_position(value: float, bracket: Bracket) -> float | None:
    """Return a KID's place from held-out real images (0) to noise (100), on a log scale, in per cent; None: no scale.

    The scale spans four decades at most (an unbiased KID may be 0 or negative); a value outside is placed at its end.
    """
    best, worst = bracket.heldout_kid, bracket.noise_kid
    low = max(best, worst / 1e4) if math.isfinite(best) else worst / 1e4
    if not (math.isfinite(value) and 0 < low < worst < math.inf):
        return None
    return round(100 * math.log(min(max(value, low), worst) / low) / math.log(worst / low), 1)


def _charts(curves: dict[str, Columns]) -> dict[str, Markup]:
    """Draw all charts, by name."""
    left = f"‖x0 {MINUS} x0_hat {MINUS} C‖ / ‖x0 {MINUS} x0_hat‖"
    nothing, useless = Reference(1.0, "1: as large as the error"), Reference(1.0, "1: C does nothing")

    def chart(title: str, curve: str, column: str, y_label: str, **options: Any) -> Markup:
        """Draw a column of a curve over images seen, or over t; `norm` with a second line for the C fit in training."""
        lines = {"norm": {"compensate stage": "norm", "in training": "train_norm"}}.get(curve, {column: curve})
        axis = "step" if "step" in curves[curve] else "t"
        series = [Series(name, curves[key][axis], curves[key][column]) for name, key in lines.items()]
        shown = [each for each in series if each.x] or series[:1]
        return line_chart(title, shown, IMAGES_SEEN if axis == "step" else NATIVE_STEP, y_label, **options)

    return {
        "loss": chart("Loss", "loss", "loss", "loss", log_y=True),
        "share": chart("Compensated share", "share", "share", "share of each batch, 0 to 1", from_zero=True),
        "grad_norm": chart("Gradient norm", "grad_norm", "grad_norm", "norm, before clipping", log_y=True),
        "module_loss": chart("Loss of the net C", "module_loss", "loss", "loss of C", log_y=True),
        "norm": chart(
            "Norm ratio", "norm", "norm_ratio", f"‖C‖ / ‖x0 {MINUS} x0_hat‖", from_zero=True, reference=nothing
        ),
        "error": chart("Remaining error", "norm", "error", left, from_zero=True, reference=useless),
        "alpha_bar": chart("Alpha-bar", "schedule", "alpha_bar", "alpha-bar, share of signal", from_zero=True),
        "kappa": chart("Kappa", "schedule", "kappa", f"kappa(t, t {MINUS} 1)", log_y=True),
    }
