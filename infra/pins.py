"""Pin the whole environment: `python infra/pins.py` resolves the newest versions pyproject.toml allows into uv.toml.

uv.lock would pin as well, but records the address of the package index it was made with. uv.toml holds names, versions
and markers alone, so `uv run` installs the same versions from whatever index a machine uses. Commit uv.toml; run the
tests before.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
PINS = ROOT / "uv.toml"
HEADING = """\
# Exact versions of the whole environment; written by `python infra/pins.py`.
# Bytecode at installation: where Python may write none, as in many containers, each process compiles torch, for 2 s.
compile-bytecode = true
"""


def main() -> None:
    """Resolve without the old pins, write the new ones, and resolve again to see that they hold."""
    PINS.write_text(HEADING)
    subprocess.run(["uv", "lock", "--upgrade"], cwd=ROOT, check=True)
    command = "uv export --frozen --all-groups --no-hashes --no-emit-project --no-header --no-annotate"
    lines = subprocess.run(command.split(), cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    pins = "".join(f'    "{line.strip()}",\n' for line in lines if line.strip())
    PINS.write_text(f"{HEADING}constraint-dependencies = [\n{pins}]\n")
    subprocess.run(["uv", "lock"], cwd=ROOT, check=True)
    print(f"{PINS.name}: {len(lines)} pins")


if __name__ == "__main__":
    main()
