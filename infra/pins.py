"""Pin the whole environment: `python infra/pins.py` resolves the newest versions that the dependencies allow.

uv.lock would pin as well, but records the address of the package index it was made with. The pins at the end of
pyproject.toml are names, versions and markers alone, so `uv run` installs the same versions from whatever index a
machine uses. infra/hashes.txt has the same lines with the SHA-256 of every file of each version, for installations that
refuse any other file. Run the tests, then commit both.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILE = ROOT / "pyproject.toml"
PINS = "constraint-dependencies = ["
"""The line of pyproject.toml where the pins begin; they go on to its end."""
HASHES = ROOT / "infra" / "hashes.txt"
EXPORT = "uv export --locked --all-groups --no-emit-project --no-header --no-annotate"
"""Prints what uv.lock holds as requirements, each with lines of hashes after it, and no address."""


def without_hashes(export: str) -> list[str]:
    """The requirements of what EXPORT prints."""
    return [line.removesuffix(" \\") for line in export.splitlines() if not line.startswith(" ")]


def main() -> None:
    """Resolve without the old pins, write the new ones and hashes, and resolve again to see that they hold."""
    settings = FILE.read_text().partition(PINS)[0]
    FILE.write_text(settings)
    subprocess.run(["uv", "lock", "--upgrade"], cwd=ROOT, check=True)
    export = subprocess.run(EXPORT.split(), cwd=ROOT, check=True, capture_output=True, text=True).stdout
    pins = without_hashes(export)
    FILE.write_text(f"{settings}{PINS}\n" + "".join(f'    "{pin}",\n' for pin in pins) + "]\n")
    HASHES.write_text(export)
    subprocess.run(["uv", "lock"], cwd=ROOT, check=True)
    print(f"{FILE.name}: {len(pins)} pins")


if __name__ == "__main__":
    main()
