"""`cspipe explain` and `cspipe lineage`, as typed in the project."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cspipe.cli.experiments import Experiment
from cspipe.cli.main import app
from cspipe.runtime.errors import UserError
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("CSPIPE_S3", raising=False)


def cspipe(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


H = "0" * 64
DAMAGED: list[tuple[object, str]] = [
    ({"data_sha256": "../../../mine"}, "mine"),  # a record of this name would be read
    ({"data_sha256": H, "code": [1]}, "list"),
    ({"data_sha256": H, "code": {"train": {"cspipe/nets": 1}}}, "int"),
]


def model(folder: Path, facts: object) -> str:
    """A safetensors file that says something of itself."""
    header = {"__metadata__": {"cspipe": json.dumps(facts)}, "w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
    text = json.dumps(header).encode()
    (folder / "model").write_bytes(len(text).to_bytes(8, "little") + text + b"1")
    return str(folder / "model")


@pytest.mark.parametrize(("facts", "says"), DAMAGED)
def test_metadata_of_wrong_types_are_one_line(tmp_path: Path, facts: object, says: str) -> None:
    file = model(tmp_path, facts)
    with pytest.raises(UserError) as caught:
        cspipe("lineage", file)
    assert file in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_header_that_is_longer_than_memory_or_deeper_than_the_stack_is_not_read(tmp_path: Path) -> None:
    for length, header in ((2**62, b"{"), (200_001, b"{" + b"[" * 200_000)):
        (tmp_path / "model").write_bytes(length.to_bytes(8, "little") + header)
        with pytest.raises(UserError, match="sha256"):
            cspipe("lineage", str(tmp_path / "model"))


def test_what_a_terminal_would_obey_is_shown_as_escapes(tmp_path: Path) -> None:
    said = cspipe("lineage", model(tmp_path, {"data_sha256": H, "variant": "\x1b[31mred\n\u202e"}))
    assert r"\x1b[31mred\n\u202e" in said
    assert str(UserError("a\x9b\r\nb\udcff")) == r"a\x9b\r" + "\n" + r"b\udcff"


def test_the_lineage_of_a_folder_is_that_of_the_file_in_it(tmp_path: Path) -> None:
    file = Path(model(tmp_path, {"data_sha256": H})).rename(tmp_path / "model.safetensors")
    assert cspipe("lineage", str(tmp_path)) == cspipe("lineage", str(file))


def test_values_of_experiments_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [Experiment("main", "", {"a": 1}, {}), Experiment("one", "", {"a": "[/x]"}, {})]
    monkeypatch.setattr("cspipe.cli.experiments.read_experiments", lambda root, commits: [shown])
    assert "[/x]" in cspipe("experiments")


def test_experiments_are_named_whole_without_the_code_that_a_choice_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A project of `cspipe init`, 80 characters wide."""
    before, after = {"source": "a", "cspipe.sources.a": "1"}, {"source": "b" * 60, "cspipe.sources.b": "2"}
    shown = [Experiment("master", "", before | {"cspipe.nets": "3"}, {"cs-100": {"kid": 0.1, "kid_std": 0.01}})]
    shown += [Experiment("workspace", "", after | {"cspipe.nets": "4"}, {})]
    monkeypatch.setattr("cspipe.cli.experiments.read_experiments", lambda root, commits: [shown])
    said = cspipe("experiments")
    assert "workspace" in said
    assert "cspipe.nets" in said
    assert "cspipe.sources" not in said
    assert said.count("b") == 60, "a value is folded, not cut"


@pytest.mark.slow
def test_what_is_printed_can_be_had_as_json() -> None:
    stages = json.loads(cspipe("explain", "--json"))
    assert [each["stage"] for each in stages] == [line.partition(":")[0] for line in cspipe("explain").splitlines()]
    assert json.loads(cspipe("explain", "train", "--json")) == [each for each in stages if each["stage"] == "train"]
    [[head, *_]] = json.loads(cspipe("experiments", "--json"))
    assert head["params"]["train"]["images"] == 48_000
    assert head["scores"]["cs-10"]["kid"] > 0
    shown = json.loads(cspipe("params", "show", "demo-inpaint", "--json"))
    assert shown["values"]["task"] == "inpaint"
    assert shown["origins"]["task"] == "demo-inpaint"


def test_lineage_of_a_metrics_file_in_git_names_its_models() -> None:
    file = "metrics/cs-10.json"
    wanted = json.loads(Path(file).read_text())["provenance"][0]["model_sha256"]
    assert f"(sha256 {wanted[:12]}" in cspipe("lineage", file)
    tree = json.loads(cspipe("lineage", file, "--json"))
    assert wanted in [origin["sha256"] for origin in tree["made_from"]]
