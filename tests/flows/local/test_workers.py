"""Which workers a machine gets. tests/flows/local/test_stack.py starts them."""

from pathlib import Path

import pytest

from flows.local import workers


@pytest.mark.parametrize(("variable", "gpus"), [("", []), ("0,2", ["0", "2"]), ("GPU-7a", ["GPU-7a"])])
def test_the_gpus_that_were_chosen_are_taken(monkeypatch: pytest.MonkeyPatch, variable: str, gpus: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert workers.visible_gpus() == gpus


def test_each_gpu_gets_a_worker_that_sees_all_that_were_chosen(tmp_path: Path) -> None:
    programs = workers.programs("gpu", tmp_path, {"A": "b"}, ["0", "GPU-7a"])
    assert [(program.name, program.environment["CUDA_VISIBLE_DEVICES"]) for program in programs] == [
        ("gpu-0", "0,GPU-7a"), ("gpu-1", "0,GPU-7a")
    ]  # fmt: skip
    assert all(program.command[-2:] == ["1", "--no-create-pool-if-not-found"] for program in programs)
    [without] = workers.programs("gpu", tmp_path, {}, [])
    assert without.environment["CUDA_VISIBLE_DEVICES"] == ""
