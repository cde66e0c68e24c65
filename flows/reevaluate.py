"""The nightly re-evaluation: does every registered model still give what it gave? It never changes one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from cspipe.data.grid import save_png
from cspipe.runtime.errors import UserError
from cspipe.runtime.storage import Bucket
from cspipe.runtime.storage_errors import Unreachable
from flows.artifacts import StageProgress, key, show_picture
from flows.failures import StageFailed
from flows.nightly.bench import Bench
from flows.nightly.drift import FEWEST, worst
from flows.nightly.nights import free_key, newer_run, write
from flows.nightly.recheck import Finding, Night, check
from flows.nightly.registry import Model, by_commit, declared_models, registered_models
from flows.nightly.restore import isolate, needed, read_lock, restore, variants_of
from flows.workspace import git, home, open_workspace, shared_bucket

CALM = ("same", "improved", "inconclusive")
"""Verdicts of rows without drift."""


@dataclass
class Checked:
    """The models of one revision after their checks."""

    models: list[Model]
    findings: list[Finding] = field(default_factory=list)
    problem: str | None = None
    """Why they could not be checked, in one line."""

    @property
    def name(self) -> str:
        """All of them, as people call them."""
        return " + ".join(str(model) for model in self.models)

    def problems(self) -> list[str]:
        """Everything that is wrong, one line per variant."""
        lines = [f"{self.name}: {self.problem}"] if self.problem else []
        for found in self.findings:
            if found.problems:
                lines.append(f"{self.name}, {found.variant}: {'; '.join(found.problems)}; likely cause: {found.cause}")
        return lines

    def record(self) -> dict[str, Any]:
        """As JSON can write it."""
        return {
            "models": [str(model) for model in self.models],
            "revision": self.models[0].commit,
            "problem": self.problem,
            "variants": [found.record() for found in self.findings],
        }


def scheduled_day(at: str | None) -> date:
    """The day that a run is for: given as YYYY-MM-DD, or that of its schedule, in UTC. Raises UserError."""
    if at is None:
        return (flow_run.scheduled_start_time or datetime.now(UTC)).astimezone(UTC).date()
    try:
        return date.fromisoformat(at)
    except ValueError:
        raise UserError(f"at: {at!r} is no day; write it as 2026-07-31, or leave it out") from None


def run_name() -> str:
    """The day, and the start of the flow run's id."""
    given = flow_run.parameters.get("at")
    day = given or (flow_run.scheduled_start_time or datetime.now(UTC)).date()
    return f"nightly-{day}-{str(flow_run.id)[:6]}"


@flow(name="reevaluate", flow_run_name=run_name, persist_result=False)
def reevaluate(at: str | None = None, redraw: int | None = None, repeats: int = 6) -> State[Any]:
    """Check every registered model at its tagged revision, from S3 alone.

    `at`: the day that the run is for (YYYY-MM-DD). `redraw`: how many images are drawn again from the same seeds, all
    if not given. `repeats`: scores that a noise band is wanted from; the first nights make those that are missing.
    Ends as Drifted with one line if a model, a score, an artifact or the environment changed, as Skipped if a newer
    run of the schedule is due. Raises UserError if nothing can be checked.
    """
    log = get_run_logger()
    newer = newer_run()
    if newer is not None:
        return Cancelled(name="Skipped", message=f"late: {newer.name} was due after it, and one run is enough")
    clone, bucket, day = home(), shared_bucket(log.info), scheduled_day(at)
    if bucket is None:
        raise UserError("CSPIPE_S3 is not set for this worker; models are restored from s3://bucket/prefix")
    if repeats < 0 or (redraw is not None and redraw < 1):
        raise UserError(f"redraw {redraw}, repeats {repeats}: redraw is at least 1 or null, repeats at least 0")
    models = registered_models(clone)
    if not models:
        return Completed(message=nothing(clone))
    night = Night(day, free_key(bucket, day)[1], redraw, repeats)
    checked = [check_revision(group, clone, bucket, night, log.info) for group in by_commit(models).values()]
    problems = [line for group in checked for line in group.problems()]
    message = conclusion(checked, problems)
    kept = write(bucket, day, new_record(day, checked, message, drifted=bool(problems)))
    create_table_artifact(table(checked), key="reevaluation", description=f"{message} ({bucket.url}/{kept})")
    for line in problems:
        log.error(line)
    return Failed(name="Drifted", message=message) if problems else Completed(message=message)


