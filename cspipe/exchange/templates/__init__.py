"""Code that exported folders hold: it imports torch and diffusers, and nothing of this package."""
