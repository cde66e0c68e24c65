"""Stage prepare: pictures as uint8 shards.

Its worker processes import this module anew, so it must not import torch.
"""

from __future__ import annotations

from pathlib import Path

from cspipe.data.prepare import prepare
from cspipe.params import load_params
from cspipe.stages.stage import stage

PREPARED = Path("data/prepared")


def main() -> None:
    """Read params.yaml and the pictures it names; write data/prepared."""
    with stage("prepare") as log:
        log.images(prepare(load_params().data, PREPARED))


if __name__ == "__main__":
    main()
