"""What is compared with the record, and what of it is named."""

from __future__ import annotations

from typing import Any

import pytest

from flows.nightly.checks import Finding, compare_images, differences
from flows.reevaluate import Checked, table
from tests.evaluation.tiny import blobs

FACTS = {"torch": "2.15.0+cu130", "torchvision": "0.29", "device": "H200", "model_sha256": "a" * 64, "code": {"a": "1"}}
SCORES: dict[str, float | None] = {"kid": 0.1, "frechet": 20.0, "precision": 0.5, "recall": 0.5}


def differing(**changes: Any) -> dict[str, str]:
    """What differs after changes of the provenance."""
    return differences({"provenance": [FACTS]}, {"provenance": [FACTS | changes]})


def test_what_differs_is_named_then_and_now() -> None:
    assert differing() == {}
    assert list(differing(torch="2.16.0", model_sha256="b" * 64, code={"a": "2"})) == ["model_sha256", "torch", "code"]
    assert differing(torch="2.15.0") == {"torch": "2.15.0+cu130 then, 2.15.0 now"}


def test_another_build_for_another_device_is_no_other_version() -> None:
    assert differing(torch="2.15.0", device="cpu") == {"device": "H200 then, cpu now"}


def test_images_are_compared_value_by_value() -> None:
    then = blobs(4, seed=0)
    now = then.copy()
    now[2, 0, 0, 0] ^= 255
    gap = abs(int(now[2, 0, 0, 0]) - int(then[2, 0, 0, 0]))
    assert compare_images(then, then) == (0, 0.0)
    assert compare_images(then, now) == (1, gap / then.size)
    with pytest.raises(ValueError, match="zip"):
        compare_images(then, now[:2])


def finding(variant: str, *problems: str) -> Finding:
    """A variant whose samples and scores are the recorded ones, or whose samples are not."""
    found = Finding(variant, SCORES, SCORES, 16, len(problems), {}, list(problems), now=SCORES)
    found.bands = dict.fromkeys(SCORES)
    return found


def test_what_drifted_stands_on_top() -> None:
    lost = Checked("main v1.0.0", "0" * 40, "models/main is missing in s3://bucket/dvc")
    both = [finding("calm"), finding("moved", "same seeds give other samples")]
    rows = table([Checked("main v1.0.0", "0" * 40, variants=both), lost])
    assert [row.get("variant") for row in rows[:3]] == ["moved", None, "calm"]
    assert rows[0]["same seeds"] == "15 of 16 equal"
    assert {row["verdict"] for row in rows[2:]} == {"same", "inconclusive"}
