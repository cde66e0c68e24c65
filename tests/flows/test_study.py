"""Studies by Prefect: what is refused before anything runs, and a whole one that is cancelled once."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from prefect.client.schemas.objects import FlowRun

from flows.study import study
from tests.flows.machines import Machines, machines
from tests.flows.server import wait_for
from tests.flows.test_pipeline import refused
from tests.s3_server import S3
from tests.stages.conftest import commit, run_in

SMALLEST = ("study", "-p", "name=smallest", "-p", "jobs=2")


@pytest.mark.usefixtures("prefect")
def test_a_study_that_its_own_command_refuses_ends_in_the_command_s_words(flow_clone: Path) -> None:
    """Its name is no option of that command."""
    assert "no study '--verify' in studies/; there are " in refused(study, "--verify")
    assert not list((flow_clone / ".cspipe/runs").glob("*"))


@pytest.fixture
def place(tmp_path: Path, s3: S3) -> Iterator[Machines]:
    """Two machines of which the gpu one has a worker, and studies/smallest with half of its cells."""
    with machines(tmp_path / "machines", s3) as made:
        file = made.gpu / "studies/smallest/study.yaml"
        tree = yaml.safe_load(file.read_text())
        tree["points"] = {point: tree["points"][point] for point in list(tree["points"])[:1]}
        file.write_text(yaml.safe_dump(tree, sort_keys=False))
        commit(made.gpu, "fewer cells")
        run_in(made.gpu, "git", "push", "-q", "origin", "main")
        made.type("prefect", "--no-prompt", "deploy", "-n", "study")
        made.worker("gpu", made.gpu, "gpu")
        yield made


def working(place: Machines) -> list[psutil.Process]:
    """What runs in the clone of the study, or belongs to a run of it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            ours = process.environ().get("CSPIPE_STAGE") == "study"
            if ours or Path(process.cwd()).is_relative_to(place.gpu / ".cspipe/study"):
                found.append(process)
    return found


def of_cells(place: Machines, clone: Path) -> dict[str, str]:
    """Commits of the cells that a clone has as experiments."""
    lines = run_in(clone, "git", "for-each-ref", "--format=%(refname:lstrip=-1) %(objectname)", "refs/exps").stdout
    return {name: sha for name, sha in map(str.split, lines.splitlines()) if name.startswith("smallest-")}


@pytest.mark.slow
def test_a_cancelled_study_keeps_its_cells_and_the_next_run_ends_it_for_everyone(place: Machines) -> None:
    """Some minutes: four trainings."""
    first = place.queue(*SMALLEST)
    wait_for(lambda: place.log_has("gpu", "/4  "), 600)
    assert working(place)
    place.type("prefect", "flow-run", "cancel", str(first))
    cancelled = time.monotonic()
    wait_for(lambda: not working(place), 60)
    assert time.monotonic() - cancelled < 10
    assert place.ended(first, 60).state.is_cancelled()
    kept = of_cells(place, place.gpu)
    assert 1 <= len(kept) < 4

    second: FlowRun = place.ended(place.queue(*SMALLEST), 900)
    assert second.state is not None
    assert second.state.is_completed(), f"{second.state.message}\n{place.logs()}"
    assert second.state.message == "smallest: 4 cells done; the page is the artifact study-smallest"
    assert place.log_has("gpu", f"4 cells, {len(kept)} done, {4 - len(kept)} to run")
    cells = of_cells(place, place.gpu)
    assert len(cells) == 4
    assert kept.items() <= cells.items(), "finished cells are those of the cancelled run"
    with place.server.client() as client:
        artifacts = {artifact.key: artifact for artifact in client.read_artifacts()}
    page = str(artifacts["study-smallest"].data)
    assert "| plain |" in page
    assert "](" not in page
    assert str(artifacts["study-smallest-figure"].data).startswith("![figure of study-smallest")
    assert {file.name for file in (place.gpu / ".cspipe/study/smallest").glob("smallest.*")} == {
        "smallest.json",
        "smallest.md",
        "smallest.png",
    }
    assert run_in(place.gpu, "git", "status", "--porcelain").stdout == ""
    assert not list((place.gpu / ".cspipe/runs").glob("*"))

    place.type("dvc", "remote", "add", "--local", "-d", "s3", f"s3://{place.bucket}/tests/dvc")
    place.type("git", "pull", "-q")
    name = next(name for name in cells if "-cs-" in name)
    place.type("dvc", "exp", "pull", "origin", name)
    place.type("dvc", "exp", "apply", name, check=False)  # DVC laments the outputs of the variant that no cell has
    done = place.type("dvc", "repro", "evaluate@ddim-10")
    assert "Running stage" not in done.stdout
    assert "Data and pipelines are up to date." in done.stdout
