"""Pin the whole environment and base images: `python infra/pins.py` takes the newest that the named versions allow.

uv.lock would pin as well, but records the address of the package index it was made with. The pins at the end of
pyproject.toml are names, versions and markers alone, so `uv run` installs the same versions from whatever index a
machine uses. infra/hashes.txt has the same lines with the SHA-256 of every file of each version, for installations that
refuse any other file. Base images get the digest of their version after its name, where `docker buildx` can ask their
registry; where it cannot, they stay as they are. Run the tests, then commit all of it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILE = ROOT / "pyproject.toml"
PINS = "constraint-dependencies = ["
"""Line of pyproject.toml where the pins begin; they run to the end of the file."""
HASHES = ROOT / "infra" / "hashes.txt"
EXPORT = "uv export --locked --all-groups --no-emit-project --no-header --no-annotate"
"""Command that prints uv.lock as requirements, each followed by lines of hashes, without addresses."""
IMAGE = re.compile(r"^(\s*(?:FROM|image:) )([\w./-]+:[\w.-]+)(@\S+)?", re.MULTILINE)
"""Groups: the text before a third-party image, the image, its digest. Own images have no version in these files."""
IMAGE_FILES = ("worker.Dockerfile", "compose.yaml", "kubernetes/*.yaml")


def without_hashes(export: str) -> list[str]:
    """Return the requirements in the output of EXPORT, without hashes."""
    return [line.removesuffix(" \\") for line in export.splitlines() if not line.startswith(" ")]


def with_digests(text: str) -> str:
    """Return a Dockerfile or manifest with the current digests of its base images."""
    return IMAGE.sub(lambda found: f"{found[1]}{found[2]}{digest(found[2]) or found[3] or ''}", text)


@cache
def digest(image: str) -> str:
    """Return the digest of an image now, such as "@sha256:..."; "" if Docker cannot tell."""
    command = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"]
    if shutil.which("docker"):
        printed = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        if re.fullmatch("sha256:[0-9a-f]{64}", printed):
            return f"@{printed}"
    print(f"{image}: no registry could be asked for its digest")
    return ""


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
    for file in (file for pattern in IMAGE_FILES for file in HASHES.parent.glob(pattern)):
        file.write_text(with_digests(file.read_text()))
    print(f"{FILE.name}: {len(pins)} pins")


if __name__ == "__main__":
    main()
