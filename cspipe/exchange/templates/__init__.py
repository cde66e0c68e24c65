"""Code for exported folders: it imports torch and diffusers, and nothing of this package."""
