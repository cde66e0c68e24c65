"""Artifacts of runs in Prefect's UI: progress bars, sample grids, scores, the report, and which stages will run."""

from __future__ import annotations

import base64
import functools
import io
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec
from uuid import UUID

import httpx
from PIL import Image
from prefect import artifacts as ui
from prefect.exceptions import PrefectException

from cspipe.report.results import Metrics
from cspipe.runtime.storage import QUICK, Bucket
from cspipe.runtime.storage_errors import StorageError
from flows.artifact_keys import key
from flows.command import Step
from flows.scores import caption, score_rows
from flows.workspace import Workspace

P = ParamSpec("P")
log = logging.getLogger("prefect.cspipe")
LARGEST = 300_000
"""Largest PNG in an artifact, in bytes: the server keeps it in its database."""
LONG = 30
"""Seconds that a stage must have left at a step for it to get a progress bar."""
LOOKED_EVERY = 15.0
"""Seconds between two reads of the progress of a stage on a worker."""


def never_fails(show: Callable[P, None]) -> Callable[P, None]:
    """Make a display function log errors of the server or S3 instead of raising them: it must not end the run."""

    @functools.wraps(show)
    def shown(*args: P.args, **kwargs: P.kwargs) -> None:
        """Call `show`, or log a warning if it fails."""
        try:
            show(*args, **kwargs)
        except (httpx.HTTPError, PrefectException, StorageError, OSError) as error:
            log.warning("not shown in Prefect (%s): %s", show.__name__, type(error).__name__)

    return shown


class StageProgress:
    """Progress bar of a long stage; created at the first step with LONG or more seconds left."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._artifact: UUID | None = None

    @never_fails
    def __call__(self, step: Step) -> None:
        """Set the bar to a step, or create it if the step has long left."""
        percent = 100 * step.done / max(step.total, 1)
        text = f"{step.what}: {step.done} of {step.total}, {step.rate} images/s, {step.left} s left"
        if self._artifact is not None:
            ui.update_progress_artifact(self._artifact, progress=percent, description=text)
        elif step.left >= LONG:
            self._artifact = ui.create_progress_artifact(percent, key=key("progress", self._stage), description=text)  # type: ignore[assignment]

    @never_fails
    def end(self) -> None:
        """Set the bar to 100 %, if there is one: the stage is done."""
        if self._artifact is not None:
            ui.update_progress_artifact(self._artifact, progress=100, description=f"{self._stage}: done")


class ProgressElsewhere(StageProgress):
    """Progress bar of a stage on a worker, which writes its latest step to the key `place` of the bucket."""

    def __init__(self, stage: str, bucket: Bucket, place: str) -> None:
        super().__init__(stage)
        self._bucket, self._place = replace(bucket, config=QUICK), place  # short retries: the driver has other work
        self._looked, self._last = time.monotonic(), Step("", 0, 0, 0, 0)

    def look(self) -> None:
        """Show the worker's latest step. May be called often: it reads the bucket every 15 s at most."""
        if time.monotonic() - self._looked < LOOKED_EVERY:
            return
        self._looked = time.monotonic()
        with suppress(StorageError):  # a bar must not end the run
            found = self._bucket.get_json(self._place)
            step = Step(**found[0]) if found else self._last
            if step != self._last:
                self(step)
                self._last = step


def data_uri(file: Path) -> str:
    """Return an image file as the data URI of a PNG of at most 300 kB; links into a bucket would expire."""
    image = Image.open(file).convert("RGB")
    while True:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        if buffer.tell() <= LARGEST:
            return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        image = image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.LANCZOS)


@never_fails
def show_image(file: Path, name: str, title: str) -> None:
    """Show an image as an artifact of key `name`: in Markdown, as Prefect prints the URI below an image artifact."""
    ui.create_markdown_artifact(f"![{title}]({data_uri(file)})", key=name, description=title)


def show_samples(root: Path, stage: str, run: str) -> None:
    """Show the sample grid of a stage sample@VARIANT, or the samples along training of the stage train."""
    name, _, variant = stage.partition("@")
    file = root / (f"samples/{variant}/grid.png" if name == "sample" else "models/main/progress.png")
    if name in ("sample", "train") and file.exists():
        along = ": samples along training, top to bottom" if name == "train" else ""
        show_image(file, key("images", stage), f"{stage} of {run}{along}")


@never_fails
def show_plan(plan: Iterable[str], run: str) -> None:
    """Show which stages will run, and why; as code, which the page wraps and does not take for Markdown."""
    lines = [f"- `{line.replace('`', chr(39))}`" for line in plan]
    ui.create_markdown_artifact("\n".join(lines), key="plan", description=f"what {run} will run")


@never_fails
def show_report(workspace: Workspace, run: str) -> None:
    """Show where the finished report is, and copy it to the bucket, if there is one."""
    lines = [f"In the worker's clone `uv run dvc exp apply {run}` brings the results; then open `report/report.html`."]
    report = workspace.root / "report" / "report.html"
    if workspace.bucket is not None and report.exists():
        place = f"runs/{run}/report.html"
        workspace.bucket.put_file(report, place)
        lines.append(f"A copy of the page: `{workspace.bucket.url}/{place}`")
    ui.create_markdown_artifact("\n\n".join(lines), key="report", description=f"report of {run}")


@never_fails
def show_scores(now: Mapping[str, Metrics], before: Mapping[str, Metrics], run: str) -> None:
    """Show the table of scores, with their changes from the recorded ones (`before`), where there are any."""
    ui.create_table_artifact(score_rows(now, before), key="scores", description=f"{run}: {caption(now, before)}")
