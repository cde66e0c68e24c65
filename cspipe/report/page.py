"""The page: a Report as one HTML file that needs nothing beside it. Same inputs, same bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cspipe.config.params import Data
from cspipe.corrections import CorrectionSettings
from cspipe.report.charts import Reference, Series, line_chart
from cspipe.report.numbers import MINUS, TIMES, compact, count, kid, significant
from cspipe.report.paired import families_table, measures_table, paired_verdict
from cspipe.report.results import Bracket, Columns, Curves, Report, VariantResult
from cspipe.report.verdict import leaders, module_effects, verdict
from cspipe.sampling.variants import Variant

EXTRACTORS = {"efficientnet-lite0": "EfficientNet-Lite0", "inception-v3-compat": "Inception v3 (TF weights)"}
TASKS = {"generate": [], "inpaint": ["inpainting"], "deocclude": ["de-occlusion"]}
IMAGES_SEEN = "images seen"
NATIVE_STEP = "t, native step (0: clean)"


def render(report: Report, stages: Sequence[str]) -> str:
    """The HTML page. `stages` names the run logs, log/<stage>.js beside the page, in the order of the pipeline."""
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
        best=[result.name for result in leaders(report.results)],
        charts=_charts(report.curves),
        provenance={r.name: json.dumps(r.provenance.model_dump(), indent=2, sort_keys=True) for r in report.results},
    )


def data_words(data: Data) -> str:
    """The pictures in a few words: 'pixel-art avatars'; for files their name, without the folders above."""
    if data.source == "avatars":
        return f"{data.avatars.style} avatars"
    return data.path.stem if data.path else data.source


def summary_facts(report: Report) -> list[str]:
    """What was trained, on what and for how long, one fact an entry."""
    params, index = report.params, report.index
    colour = "grey" if index.channels == 1 else "RGB"
    return [
        f"{index.size} {TIMES} {index.size} {colour}",
        f"{count(index.splits['train'].images)} training pictures",
        f"{count(report.provenance.images_seen)} images seen",
        f"{compact(report.parameters)} parameters (module {compact(report.module_parameters)})",
        f"T = {params.diffusion.steps}, {params.diffusion.schedule}, {params.diffusion.prediction}-prediction",
        f"{params.train.method} training",
        *TASKS[params.task],
    ]


def sampler_words(variant: Variant) -> str:
    """The sampler, with its eta where the name does not say it."""
    return variant.sampler if variant.sampler == "ddpm" or variant.eta == 0 else f"{variant.sampler}, η {variant.eta:g}"


def correction_words(correction: CorrectionSettings | None) -> str:
    """The correction in its own words, '0.5 x kappa, cap 0.3' for the compensation; 'none'."""
    return "none" if correction is None else correction.words()


def scale_position(value: float, bracket: Bracket) -> float | None:
    """Per cent of the way of a KID from held-out real pictures (0) to noise (100), in its logarithm; None: no scale.

    The scale spans four decades at most (an unbiased KID may be 0 or negative); what lies outside is at its end.
    """
    best, worst = bracket.heldout_kid, bracket.noise_kid
    low = max(best, worst / 1e4) if math.isfinite(best) else worst / 1e4
    if not (math.isfinite(value) and 0 < low < worst < math.inf):
        return None
    return round(100 * math.log(min(max(value, low), worst) / low) / math.log(worst / low), 1)


def _charts(curves: Curves) -> dict[str, Markup]:
    """All charts by name."""
    schedule = curves.schedule
    kappa = Series("kappa", schedule["t"], schedule["kappa"])
    signal = Series("alpha-bar", schedule["t"], schedule["alpha_bar"])
    share = _steps(curves.share, "share", "share")
    left = f"‖x0 {MINUS} x0h {MINUS} C‖ / ‖x0 {MINUS} x0h‖"
    nothing, useless = Reference(1.0, "1: as large as the error"), Reference(1.0, "1: C does nothing")
    return {
        "loss": line_chart("Loss", [_steps(curves.loss, "loss", "loss")], IMAGES_SEEN, "loss", log_y=True),
        "share": line_chart("Compensated share", [share], IMAGES_SEEN, "share of each batch, 0 to 1", from_zero=True),
        "grad_norm": line_chart(
            "Gradient norm",
            [_steps(curves.grad_norm, "grad_norm", "norm")],
            IMAGES_SEEN,
            "norm, before clipping",
            log_y=True,
        ),
        "module_loss": line_chart(
            "Loss of the module", [_steps(curves.module_loss, "loss", "loss")], IMAGES_SEEN, "loss of C", log_y=True
        ),
        "norm": _per_step("Norm ratio", curves, "norm_ratio", f"‖C‖ / ‖x0 {MINUS} x0h‖", nothing),
        "error": _per_step("Remaining error", curves, "error", left, useless),
        "alpha_bar": line_chart("Alpha-bar", [signal], NATIVE_STEP, "alpha-bar, share of signal", from_zero=True),
        "kappa": line_chart("Kappa", [kappa], NATIVE_STEP, f"kappa(t, t {MINUS} 1)", log_y=True),
    }


def _steps(columns: Columns, column: str, name: str) -> Series:
    """A logged curve over images seen."""
    return Series(name, columns["step"], columns[column])


def _per_step(title: str, curves: Curves, column: str, label: str, reference: Reference) -> Markup:
    """A column of the module fit after training and, if there is one, of the module fit in training, over t."""
    modules = [Series("compensate stage", curves.norm["t"], curves.norm[column])]
    if curves.train_norm["t"]:
        modules.append(Series("in training", curves.train_norm["t"], curves.train_norm[column]))
    return line_chart(title, modules, NATIVE_STEP, label, from_zero=True, reference=reference)
