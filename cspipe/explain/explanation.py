"""A stage's forecast as people read it: on the terminal, as JSON, or as Markdown for a flow's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo

from cspipe.explain.forecast import Forecast, Verdict, forecast
from cspipe.runtime.errors import UserError
from cspipe.runtime.runlog import LOGS, read_log
from cspipe.runtime.wording import readable_bytes, readable_seconds

LAST_RUN = ("started", "seconds", "device", "host")


@dataclass(frozen=True)
class Explanation(Forecast):
    """What becomes of a stage and why, with what is known of its last run on this machine."""

    last_run: dict[str, Any]
    """Of its run log: started (ISO, UTC), seconds, device, host; empty if there is none."""

    def headline(self) -> str:
        """What becomes of the stage, in a few words."""
        size = readable_bytes(self.pull_bytes)
        if self.verdict is Verdict.SKIP:
            return "up to date"
        if self.verdict is Verdict.RESTORE:
            return "would be restored from the cache, not run"
        if self.verdict is Verdict.PULL:
            return f"would be restored, not run, after a pull of {size} from the remote"
        inputs = f", after a pull of {size} of inputs" if self.pull_bytes else ""
        if self.reasons or not self.upstream:
            return f"would run{inputs}"
        return f"would run, unless what is upstream comes out as before{inputs}"

    def why(self) -> list[str]:
        """What changed, what is missing, and which stages run first, a line each."""
        many = len(self.upstream) > 1
        first = f"upstream {', '.join(self.upstream)} {'run' if many else 'runs'} first"
        return [*self.reasons, *([first] if self.upstream else [])]

    def took(self) -> str:
        """The last run on this machine, or nothing."""
        if not self.last_run:
            return ""
        where = ", ".join(str(self.last_run[key]) for key in ("device", "host") if self.last_run.get(key))
        return f"last run here took {readable_seconds(self.last_run['seconds'])} ({where})"

    def text(self) -> str:
        """Lines for the terminal."""
        details = [*self.why(), *filter(None, [self.took()])]
        return "\n".join([f"{self.stage}: {self.headline()}", *(f"  {line}" for line in details)])

    def markdown(self) -> str:
        """The same for a Prefect artifact."""
        details = [*self.why(), *filter(None, [self.took()])]
        return "\n".join([f"**{self.stage}** {self.headline()}", "", *(f"- {line}" for line in details)]) + "\n"

    def as_json(self) -> dict[str, Any]:
        """The fields but the entry of dvc.lock, as JSON can write them."""
        return {key: value for key, value in asdict(self).items() if key != "entry"}


def explain(root: Path, stage: str) -> Explanation:
    """Why a stage of `root`/dvc.yaml, such as "train" or "sample@cs-100", would run or be skipped.

    Nothing is run, and no lock of DVC is taken: asking is fine while stages run. Raises UserError if there is no such
    stage, naming those there are, or if dvc.yaml or params.yaml cannot be read.
    """
    return _explanations(root, stage)[-1]


def explain_all(root: Path) -> list[Explanation]:
    """Explanations of all stages, each after those it reads from. Raises UserError as `explain`."""
    return _explanations(root, None)


def _explanations(root: Path, name: str | None) -> list[Explanation]:
    try:
        with Repo(str(root)) as repo:
            # Not .addressing, which changes with the current folder; the project has one dvc.yaml.
            stages = {stage.name: stage for stage in repo.index.stages if stage.cmd}
            if name is not None and name not in stages:
                raise UserError(f"no stage {name!r} in dvc.yaml; it has {', '.join(stages)}")
            found = list(forecast(repo, stages[name] if name else None))
    except DvcException as error:
        raise UserError(f"{root}: {str(error).splitlines()[0]}") from None
    return [Explanation(**vars(each), last_run=_last_run(root, each.stage)) for each in found]


def _last_run(root: Path, stage: str) -> dict[str, Any]:
    log = read_log(root / LOGS, stage)
    return {key: log[key] for key in LAST_RUN if key in log} if "seconds" in log else {}


def table(explanations: Sequence[Explanation]) -> str:
    """A line per stage: its name, what becomes of it, and the first reason."""
    width = max(len(each.stage) for each in explanations)
    lines = []
    for each in explanations:
        why = each.why()
        lines.append(f"{each.stage:{width}}  {each.headline()}{f': {why[0]}' if why else ''}")
    return "\n".join(lines)
