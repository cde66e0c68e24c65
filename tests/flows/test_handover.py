"""Results of several workers meet in one dvc.lock."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from cspipe.runtime.errors import UserError
from cspipe.runtime.storage import Bucket
from cspipe.runtime.storage_errors import Damaged
from flows.graph import Node
from flows.handover import Place, hand_over, lock_entries, merge_lock, take_over
from tests.s3_server import S3
from tests.stages.conftest import new_repository

ENTRY = {"cmd": "true", "outs": [{"path": "a", "hash": "md5", "md5": "0" * 32, "size": 1}]}
NODE = Node("train", "gpu", 1.0, (), (), ("curves/loss.tsv", "curves/plots"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_repository(tmp_path / "repo")


@pytest.fixture
def place(bucket: Bucket) -> Place:
    return Place(bucket, "run", "train")


def test_many_workers_at_once_lose_nothing(root: Path) -> None:
    names = [f"sample@{number}" for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: merge_lock(root, name, ENTRY | {"cmd": name}), names))
    stages = yaml.safe_load((root / "dvc.lock").read_text())["stages"]
    assert {name: stages[name]["cmd"] for name in names} == {name: name for name in names}


def test_a_stage_is_handed_over_with_the_files_that_git_keeps(root: Path, tmp_path: Path, place: Place) -> None:
    worker = tmp_path / "worker"
    (worker / "curves/plots").mkdir(parents=True)
    (worker / "curves/loss.tsv").write_text("1\t2\n")
    (worker / "curves/plots/a.tsv").write_text("3\n")
    (worker / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"train": ENTRY}}))
    hand_over(place, worker, NODE, "ran", 1.5)
    (root / "curves/plots").mkdir(parents=True)
    (root / "curves/plots/of-another-method.tsv").write_text("4\n")
    assert take_over(place, root, NODE) == ("ran", 1.5)
    assert [file.name for file in (root / "curves/plots").iterdir()] == ["a.tsv"]
    assert (root / "curves/plots/a.tsv").read_text() == "3\n"
    assert lock_entries(root)["train"] == ENTRY


@pytest.mark.parametrize(
    "name", ["../evil", "cspipe/x.py", ".git/hooks/post-commit", "/tmp/evil", "curves/plots/../../x"]
)
def test_a_file_that_is_no_output_of_the_stage_is_refused(root: Path, place: Place, name: str) -> None:
    place.bucket.put_json(place.result, {"lock": ENTRY, "files": {name: "x"}, "how": "ran", "seconds": 1})
    refuse(place, root, "is no output of train that git keeps")


def refuse(place: Place, root: Path, says: str) -> None:
    (root / "curves").mkdir(exist_ok=True)
    (root / "curves/loss.tsv").write_text("of the run before")
    before = sorted(root.rglob("*"))
    with pytest.raises(UserError, match=says) as caught:
        take_over(place, root, NODE)
    assert "\n" not in str(caught.value)
    assert sorted(root.rglob("*")) == before


def test_outputs_behind_a_link_that_leads_elsewhere_are_left_alone(root: Path, place: Place, tmp_path: Path) -> None:
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves/loss.tsv").write_text("a person's own")
    (root / "curves").symlink_to(tmp_path / "curves")
    place.bucket.put_json(place.result, {"lock": ENTRY, "files": {"curves/loss.tsv": "x"}, "how": "ran", "seconds": 1})
    with pytest.raises(UserError, match=r"curves/loss\.tsv"):
        take_over(place, root, NODE)
    assert (tmp_path / "curves/loss.tsv").read_text() == "a person's own"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"files": {"curves/loss.tsv": 1}}, r"files\.curves"),
        ({"files": {"curves/plots/\0": ""}}, "no output"),
        ({"lock": []}, "lock"),
        ({"lock": {"cmd": 1}}, "cmd"),
        ({"lock": {"cmd": "true", "outs": [{"path": "a", "md5": "../../../../../mine"}]}}, "MD5"),
    ],
)
def test_what_is_no_result_is_refused_as_a_whole(root: Path, place: Place, changes: dict[str, Any], says: str) -> None:
    place.bucket.put_json(place.result, {"lock": ENTRY, "files": {}, "how": "ran", "seconds": 1} | changes)
    refuse(place, root, says)


def test_an_altered_hand_over_is_refused_by_name(place: Place, s3: S3, tmp_path: Path) -> None:
    place.bucket.put_json(place.result, {"lock": {}, "files": {"m.json": "1"}, "how": "ran", "seconds": 1})
    at = {"Bucket": place.bucket.bucket, "Key": f"{place.bucket.prefix}/{place.result}"}
    found = s3.client().get_object(**at)
    s3.client().put_object(**at, Body=found["Body"].read().replace(b'"1"', b'"2"'), Metadata=found["Metadata"])
    (tmp_path / "m.json").write_text("0")
    with pytest.raises(Damaged, match=place.result):
        take_over(place, tmp_path, Node("train", "cpu", 1.0, (), (), ("m.json",)))
    assert [file.read_text() for file in tmp_path.iterdir()] == ["0"]
