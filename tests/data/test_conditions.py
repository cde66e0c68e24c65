"""What the net sees beside x_t, for each task."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from cspipe.data.conditions import condition_channels, hole_of, masked, open_conditions
from cspipe.data.settings import ConditionSettings
from cspipe.data.shards import Shards
from cspipe.ingest.user_masks import read_masks
from cspipe.runtime.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3, 16, 16), np.uint8)
NUMBERS = np.arange(12)
NOWHERE = Path("nowhere")
"""No prepared data: none of these tasks reads them again."""


def shards(pixels: NDArray[np.uint8] = PIXELS, paired: NDArray[np.uint8] | None = None) -> Shards:
    shape = pixels.shape[1:]
    return Shards(shape, [pixels[:5], pixels[5:]], "0" * 64, None if paired is None else shards(paired))


def settings(
    masks: list[str] | None = None, mask_folder: Path | None = None, occluders: list[str] | None = None
) -> ConditionSettings:
    return ConditionSettings(masks=masks or [], mask_folder=mask_folder, occluders=occluders or [])


@pytest.mark.parametrize("channels", [1, 3])
@given(data=st.data())
def test_a_hole_is_grey_and_is_found_again(channels: int, data: st.DataObject) -> None:
    n, size = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 8))
    pixels = data.draw(arrays(np.uint8, (n, channels, size, size)))
    holes = data.draw(arrays(np.bool_, (n, 1, size, size)))
    condition = masked(pixels, holes)
    assert condition.dtype == np.uint8
    assert condition.shape == (n, condition_channels("inpaint", channels), size, size)
    np.testing.assert_array_equal(hole_of(condition), holes)
    for number in range(n):
        hole = holes[number, 0]
        assert (condition[number, :-1, hole] == 128).all()
        np.testing.assert_array_equal(condition[number, :-1, ~hole], pixels[number, :, ~hole])
    assert set(np.unique(condition[:, -1])) <= {0, 255}


def test_user_masks_are_one_more_family(tmp_path: Path) -> None:
    dot = np.zeros((16, 16), np.uint8)
    dot[3, 4] = 255
    (tmp_path / "mine").mkdir()
    Image.fromarray(dot).save(tmp_path / "mine/dot.png")
    read_masks(tmp_path / "mine", 16).save(tmp_path)
    conditions = open_conditions("inpaint", settings(["half"], tmp_path / "mine"), shards(), tmp_path)
    assert conditions is not None
    assert list(conditions.families) == ["half", "own"]
    holes = hole_of(conditions(NUMBERS, PIXELS, range(12), ["own"] * 12))
    np.testing.assert_array_equal(holes[:, 0], (dot == 255)[None].repeat(12, 0))
    alone = open_conditions("inpaint", settings([], tmp_path / "mine"), shards(), tmp_path)
    assert alone is not None
    assert list(alone.families) == ["own"]


def test_pairs_are_those_of_the_places() -> None:
    paired = 255 - PIXELS
    conditions = open_conditions("deocclude", settings(), shards(PIXELS, paired), NOWHERE)
    assert conditions is not None
    assert tuple(conditions.families) == ("pairs",)
    numbers = np.array([9, 2, 2])
    np.testing.assert_array_equal(conditions(numbers, PIXELS[numbers], [1, 2, 3]), paired[numbers])


def test_a_task_without_its_conditions_is_told() -> None:
    with pytest.raises(UserError, match=r"condition\.occluders is empty.*no pairs"):
        open_conditions("deocclude", settings(["half"]), shards(), NOWHERE)
    with pytest.raises(UserError, match=r"condition\.masks is empty and condition\.mask_folder null"):
        open_conditions("inpaint", settings(), shards(), NOWHERE)
    with pytest.raises(UserError, match=r"data\.size 2 is too small for a hole"):
        open_conditions("inpaint", settings(["half"]), shards(PIXELS[..., :2, :2]), NOWHERE)
