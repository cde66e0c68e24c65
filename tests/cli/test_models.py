"""`cspipe models` and `cspipe card`: versions, scores, and a page on the model."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import gto.api
import pytest
import torch
import yaml
from diffusers import UNet2DModel

from cspipe.cli.exchange import import_model
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file
from cspipe.runtime.models import read_config, save_model
from cspipe.runtime.records import FOLDER, keep_records
from cspipe.runtime.runlog import RunLog
from tests.cli.test_inspect import cspipe
from tests.conftest import ROOT, Tree
from tests.exchange.test_import import TUTORIAL
from tests.stages.conftest import commit, new_repository

MAIN = Path("models/main/model.safetensors")


def listed() -> list[dict[str, Any]]:
    return json.loads(cspipe("models", "--json"))


def score(variant: str, kid: float, model: str, module: str | None = None) -> None:
    """Write the metrics file of a variant."""
    origin = {"model_sha256": model, "module_sha256": module, "steps": 7, "correction": {"name": "time_shift"}}
    origin |= {"samples_sha256": "5" * 64, "samples_images": 123, "extractor": "inception", "reference": "train"}
    tree = {"efflite0": {"kid": kid, "frechet": 1.0}, "provenance": [origin]}
    Path("metrics").mkdir(exist_ok=True)
    Path(f"metrics/{variant}.json").write_text(json.dumps(tree))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo: Tree) -> Path:
    """A clone with a model, scores of it and of another one, and a registered version."""
    folder = new_repository(tmp_path / "clone")
    monkeypatch.chdir(folder)
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / ".gitignore").write_text("/models\n")
    config = {key: demo[key] for key in ("task", "model", "diffusion", "train", "seed")}
    config |= {"size": 16, "channels": 3, "parameters": 6, "images_seen": 48000, "data_sha256": "0" * 64}
    MAIN.parent.mkdir(parents=True)
    save_model(MAIN.parent, {"ema": torch.nn.Linear(2, 2)}, config)
    score("plain", 0.5, sha256_file(MAIN))
    score("both", 0.4, sha256_file(MAIN), "1" * 64)
    commit(folder, "results")
    gto.api.register(".", "main", "HEAD", version="v1.0.0")
    score("plain", 0.3, sha256_file(MAIN))
    score("other", 0.1, "2" * 64)
    return folder


@pytest.mark.usefixtures("project")
def test_versions_keep_the_scores_of_their_commit_and_the_folder_those_of_its_weights() -> None:
    found = {(each["name"], each["version"]): each for each in listed()}
    kids = {key: {name: row["kid"] for name, row in each["scores"].items()} for key, each in found.items()}
    assert kids[("main", "")] == {"plain": 0.3, "both": 0.4}
    assert kids[("main", "v1.0.0")] == {"plain": 0.5, "both": 0.4}
    assert found[("main", "v1.0.0")]["path"] == "models/main"
    assert kids[("compensation", "")] == {}  # there is none
    rows = [line.split() for line in cspipe("models").splitlines()]
    assert ["main", "this", "folder"] in [row[:3] for row in rows]
    assert ["compensation", "not", "made", "yet"] in rows
    assert "v1.0.0" in cspipe("models")


def test_a_card_says_what_hubs_read_and_leaves_the_outputs_of_dvc_as_they_are(project: Path) -> None:
    before = sorted((project / "models").rglob("*"))
    cspipe("card", "-o", "card")
    first = Path("card/README.md").read_text()
    cspipe("card", "-o", "card")
    assert Path("card/README.md").read_text() == first
    found = re.match("---\n(.*?)---\n", first, re.DOTALL)
    assert found is not None
    [results] = yaml.safe_load(found[1])["model-index"][0]["results"]
    values = {row["name"]: row["value"] for row in results["metrics"]}
    assert values == {"plain kid": 0.3, "both kid": 0.4, "plain frechet": 1.0, "both frechet": 1.0}
    for origin in ("7 steps", "time_shift", "5" * 12, "123 samples", "inception", "split train"):
        assert origin in first
    with pytest.raises(UserError, match="models"):
        cspipe("card", "-o", "models/main")
    assert sorted((project / "models").rglob("*")) == before


@pytest.mark.usefixtures("project")
def test_a_card_has_time_device_and_energy_of_a_training_that_this_machine_recorded() -> None:
    def card() -> str:
        cspipe("card", "-o", "card")
        return Path("card/README.md").read_text()

    none = "no record of the training"
    assert none in card()
    training = {**RunLog("train").facts(), "seconds": 7260.0, "device": "a <b>GPU</b>"}
    keep_records(training)
    said = "Training took 2 h 1 min on a &lt;b&gt;GPU&lt;/b&gt;,"
    assert f"**Energy**: not measured. {said}" in card()
    shutil.rmtree(FOLDER)  # the first record of a file stays
    keep_records(training | {"gpu_joules": 4.5e6})
    assert re.search(rf"\*\*Energy\*\*: 1\.25 kWh .*{said}", card())
    assert none not in card()
    for damaged in FOLDER.iterdir():
        damaged.write_text("{")
    assert none in card()


def test_a_damaged_metrics_file_is_named(project: Path) -> None:
    for text in ("{", "[]", "{}", '{"provenance": []}'):
        (project / "metrics/plain.json").write_text(text)
        with pytest.raises(UserError, match="plain"):
            listed()


def test_a_damaged_metrics_file_of_a_commit_is_told_in_its_row(project: Path) -> None:
    (project / "metrics/plain.json").write_text('{"efflite0": {}}')
    commit(project, "a file without provenance")
    gto.api.register(".", "main", "HEAD", version="v1.1.0")
    score("plain", 0.3, sha256_file(MAIN))
    rows = {each["version"]: each["scores"] for each in listed() if each["name"] == "main"}
    assert "provenance" in rows["v1.1.0"]["plain"]["damaged"]
    assert rows["v1.1.0"]["both"]["kid"] == rows["v1.0.0"]["both"]["kid"] == 0.4
    assert "plain: damaged" in cspipe("models")


def test_a_damaged_index_is_named(project: Path) -> None:
    (project / "data/prepared").mkdir(parents=True)
    (project / "data/prepared/index.json").write_text("{")
    with pytest.raises(UserError, match=r"index\.json"):
        cspipe("card", "-o", "card")


def test_the_card_of_an_imported_model_names_its_source_and_its_scores(project: Path) -> None:
    UNet2DModel(**TUTORIAL).save_pretrained(project / "theirs")
    shutil.rmtree(MAIN.parent)
    import_model(project / "theirs", MAIN.parent)
    score("plain", 0.7, sha256_file(MAIN))
    cspipe("card", "-o", "card")
    text = Path("card/README.md").read_text()
    weights = sha256_file(project / "theirs/diffusion_pytorch_model.safetensors")
    for known in ("diffusers", "theirs", weights[:12], "predicts eps", "schedule linear", "unknown"):
        assert known in text
    [results] = yaml.safe_load(text.split("---\n")[1])["model-index"][0]["results"]
    assert {row["name"]: row["value"] for row in results["metrics"]} == {"plain kid": 0.7, "plain frechet": 1.0}
    assert str(project) not in text


def test_a_model_that_says_something_else_is_one_line(project: Path) -> None:
    sound = read_config(MAIN.parent, "train")
    for wrong in ({"parameters": "x"}, {"train": None}, {"task": []}, {"start_sha256": 7}):
        save_model(MAIN.parent, {"ema": torch.nn.Linear(2, 2)}, sound | wrong)
        with pytest.raises(UserError, match="models/main") as error:
            cspipe("card", "-o", "card")
        assert "\n" not in str(error.value)
    assert not (project / "card").exists()


@pytest.mark.usefixtures("project")
def test_what_a_model_says_is_text_in_its_card() -> None:
    config = read_config(MAIN.parent, "train")
    config["train"]["method"] = "<img src=x onerror=alert(1)>\n---\nlicense: mit\x1b[2J"
    save_model(MAIN.parent, {"ema": torch.nn.Linear(2, 2)}, config)
    cspipe("card", "-o", "card")
    text = Path("card/README.md").read_text()
    assert "onerror" in text
    assert not [wrong for wrong in ("<img", "\nlicense: mit", "\x1b") if wrong in text]


@pytest.mark.usefixtures("project")
def test_outside_of_git_there_are_no_versions() -> None:
    shutil.rmtree(".git")
    assert [(each["name"], each["version"]) for each in listed()] == [("main", ""), ("compensation", "")]
