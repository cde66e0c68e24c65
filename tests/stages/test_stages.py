"""Stages as processes: killed and continued, stopped by bad input, and what they leave behind."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from cspipe.config.params_file import load_params
from cspipe.runtime.ends import End, read_end
from cspipe.runtime.files import sha256_file
from cspipe.runtime.stage import stage as run_stage
from cspipe.stages import compensate
from cspipe.training.compensator_trainer import CompensatorTrainer
from cspipe.training.loop import Curve, Plan, run
from cspipe.training.stream import TrainingSet
from tests.conftest import Tree, change
from tests.stages.conftest import new_clone, stage, stages
from tests.stages.test_preemption import start, wait_until


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, two_variants: Tree) -> Path:
    """A clone in which stages have run that are long enough to be killed on their way."""
    longer = {"train.images": 960, "train.checkpoint_every": 80, "compensation.epochs": 15, "sample.images": 256}
    folder = new_clone(tmp_path_factory.mktemp("prepared") / "clone", change(two_variants, longer))
    stages(folder, "prepare", "train", "compensate", "sample ddim-100")
    return folder


def kill_when(folder: Path, states: str, count: int, *arguments: str) -> None:
    """Start a stage and kill -9 it as soon as `count` state files have appeared."""
    process = start(folder, *arguments)
    wait_until(lambda: len(list((folder / ".cspipe/states").glob(states))) >= count, process)
    process.kill()
    process.wait()


def test_killed_stages_continue_to_the_same_bytes(prepared: Path) -> None:
    """train, compensate and sample: undisturbed, then killed and run again; models, curves and samples are equal."""
    outputs = ["models/main/model.safetensors", "models/main/progress.png", "curves/train/plots/metrics/loss.tsv"]
    outputs += ["models/compensation/model.safetensors", "curves/norm.tsv", "samples/ddim-100/samples.npy"]
    killed = [("train", "train/*/*.pt"), ("compensate", "compensate/*/*.pt"), ("sample", "sample/*/*.npz")]
    names = {"sample": ("sample", "ddim-100")}
    undisturbed = {output: sha256_file(prepared / output) for output in outputs}
    for name, states in killed:
        kill_when(prepared, states, 2, *names.get(name, (name,)))
        again = stage(prepared, *names.get(name, (name,)))
        assert name == "sample" or "going on from" in again.stdout
        assert not list((prepared / ".cspipe/states").glob(states)), "a finished run leaves no states"
    assert undisturbed == {output: sha256_file(prepared / output) for output in outputs}


def test_compensate_does_not_repeat_the_first_pass_of_train(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the order of the images nor what is drawn for them."""
    seeds = []

    def spy(trainer: CompensatorTrainer, data: TrainingSet, plan: Plan, *others: object) -> Curve:
        seeds.extend([trainer.seed, data.seed, plan.seed])
        return run(trainer, data, plan, *others)  # type: ignore[arg-type]

    monkeypatch.chdir(clone)
    monkeypatch.setattr(compensate, "run", spy)
    compensate.main()
    assert load_params().seed not in seeds
    assert len(set(seeds)) == 1


def test_samples_do_not_depend_on_the_batch(clone: Path) -> None:
    def samples() -> np.ndarray:
        return np.load(clone / "samples/cs-10/samples.npy").astype(int)

    before, params = samples(), clone / "params.yaml"
    params.write_text(yaml.safe_dump(change(yaml.safe_load(params.read_text()), {"sample.batch": 3})))
    stage(clone, "sample", "cs-10")
    # Kernels for other batch sizes sum in another order; a pixel on the edge between two values may fall either way.
    assert np.abs(before - samples()).max() <= 1


@pytest.mark.slow
def test_interrupted_sampling_with_another_batch_starts_afresh(clone: Path) -> None:
    """Kept batches belong to their batch size; another one must not take a part for a whole."""
    params = clone / "params.yaml"
    tree = change(yaml.safe_load(params.read_text()), {"sample.images": 256, "variants.ddim-100.steps": 10})
    params.write_text(yaml.safe_dump(tree))
    kill_when(clone, "sample/*/*.npz", 1, "sample", "ddim-100")
    params.write_text(yaml.safe_dump(change(tree, {"sample.batch": 5})))
    stage(clone, "sample", "ddim-100")
    assert np.load(clone / "samples/ddim-100/samples.npy").shape == (256, 3, 8, 8)


def test_bad_parameters_stop_every_stage_before_any_work(clone: Path, refusal: Callable[..., str]) -> None:
    text = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text(text.replace("prediction: v", "prediction: w"))
    before = files(clone)
    for name in ("prepare", "train", "compensate", "report"):
        said = refusal(clone, name)
        assert "params.yaml" in said
        assert "diffusion.prediction" in said
    assert files(clone) == before


def files(folder: Path) -> list[Path]:
    """All but git's, Python's, and how stages ended."""
    left_out = {".git", "__pycache__", ".cspipe"}
    return sorted(path for path in folder.rglob("*") if not left_out & set(path.parts))


def test_the_fit_of_C_goes_by_the_main_net_that_is_there(clone: Path, refusal: Callable[..., str]) -> None:
    """An imported one need not be as params.yaml says."""
    file = clone / "params.yaml"
    before, params = sha256_file(clone / "models/compensation/model.safetensors"), yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(change(params, {"data.size": 16, "model.attention": [8]})))
    assert "size 8" in refusal(clone, "compensate")
    file.write_text(yaml.safe_dump(change(params, {"diffusion.steps": 200})))
    compensate.main()
    assert sha256_file(clone / "models/compensation/model.safetensors") == before


@pytest.mark.parametrize(
    ("name", "missing", "fix"),
    [
        (("train",), "data/prepared", "prepare"),
        (("compensate",), "models/main", "dvc repro train"),
        (("sample", "cs-10"), "models/compensation", "dvc repro compensate"),
        (("evaluate", "cs-10"), "samples/cs-10", "dvc repro sample@cs-10"),
    ],
)
def test_missing_input_names_the_stage_that_makes_it(
    clone: Path, refusal: Callable[..., str], name: tuple, missing: str, fix: str
) -> None:
    (clone / missing).rename(clone / "elsewhere")
    assert fix in refusal(clone, *name)


def test_second_run_of_a_stage_in_a_folder_is_refused_and_the_first_keeps_its_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def second() -> None:
        with run_stage("train"):
            pytest.fail("two at once")

    def first() -> None:
        with run_stage("train"):
            with pytest.raises(SystemExit, match=str(int(End.FAILED))):
                second()
            assert f"process {os.getpid()}" in capsys.readouterr().err
            assert read_end(tmp_path, "train").end is End.KILLED
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(SystemExit, match=str(int(End.STOPPED))):
            first()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_full_disk_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped, run_stage("train"), open("/dev/full", "w") as file:  # noqa: PTH123
        file.write("x" * 100_000)
    assert stopped.value.code == End.CANNOT_WRITE
    assert "the disk is full" in capsys.readouterr().err
