"""From noise to images: walks along a path of steps, variants, repainting, own images."""
