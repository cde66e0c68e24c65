"""Images by index."""

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


def test_noise_is_uniform_and_the_same_in_any_order() -> None:
    noise = NoiseSource(200, (3, 8, 8))
    images = noise.gather(np.arange(200))
    np.testing.assert_array_equal(noise.gather(np.array([7, 3])), images[[7, 3]])
    assert len(np.unique(images.reshape(200, -1), axis=0)) == 200
    counts = np.bincount(images.reshape(-1), minlength=256)
    expected = images.size / 256
    chi_square = ((counts - expected) ** 2 / expected).sum()  # 255 degrees of freedom: mean 255, deviation 22.6
    assert 255 - 5 * 22.6 < chi_square < 255 + 5 * 22.6
