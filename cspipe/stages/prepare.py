"""Stage prepare: images as uint8 shards."""

from __future__ import annotations

from pathlib import Path

PREPARED, WORK = Path("data/prepared"), Path(".cspipe/states/prepare")


def main() -> None:
    """Read params.yaml and the images it names; write data/prepared."""
    # Worker processes import this module again: they do not wait for imports inside this function.
    from cspipe.config.params_file import load_params
    from cspipe.ingest.prepare import prepare
    from cspipe.runtime.stage import one_at_a_time, stage

    with stage("prepare") as log:
        params = load_params()
        with one_at_a_time(WORK):
            log.images(prepare(params.data, PREPARED, WORK, masks=params.condition.mask_folder))


if __name__ == "__main__":
    main()
