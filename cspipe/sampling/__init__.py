"""From noise to images: the loop over steps, variants and their settings, repainting, exposure bias."""
