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


OTHER, AVX2, AVX512 = "same seeds give other samples", "cpu (x86_64, AVX2)", "cpu (x86_64, AVX512)"


@pytest.mark.parametrize(
    ("then", "now", "levels", "off", "problem"),
    [
        ((AVX2, AVX2), (AVX2, AVX2), 1, 0, OTHER),
        ((AVX2, AVX2), (AVX512, AVX512), 1, 0, ""),  # another device may change samples by a level
        ((AVX2, AVX2), (AVX512, AVX512), 2, 0, OTHER),
        (("cpu", "cpu"), ("cpu", "cpu"), 1, 0, OTHER),  # versions of before devices told the instruction set
        (("H200", "H200"), ("H200", "H200"), 1, 0, OTHER),
        (("H200", "H200"), (AVX2, AVX2), 1, 0, ""),
        (("H200", "H200"), ("H100", "H200"), 1, 0, ""),
        (("H200", "H200"), ("H100", "H200"), 2, 0, OTHER),
        (("H200", "H200"), ("H100", "H200"), 0, 0, ""),
        (("H200", "H200"), ("H100", "H200"), 0, 1, "kid of the same seeds"),  # equal samples have equal scores
        (("H200", "H200"), ("H100", "H200"), 1, 1, ""),
        (("H200", "H200"), ("H200", "cpu"), 1, 0, OTHER),  # wherever they are scored
        (("H200", "H200"), ("H200", "cpu"), 0, 1, ""),
        ((None, "H200"), ("H200", "H200"), 0, 0, ""),  # of before samples told their device
    ],
)
def test_samples_and_scores_of_the_same_seeds_may_differ_as_the_devices_that_made_them_do(
    scorer: Scorer,
    monkeypatch: pytest.MonkeyPatch,
    then: tuple[str | None, str],
    now: tuple[str, str],
    levels: int,
    off: int,
    problem: str,
) -> None:
    """`then` and `now`: the devices that drew and that scored; the samples differ by `levels`, KID by `off`."""
    samples, metrics = scorer.root / "samples" / "a" / "samples.npy", scorer.root / "metrics" / "a.json"
    np.save(samples, np.load(samples) + np.uint8(levels))
    recorded = json.loads(metrics.read_text())
    recorded["tiny"]["kid"] += off
    if then[0] not in (None, now[0]):
        recorded["exposure"] = {"50": 0.1}  # of the walk, which is not that of the other device
    for key, before, after in zip(("samples_device", "device"), then, now, strict=True):
        recorded["provenance"][0] |= {key: before}
        monkeypatch.setitem(FACTS, key, after)
    metrics.write_text(json.dumps(recorded))
    found = check_same_seeds(scorer, "a")
    assert [said[: len(problem)] for said in found.problems] == [problem] * bool(problem)
    assert found.differs.keys() == {
        key
        for key, before, after in zip(("samples_device", "device"), then, now, strict=True)
        if before not in (None, after)
    }


def test_a_score_outside_of_the_band_counts_when_a_second_set_confirms_it(scorer: Scorer) -> None:
    known = night(scorer, "a").repeats
    (scorer.root / "broken").touch()
    found = check_same_seeds(scorer, "b")
    check_fresh_seeds(found, scorer, [repeat["scores"] for repeat in known], repeats=6, tests=4, seed=10**7)
    assert found.verdict == "regressed"
    assert [problem.split(" ")[0] for problem in found.problems] == ["kid"]
    assert found.repeats == []  # no band learns from it
