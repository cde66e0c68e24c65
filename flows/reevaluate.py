"""The flow `reevaluate`, run nightly: does each registered model still give the same samples? It changes no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from cspipe.report.numbers import DASH
from cspipe.runtime.errors import UserError
from cspipe.runtime.storage import Bucket
from cspipe.runtime.storage_errors import Damaged, StorageError
from flows.failures import StageFailed
from flows.nightly.checks import MAY_DIFFER, Finding, Scorer, Scores, check_fresh_seeds, check_same_seeds, verdicts
from flows.nightly.drift import BETTER, worst
from flows.nightly.registry import Model, registered_models
from flows.nightly.restore import isolate, needed, read_lock, restore, variants_of
from flows.workspace import Workspace, home, open_workspace, shared_bucket

FOLDER = "reevaluation/"
"""Prefix of the keys of the nights' records in the bucket."""
NIGHTS = 60
"""Number of newest records from which repeats (scores of fresh seeds) are read."""
NOTHING = "nothing registered: no version tag of a model; `gto register main` and `git push --tags` register one"
UNKNOWN = "nothing that is recorded; other packages, a driver or the machine may"
CALM = ("same", "improved", "inconclusive")
"""Verdicts of table rows without drift."""
COLUMNS = ("model", "variant", "metric", "recorded", "same seeds", "fresh seeds", "band", "verdict")
"""Columns of the table. Every row has all of them: Prefect's page shows only the columns of the first row."""


