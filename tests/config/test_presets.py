"""Presets: where their numbers are from."""

import pytest

from cspipe.config.overlays import preset_names, read_preset

OURS = ("demo", "avatars64")
"""Begin the names of presets on rendered faces, which say that their numbers are ours."""
DECISIVE = (
    "model", "model.dropout", "diffusion.steps", "diffusion.schedule", "diffusion.prediction", "train.images",
    "train.batch", "train.learning_rate", "train.ema_half_life", "sample.images",
)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in preset_names() if not name.startswith(OURS)])
def test_numbers_of_a_paper_preset_name_their_source(name: str) -> None:
    """Those that decide a result come from no demo, and a comment says whose they are, or ours."""
    preset, demo = read_preset(name), read_preset("demo")
    assert [key for key in DECISIVE if preset.origins[key] == "demo"] == []
    assert [key for key in DECISIVE if preset.comments[key] in ("", demo.comments[key])] == []
    assert preset.tree["diffusion"]["steps"] == 100
    assert preset.tree["compensation"]["epochs"] == 1