def nothing(clone: Path) -> str:
    """That no model is registered, and how one is."""
    declared = ", ".join(declared_models(clone, git(clone, "rev-parse", "HEAD"))) or "none"
    return (
        f"nothing registered: no version tag of a model (artifacts in dvc.yaml: {declared}); "
        "`gto register main` and `git push --tags` register one"
    )


def check_revision(
    models: list[Model], clone: Path, bucket: Bucket, night: Night, tell: Callable[[str], None]
) -> Checked:
    """The checks of all variants that the models of one commit drew. What stops them becomes the problem."""
    checked, name = Checked(models), run_name()
    tell(f"{checked.name}: revision {models[0].commit[:12]}")
    try:
        unknown = [str(model) for model in models if model.path is None]
        if unknown:
            raise UserError(f"dvc.yaml at {models[0].commit[:12]} has no artifact of this name; tag a commit that has")
        with open_workspace(clone, models[0].commit, f"{name}-{models[0].commit[:8]}", bucket) as workspace:
            isolate(workspace)
            lock = read_lock(workspace.root)
            variants = variants_of(workspace.root, lock, [model.path for model in models if model.path is not None])
            restore(workspace, needed(lock, variants), tell)
            bench = Bench(workspace, clone, name, tell, StageProgress("reevaluate"))
            for variant in variants:
                found, picture = check(bench, workspace, variant, replace(night, variants=len(variants)))
                checked.findings.append(found)
                file = workspace.root / ".cspipe" / "then-and-now.png"
                save_png(picture, file)
                title = f"{checked.name}, {variant}: recorded on the left, the same seeds tonight on the right"
                show_picture(file, key("then-and-now", models[0].name, variant), title)
                tell(f"{checked.name}, {variant}: {found.verdict}; {'; '.join(found.problems) or 'nothing changed'}")
    except Unreachable:
        raise  # says nothing about the model
    except (UserError, StageFailed) as error:
        checked.problem = str(error)
    return checked


def conclusion(checked: Sequence[Checked], problems: Sequence[str]) -> str:
    """The night in one line."""
    if problems:
        more = f" (and {len(problems) - 1} more, see the table reevaluation)" if len(problems) > 1 else ""
        return problems[0] + more
    verdicts = [found.verdict for group in checked for found in group.findings]
    names = ", ".join(group.name for group in checked)
    few = min(band.repeats for group in checked for found in group.findings for band in found.bands.values())
    said = worst(verdicts)
    why = f" (a band of {few} repeats)" if said == "inconclusive" and few < FEWEST else ""
    return f"{names}: the same samples and scores from the same seeds; fresh seeds: {said}{why}"


def new_record(day: date, checked: Sequence[Checked], message: str, drifted: bool) -> dict[str, Any]:
    """What `reevaluation/<date>.json` holds."""
    return {
        "date": str(day),
        "flow_run": run_name(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "drifted": drifted,
        "message": message,
        "revisions": [group.record() for group in checked],
    }


def table(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    """One row per check and score; what drifted comes first."""
    rows: list[dict[str, Any]] = []
    for group in checked:
        if group.problem:
            rows.append({"model": group.name, "variant": "", "check": "restore", "verdict": group.problem})
        for found in group.findings:
            rows += _rows(group.name, found)
    return sorted(rows, key=lambda row: row["verdict"] in CALM)


def _rows(name: str, found: Finding) -> list[dict[str, Any]]:
    common, same = {"model": name, "variant": found.variant}, found.same_seeds
    equal = f"{same.images - same.changed} of {same.images} equal"
    pixels = {"check": "same seeds", "metric": "samples", "then": same.images, "now": equal}
    rows: list[dict[str, Any]] = [{**common, **pixels, "verdict": "differs" if found.problems else "same"}]
    for metric, then in found.then.items():
        again = {"check": "same samples", "metric": metric, "then": then, "now": found.again[metric]}
        rows.append({**common, **again, "verdict": "same" if then == found.again[metric] else "differs"})
    for metric, now in found.now.items():
        band = found.bands[metric]
        around = {"band": f"{band.mean:.4g} ± {band.usual:.3g} (alarm ± {band.alarm:.3g}), {band.repeats} repeats"}
        fresh = {"check": "fresh seeds", "metric": metric, "then": found.then[metric], "now": now, **around}
        rows.append({**common, **fresh, "verdict": found.verdicts[metric]})
    return rows
