"""Images by index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cspipe.evaluation.image_sets import ImageSet, NoiseSource
from tests.evaluation.tiny import blobs, source_of


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_rgb_whatever_the_source(channels: int) -> None:
    images = blobs(5, 0, channels)
    image_set = ImageSet(source_of(images), 5)
    batch = torch.stack(image_set.__getitems__([3, 0]))
    assert batch.shape == (2, 3, 16, 16)
    assert batch.dtype == torch.uint8
    for channel in range(3):
        np.testing.assert_array_equal(batch[:, channel], images[[3, 0], min(channel, channels - 1)])
    assert torch.equal(image_set[3], batch[0])


@pytest.mark.parametrize(("limit", "count"), [(3, 3), (5, 5), (9, 5)])
def test_images_are_the_first_of_the_source(limit: int, count: int) -> None:
    assert len(ImageSet(source_of(blobs(5, 0)), limit)) == count


def test_mapped_files_are_read_without_warnings(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    np.save(tmp_path / "images.npy", blobs(4, 0))
    images = ImageSet(source_of(np.load(tmp_path / "images.npy", mmap_mode="r")), 4)
    np.testing.assert_array_equal(torch.stack([images[i] for i in range(4)]), blobs(4, 0))
    assert not recwarn.list


def test_a_set_reports_what_is_read() -> None:
    read: list[int] = []
    source = source_of(blobs(5, 0))
    images = ImageSet(source, on_read=read.append)
    np.testing.assert_array_equal(images.gather(np.array([3, 0])), source.gather(np.array([3, 0])))
    assert torch.equal(images[4], torch.from_numpy(source.gather(np.array([4]))[0]))
    assert (len(images), images.sha256, read) == (5, source.sha256, [2, 1])


def test_noise_is_uniform_and_the_same_in_any_order() -> None:
    noise = NoiseSource(200, (3, 8, 8))
    images = noise.gather(np.arange(200))
    np.testing.assert_array_equal(noise.gather(np.array([7, 3])), images[[7, 3]])
    assert len(np.unique(images.reshape(200, -1), axis=0)) == 200
    counts = np.bincount(images.reshape(-1), minlength=256)
    expected = images.size / 256
    chi_square = ((counts - expected) ** 2 / expected).sum()  # 255 degrees of freedom: mean 255, deviation 22.6
    assert 255 - 5 * 22.6 < chi_square < 255 + 5 * 22.6


def test_the_hash_of_noise_tells_its_images() -> None:
    noise = NoiseSource(9, (3, 8, 8))
    others = [NoiseSource(9, (1, 8, 8)), NoiseSource(8, (3, 8, 8)), NoiseSource(9, (3, 8, 8), seed=1)]
    assert len({kind.sha256 for kind in [noise, *others]}) == 4
    assert noise.sha256 == NoiseSource(9, (3, 8, 8)).sha256
