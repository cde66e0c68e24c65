"""Stage prepare: pictures as uint8 shards."""

from __future__ import annotations

from pathlib import Path

PREPARED = Path("data/prepared")


def main() -> None:
    """Read params.yaml and the pictures it names; write data/prepared."""
    # Worker processes import this module anew: what is imported here, they do not wait for.
    from cspipe.data.prepare import prepare
    from cspipe.params_file import load_params
    from cspipe.stages.stage import stage

    with stage("prepare") as log:
        log.images(prepare(load_params().data, PREPARED))


if __name__ == "__main__":
    main()
