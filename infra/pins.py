"""Pin the whole environment: `python infra/pins.py` resolves the newest versions that the dependencies allow.

uv.lock would pin as well, but records the address of the package index it was made with. The pins at the end of
pyproject.toml are names, versions and markers alone, so `uv run` installs the same versions from whatever index a
machine uses. Run the tests, then commit pyproject.toml.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILE = ROOT / "pyproject.toml"
PINS = "constraint-dependencies = ["
"""The line of pyproject.toml where the pins begin; they go on to its end."""
EXPORT = "uv export --locked --all-groups --no-hashes --no-emit-project --no-header --no-annotate"
"""Prints what uv.lock holds as requirements."""


def main() -> None:
    """Resolve without the old pins, write the new ones, and resolve again to see that they hold."""
    settings = FILE.read_text().partition(PINS)[0]
    FILE.write_text(settings)
    subprocess.run(["uv", "lock", "--upgrade"], cwd=ROOT, check=True)
    lines = subprocess.run(EXPORT.split(), cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    pins = "".join(f'    "{line.strip()}",\n' for line in lines if line.strip())
    FILE.write_text(f"{settings}{PINS}\n{pins}]\n")
    subprocess.run(["uv", "lock"], cwd=ROOT, check=True)
    print(f"{FILE.name}: {len(lines)} pins")


if __name__ == "__main__":
    main()
