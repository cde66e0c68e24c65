"""Energy of GPUs, with NVML's functions replaced: there may be no GPU. tests/gpu has the real counter."""

from collections.abc import Iterator

import pynvml
import pytest

from cspipe.runtime import energy
from cspipe.runtime.runlog import RunLog


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Millijoules by NVML's names of the GPUs of a machine."""
    counters = {"GPU-a": 5_000_000, "GPU-b": 7_000_000, "GPU-other": 1}

    def handle(name: str) -> str:
        if name not in counters:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return name

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", handle)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", counters.__getitem__)
    yield counters
    energy.count([])


def test_a_run_logs_what_its_gpus_took_since_it_had_them(counters: dict[str, int]) -> None:
    log = RunLog("train")
    assert log.facts()["gpu_joules"] is None
    counters["GPU-a"] += 1_000_000
    energy.count(["a", "b"])
    counters["GPU-a"] += 2_000
    counters["GPU-b"] += 500
    counters["GPU-other"] += 9_000
    assert log.facts()["gpu_joules"] == 2.5


def test_gpus_without_a_counter_are_not_measured(counters: dict[str, int]) -> None:
    energy.count(["a", "without"])
    assert energy.joules() is None
    energy.count(["a"])
    del counters["GPU-a"]
    assert energy.joules() is None


def test_without_a_driver_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    energy.count(["a"])
    assert energy.joules() is None
