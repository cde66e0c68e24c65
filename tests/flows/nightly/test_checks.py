"""What is compared with the record, and what of it is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from flows.command import Ended
from flows.nightly.checks import Finding, Scorer, check_fresh_seeds, check_same_seeds, differences
from flows.nightly.drift import BETTER
from tests.evaluation.tiny import blobs

FACTS = {
    "torch": "2.15.0+cu130", "torchvision": "0.29", "samples_device": "H200", "device": "H200",
    "model_sha256": "a" * 64, "code": {"a": "1"},
}  # fmt: skip


def differing(**changes: Any) -> dict[str, str]:
    """What differs after changes of the provenance."""
    return differences({"provenance": [FACTS]}, {"provenance": [FACTS | changes]})


def test_what_differs_is_named_then_and_now() -> None:
    assert differing() == {}
    assert list(differing(torch="2.16.0", model_sha256="b" * 64, code={"a": "2"})) == ["model_sha256", "torch", "code"]
    assert differing(torch="2.15.0") == {"torch": "2.15.0+cu130 then, 2.15.0 now"}


def test_another_build_for_another_device_is_no_other_version() -> None:
    assert differing(torch="2.15.0", device="cpu") == {"device": "H200 then, cpu now"}


@pytest.fixture
def scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    """A workspace of two variants whose stages draw noise, and score it by its mean."""

    def run_command(command: list[str], root: Path, **_: Any) -> Ended:
        """Stand-in for both stages: the samples follow from params.yaml's seed, the scores from the samples."""
        name, seed = command[-1], yaml.safe_load((root / "params.yaml").read_text())["sample"]["seed"]
        samples = root / "samples" / name
        if "sample" in command[-2]:
            samples.mkdir(parents=True, exist_ok=True)
            np.save(samples / "samples.npy", blobs(8, seed=seed % 2**31))
        mean = float(np.load(samples / "samples.npy").mean())
        scores = dict.fromkeys(BETTER, mean) | {"kid": mean + (100 if (root / "broken").exists() and seed > 7 else 0)}
        (root / "metrics").mkdir(exist_ok=True)
        (root / "metrics" / f"{name}.json").write_text(
            json.dumps({"tiny": scores, "provenance": [FACTS | {"seed": 7}]})
        )
        return Ended(0, ())

    monkeypatch.setattr("flows.nightly.checks.run_command", run_command)
    (tmp_path / ".cspipe").mkdir()
    (tmp_path / "params.yaml").write_text("sample: {seed: 7}\n")
    made = Scorer(tmp_path, "nightly", print)
    for variant in ("a", "b"):
        made.score(variant, 7)
    return made


def night(scorer: Scorer, variant: str) -> Finding:
    found = check_same_seeds(scorer, variant)
    check_fresh_seeds(found, scorer, [], repeats=6, tests=4, seed=1000)
    return found


@pytest.mark.parametrize(
    ("then", "now", "levels", "drifts"),
    [
        ("cpu (x86_64, AVX2)", "cpu (x86_64, AVX2)", 1, True),
        ("cpu (x86_64, AVX2)", "cpu (x86_64, AVX512)", 1, False),
        ("cpu (x86_64, AVX2)", "cpu (x86_64, AVX512)", 2, True),
        ("cpu", "cpu", 1, True),  # versions of before devices told the instruction set
        ("H200", "H200", 1, True),
        ("H200", "cpu (x86_64, AVX2)", 1, False),
    ],
)
def test_another_device_may_change_samples_of_the_same_seeds_by_a_level(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch, then: str, now: str, levels: int, drifts: bool
) -> None:
    samples, metrics = scorer.root / "samples" / "a" / "samples.npy", scorer.root / "metrics" / "a.json"
    np.save(samples, np.load(samples) + np.uint8(levels))
    metrics.write_text(metrics.read_text().replace("H200", then))
    for key in ("samples_device", "device"):
        monkeypatch.setitem(FACTS, key, now)
    assert bool(check_same_seeds(scorer, "a").problems) == drifts


@pytest.mark.parametrize(("levels", "drifts"), [(1, False), (2, True)])
def test_samples_that_another_device_drew_may_differ_though_one_scored_both(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch, levels: int, drifts: bool
) -> None:
    samples = scorer.root / "samples" / "a" / "samples.npy"
    np.save(samples, np.load(samples) + np.uint8(levels))
    monkeypatch.setitem(FACTS, "samples_device", "H100")
    found = check_same_seeds(scorer, "a")
    assert bool(found.problems) == drifts
    assert found.differs == {"samples_device": "H200 then, H100 now"}


@pytest.mark.parametrize("off", [0, 1])
def test_equal_samples_of_two_devices_have_equal_scores(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch, off: int
) -> None:
    metrics = scorer.root / "metrics" / "a.json"
    recorded = json.loads(metrics.read_text())
    recorded["tiny"]["kid"] += off
    recorded["exposure"] = {"50": 0.1}  # of the walk, which is not that of the other device
    metrics.write_text(json.dumps(recorded))
    monkeypatch.setitem(FACTS, "samples_device", "H100")
    problems = check_same_seeds(scorer, "a").problems
    assert [problem.partition(" of the same seeds")[0] for problem in problems] == ["kid"] * off


def test_samples_that_one_device_drew_are_the_same_wherever_they_are_scored(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = scorer.root / "samples" / "a" / "samples.npy"
    np.save(samples, np.load(samples) + np.uint8(1))
    monkeypatch.setitem(FACTS, "device", "cpu")
    [problem] = check_same_seeds(scorer, "a").problems
    assert problem.startswith("same seeds give other samples")


def test_metrics_of_before_samples_told_their_device_are_compared_by_that_of_the_scores(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = scorer.root / "metrics" / "a.json"
    metrics.write_text(metrics.read_text().replace('"samples_device": "H200", ', ""))
    found = check_same_seeds(scorer, "a")
    assert (found.problems, found.differs) == ([], {})


def test_a_score_outside_of_the_band_counts_when_a_second_set_confirms_it(scorer: Scorer) -> None:
    known = night(scorer, "a").repeats
    (scorer.root / "broken").touch()
    found = check_same_seeds(scorer, "b")
    check_fresh_seeds(found, scorer, [repeat["scores"] for repeat in known], repeats=6, tests=4, seed=10**7)
    assert found.verdict == "regressed"
    assert [problem.split(" ")[0] for problem in found.problems] == ["kid"]
    assert found.repeats == []  # no band learns from it