@dataclass
class Checked:
    """Result of the checks of one revision's models; stored as JSON in the night's record."""

    models: str
    revision: str
    problem: str | None = None
    """Why the models could not be checked, in one line; None if they were."""
    variants: list[Finding] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Return everything that is wrong: a line for the models, if any, and one per variant."""
        lines = [f"{self.models}: {self.problem}"] if self.problem else []
        for found in self.variants:
            if found.problems:
                differs = "; ".join(f"{key} {change}" for key, change in found.differs.items()) or UNKNOWN
                lines.append(f"{self.models}, {found.variant}: {'; '.join(found.problems)}; differs: {differs}")
        return lines


@dataclass(frozen=True)
class Night:
    """Bucket, settings and log that all checks of a night share."""

    bucket: Bucket
    repeats: int
    """Repeats (scores of fresh seeds) wanted for a noise band; missing ones are made in this night."""
    seed: int
    """First fresh seed of the night; nights that start in different seconds have no seed in common."""
    log: Callable[[str], None]


def now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)


def run_name() -> str:
    """Return the run's name: the day for which it is scheduled, and the start of the flow run's id."""
    return f"nightly-{(flow_run.scheduled_start_time or now()).date()}-{str(flow_run.id)[:6]}"


@flow(name="reevaluate", flow_run_name=run_name, persist_result=False)
def reevaluate(repeats: int = 6) -> State[Any]:
    """Check every registered model at its tagged revision, from S3 alone.

    `repeats`: scores of fresh seeds wanted for a noise band; the first nights make the missing ones.
    Ends as Drifted with one line if a model, a score, an artifact or the environment changed.
    Raises UserError if nothing can be checked.
    """
    log = get_run_logger()
    clone, bucket = home(), shared_bucket(log.info)
    if bucket is None:
        raise UserError("CSPIPE_S3 is not set for this worker; models are restored from s3://bucket/prefix")
    models, started = registered_models(clone), now()
    if not models:
        return Completed(message=NOTHING)
    night = Night(bucket, repeats, int(started.timestamp()) * 10**9, log.info)
    checked = [check_revision(group, clone, night) for group in models.values()]
    problems = [line for group in checked for line in group.problems()]
    message, record = conclusion(checked, problems), f"{FOLDER}{started:%Y-%m-%dT%H%M%S}.json"
    facts = {"flow_run": run_name(), "drifted": bool(problems), "message": message}
    bucket.put_json(record, {**facts, "revisions": [asdict(group) for group in checked]}, if_absent=True)
    create_table_artifact(table(checked), key="reevaluation", description=f"{message} ({bucket.url}/{record})")
    for line in problems:
        log.error(line)
    return Failed(name="Drifted", message=message) if problems else Completed(message=message)


def check_revision(models: Sequence[Model], clone: Path, night: Night) -> Checked:
    """Check all variants sampled from the models of one commit; an error ends the checks and becomes their problem."""
    commit, name, log = models[0].commit, run_name(), night.log
    checked = Checked(" + ".join(map(str, models)), commit)
    log(f"{checked.models}: revision {commit[:12]}")
    try:
        if any(model.path is None for model in models):
            raise UserError(f"dvc.yaml at {commit[:12]} has no artifact of this name; tag a commit that has")
        with open_workspace(clone, commit, f"{name}-{commit[:8]}", night.bucket) as workspace:
            isolate(workspace.root)
            lock = read_lock(workspace.root)
            variants = variants_of(workspace.root, lock, [model.path for model in models if model.path is not None])
            restore(workspace, needed(lock, variants), log)
            for variant in variants:
                found = check_variant(variant, workspace, night, len(variants))
                checked.variants.append(found)
                log(f"{checked.models}, {variant}: {found.verdict}; {'; '.join(found.problems) or 'no drift'}")
    except (UserError, StageFailed) as error:
        if isinstance(error, StorageError) and not isinstance(error, Damaged):
            raise  # S3 is away, which says nothing about the model
        checked.problem = str(error)
    return checked


def check_variant(variant: str, workspace: Workspace, night: Night, variants: int) -> Finding:
    """Run both checks of a variant; its revision has `variants` of them."""
    scorer = Scorer(workspace.root, run_name(), night.log)
    found = check_same_seeds(scorer, variant)
    calm, known = not found.problems, known_repeats(night.bucket, workspace.revision, variant)
    check_fresh_seeds(found, scorer, known, night.repeats, len(BETTER) * variants, night.seed)
    if calm and found.differs.keys() - set(MAY_DIFFER):
        found.problems.append("same samples and scores; register a version made with what is installed")
    return found


def known_repeats(bucket: Bucket, commit: str, variant: str) -> list[Scores]:
    """Return the scores of fresh seeds recorded by earlier nights without drift, one per set, the oldest first."""
    found: dict[int, Scores] = {}
    for record in sorted(bucket.list(FOLDER))[-NIGHTS:]:
        night = bucket.get_json(record)
        for entry in night[0]["revisions"] if night else ():
            for finding in entry["variants"]:
                if (entry["revision"], finding["variant"]) == (commit, variant):
                    found |= {made["seed"]: made["scores"] for made in finding["repeats"]}
    return list(found.values())


def conclusion(checked: Sequence[Checked], problems: Sequence[str]) -> str:
    """Return the result of the night in one line."""
    if problems:
        more = f" (and {len(problems) - 1} more, see the table reevaluation)" if len(problems) > 1 else ""
        return problems[0] + more
    findings = [found for group in checked for found in group.variants]
    few = " (too few repeats yet)" if any(None in found.bands.values() for found in findings) else ""
    names = ", ".join(group.models for group in checked)
    verdict = worst(found.verdict for found in findings)
    equal = all(not found.changed and found.then == found.again for found in findings)
    same = "the same samples and scores" if equal else "nearly the same samples, on another device,"
    return f"{names}: {same} from the same seeds; fresh seeds: {verdict}{few}"


def table(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    """Return the table: a row for a variant's images and one per score; rows with drift come first."""
    rows: list[dict[str, Any]] = []
    for group in checked:
        if group.problem:
            rows.append({"model": group.models, "verdict": group.problem})
        for found in group.variants:
            rows += [{"model": group.models, "variant": found.variant, **row} for row in _rows(found)]
    whole = [{column: row.get(column, DASH) for column in COLUMNS} for row in rows]
    return sorted(whole, key=lambda row: row["verdict"] in CALM)


def _rows(found: Finding) -> Iterator[dict[str, Any]]:
    equal = f"{found.images - found.changed} of {found.images} equal"
    verdict = "drifted" if found.problems else "same"
    yield {"metric": "samples", "recorded": found.images, "same seeds": equal, "verdict": verdict}
    for name, judged in verdicts(found.now, found.bands).items():
        scores = {"recorded": found.then[name], "same seeds": found.again[name], "fresh seeds": found.now[name]}
        yield {"metric": name, **scores, "band": str(found.bands[name] or "none yet"), "verdict": judged}
