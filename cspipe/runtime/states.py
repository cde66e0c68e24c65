"""Opening the training states of a stage: on this machine, and in S3 if CSPIPE_S3 names a bucket."""

from __future__ import annotations

import os

from cspipe.runtime.checkpoint import Checkpoints
from cspipe.runtime.ranks import rank
from cspipe.runtime.stage import STATES


def open_states(stage: str, key: str) -> Checkpoints:
    """Open the states of the stage's run `key`. In a flow, those in S3 stay until the flow has pushed the result.

    Raises UserError if CSPIPE_S3 is set and cannot be used.
    """
    url, mirror = os.environ.get("CSPIPE_S3") if rank() == 0 else None, None
    if url:
        from cspipe.runtime.mirror import Mirror  # boto3 takes a second to import
        from cspipe.runtime.storage import Bucket

        bucket = Bucket.from_url(url)
        bucket.check()
        mirror = Mirror(bucket, f"states/{stage}/{key}", os.environ.get("CSPIPE_FLOW_RUN"))
    return Checkpoints(STATES / stage, key, mirror)
