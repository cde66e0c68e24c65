"""What a worker hands over makes a finished run, whatever is chosen: no file of an earlier choice stays.

A plain training makes fewer curves than the compensated one whose curves are committed: runs failed at their very end.
"""

from pathlib import Path

import pytest
import yaml

from cspipe.runtime.storage import Bucket
from flows.graph import read_graph
from flows.handover import Place, hand_over, take_over
from tests.conftest import Tree, change
from tests.stages.conftest import commit, run_in

PAIRS = {"data.avatars.paired": "glasses", "task": "deocclude", "evaluate.kid_subset_size": 4}
pytestmark = pytest.mark.slow
CHOICES: dict[str, Tree] = {
    "plain": {"train.method": "plain"},
    "noise_control": {"train.method": "noise_control"},
    "edm": {"diffusion.prediction": "edm", "diffusion.schedule": "karras"},
    "inpaint": {"task": "inpaint", "evaluate.kid_subset_size": 4},
    "deocclude": PAIRS,
}


def handed_over(finished: Path, folder: Path, bucket: Bucket, tree: Tree) -> None:
    """A worker's clone runs the pipeline with other parameters; a driver's, with results of its own, takes it over."""
    worker, driver = folder / "worker", folder / "driver"
    for clone in (worker, driver):
        run_in(folder, "cp", "-a", str(finished), str(clone))
        (clone / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        commit(clone, "another choice")
    run_in(worker, "dvc", "repro")
    run_in(driver, "dvc", "config", "--local", "cache.dir", str(worker / ".dvc/cache"))
    nodes = read_graph(driver)
    for node in (node for node in nodes if node.pool == "gpu"):
        place = Place(bucket, "run", node.name)
        hand_over(place, worker, node, "ran", 1.0)
        take_over(place, driver, node)
    run_in(driver, "dvc", "repro", "prepare")
    run_in(driver, "dvc", "checkout", "--force")
    ran = {line for line in run_in(driver, "dvc", "repro").stdout.splitlines() if line.startswith("Running stage")}
    assert ran <= {"Running stage 'report':"}  # which removes what variants that are gone left
    for name in ("curves", "metrics"):
        run_in(folder, "diff", "-r", str(worker / name), str(driver / name))


@pytest.mark.parametrize("chosen", list(CHOICES))
def test_every_choice(chosen: str, finished: Path, tmp_path: Path, bucket: Bucket, two_variants: Tree) -> None:
    handed_over(finished, tmp_path, bucket, change(two_variants, CHOICES[chosen]))


def test_variants_of_another_preset(finished: Path, tmp_path: Path, bucket: Bucket, small: Tree) -> None:
    others = {"ddim-5": {**small["variants"]["ddim-100"], "steps": 5}, "cs-10": small["variants"]["cs-10"]}
    handed_over(finished, tmp_path, bucket, change(small, {"variants": others}))
