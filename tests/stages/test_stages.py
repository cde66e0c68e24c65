"""Stages as processes: killed and continued, stopped by bad input, and what they leave behind; what runs again."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cspipe.config.params_file import load_params
from cspipe.runtime.ends import End, read_end
from cspipe.runtime.files import sha256_file
from cspipe.runtime.stage import stage as run_stage
from cspipe.stages import compensate, train
from cspipe.training.compensator_trainer import CompensatorTrainer
from cspipe.training.diffusion_trainer import DiffusionTrainer
from cspipe.training.loop import Curve, Plan, run
from cspipe.training.stream import TrainingSet
from tests.stages.conftest import begun, run_in, set_params, stage, states


def edit(clone: Path, *files: Path | str) -> None:
    """Change the text of source files and nothing that they do."""
    for file in files:
        (clone / file).write_text((clone / file).read_text() + "\n# edited\n")


def change_what_is_outside(clone: Path) -> None:
    """Add choices that params.yaml does not name, and edit the files that cannot change a result."""
    for folder in ("backbones", "compensators", "corrections", "methods", "samplers", "sources", "tasks"):
        (clone / "cspipe" / folder / "another.py").write_text('"""Another one."""\n')
    edit(clone, *(file for folder in ("runtime", "config") for file in (clone / "cspipe" / folder).rglob("*.py")))


def test_a_killed_training_goes_on_to_the_same_bytes_and_with_another_loss_anew(clone: Path, finished: Path) -> None:
    """Kill -9 after a state; model, curve and samples are those of the undisturbed run."""
    outputs = ("models/main/model.safetensors", "models/main/progress.png", "curves/train/plots/metrics/loss.tsv")
    for folder in ("models/main", "curves/train", ".cspipe"):
        shutil.rmtree(clone / folder, ignore_errors=True)
    process = begun(clone, "train")
    process.kill()
    process.communicate()
    kept = set(states(clone, "train"))
    change_what_is_outside(clone)
    edit(clone, "cspipe/compensation.py")
    assert "going on from" not in stage(clone, "train").stdout
    assert set(states(clone, "train")) == kept != set()
    shutil.copy(finished / "cspipe/compensation.py", clone / "cspipe/compensation.py")
    assert "going on from" in stage(clone, "train").stdout
    assert not states(clone, "train"), "a finished run leaves no states"
    for output in outputs:
        assert sha256_file(clone / output) == sha256_file(finished / output), output


def test_a_new_choice_or_an_edit_outside_trains_nothing_again(clone: Path) -> None:
    """An edit of what a stage imports does; tests/test_dvc_yaml.py finds every import among the dependencies."""

    def out_of_date() -> set[str]:
        return set(json.loads(run_in(clone, "dvc", "status", "--json").stdout))

    change_what_is_outside(clone)
    set_params(clone, {"compute.gpus": 2})
    assert out_of_date() <= {"sample@ddim-100", "sample@cs-10"}  # they depend on every correction
    edit(clone, "cspipe/compensation.py")
    assert "train" in out_of_date()


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

    before = samples()
    set_params(clone, {"sample.batch": 3})
    stage(clone, "sample", "cs-10")
    # Kernels for other batch sizes sum in another order; a pixel on the edge between two values may fall either way.
    assert np.abs(before - samples()).max() <= 1


@pytest.mark.slow
def test_interrupted_sampling_with_another_batch_starts_afresh(clone: Path) -> None:
    """Kept batches belong to their batch size; another one must not take a part for a whole."""
    set_params(clone, {"sample.images": 256, "variants.ddim-100.steps": 10})
    process = begun(clone, "sample", "ddim-100")
    process.kill()
    process.communicate()
    set_params(clone, {"sample.batch": 5})
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
    before = sha256_file(clone / "models/compensation/model.safetensors")
    set_params(clone, {"data.size": 16, "model.attention": [8]})
    assert "size 8" in refusal(clone, "compensate")
    set_params(clone, {"data.size": 8, "model.attention": [4], "diffusion.steps": 200})
    compensate.main()
    assert sha256_file(clone / "models/compensation/model.safetensors") == before


def test_a_training_whose_parameters_were_edited_meanwhile_is_refused_and_not_lost(
    clone: Path, finished: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC would record the new value for it. With the old value back, its state is all that is needed."""
    text = (clone / "params.yaml").read_text()

    def edited(*arguments: Any) -> Curve:
        points = run(*arguments)
        set_params(clone, {"train.learning_rate": 0.5})
        return points

    monkeypatch.setattr(train, "run", edited)
    assert "params.yaml: train.learning_rate changed while the stage ran" in refusal(clone, "train")
    shutil.rmtree(clone / "models/main")  # as DVC does
    (clone / "params.yaml").write_text(text)
    monkeypatch.setattr(train, "run", lambda trainer, *others: run(without_steps(trainer), *others))
    train.main()
    model = "models/main/model.safetensors"
    assert sha256_file(clone / model) == sha256_file(finished / model)


def without_steps(trainer: DiffusionTrainer) -> DiffusionTrainer:
    trainer.step = None  # type: ignore[assignment, method-assign]
    return trainer


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
