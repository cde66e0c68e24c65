"""Writing of curves: DVCLive files, and Weights & Biases if asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from cspipe.runtime.errors import UserError
from cspipe.runtime.ranks import rank
from cspipe.runtime.settings import Section

Log = Callable[[int, Mapping[str, float]], None]
"""Function that takes (images seen, values of a point of the curves)."""


class TrackingSettings(Section):
    """The section `tracking` of params.yaml: where curves go besides the files."""

    wandb: Literal["disabled", "offline", "online"] = Field(description="Weights & Biases")
    project: str = Field(min_length=1, description="its project name")


@contextmanager
def tracked(folder: Path, tracking: TrackingSettings, run: str, config: Mapping[str, Any]) -> Iterator[Log]:
    """Yield a function (images seen, values) that writes the curves to `folder` as DVCLive does, and to W&B.

    A resumed run logs the stored curve again from the start: the files are the same as without the interruption. At W&B
    its id makes it the same run: online, stored points are not sent again; offline, the whole curve replaces the part.
    Raises UserError if W&B is asked for and refuses. Of several ranks, only rank 0 writes.
    """
    if rank():
        yield lambda seen, values: None
        return
    from dvclive.live import Live  # takes a second to import

    wandb_run = None if tracking.wandb == "disabled" else _wandb(tracking, run, config)
    # The stages of dvc.yaml declare the files; DVCLive must neither write a dvc.yaml of its own nor save experiments.
    with Live(str(folder), save_dvc_exp=False, dvcyaml=None, report=None, monitor_system=False) as live:

        def log(seen: int, values: Mapping[str, float]) -> None:
            """Write a point of the curves, at `seen` images, with six digits."""
            live.step = seen
            rounded = {name: float(f"{value:.6g}") for name, value in values.items() if name != "step"}
            for name, value in rounded.items():
                live.log_metric(name, value)
            live.make_summary()
            if wandb_run is not None and seen >= wandb_run.starting_step:
                wandb_run.log(rounded, step=seen)

        yield log
        if wandb_run is not None:
            place = Path(wandb_run.dir).parent.resolve()
            wandb_run.finish()
            if tracking.wandb == "offline":
                print(f"Weights & Biases: the run is in {place}; `wandb sync {place}` sends it")


def _wandb(tracking: TrackingSettings, run: str, config: Mapping[str, Any]) -> Any:
    """Open the W&B run of this name, which an earlier attempt may have begun."""
    import wandb  # takes a second to import

    folder = os.environ.get("WANDB_DIR") or ".cspipe"  # its folder `wandb` there outlives a flow's workspace
    Path(folder).mkdir(parents=True, exist_ok=True)
    # Offline, a resumed run would append the whole curve to the stored part.
    resume: Literal["allow"] | None = "allow" if tracking.wandb == "online" else None
    try:
        return wandb.init(
            project=tracking.project, name=run, id=run, resume=resume,
            config=dict(config), mode=tracking.wandb, dir=folder,
        )  # fmt: skip
    except wandb.Error as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"tracking.wandb: {tracking.wandb}: {reason} Set WANDB_API_KEY, or take offline.") from None
