"""S3 credentials of a worker: from its environment, boto3's own places, or a Secret block on Prefect's server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from prefect.blocks.system import Secret

from cspipe.runtime.errors import UserError

BLOCK = "cspipe-s3"
"""Name of the Secret block, a JSON object of variables such as AWS_ACCESS_KEY_ID; the server keeps it encrypted."""


def take_from_block() -> None:
    """Put the Secret block's variables into the environment, which stages inherit, unless AWS_ACCESS_KEY_ID is set.

    Does nothing if there is no block. Raises UserError if the block holds anything but AWS_ variables. Its values are
    never printed.
    """
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return
    try:
        block: Secret[Any] = Secret.load(BLOCK, _sync=True)  # type: ignore[call-arg, assignment]
    except ValueError:  # no block: the credentials come from a profile or the machine's role
        return
    variables = block.get()
    if not isinstance(variables, Mapping) or not all(str(name).startswith("AWS_") for name in variables):
        raise UserError(f"Prefect's Secret block {BLOCK} must be a JSON object of AWS_ variables; correct it in the UI")
    os.environ.update({str(name): str(value) for name, value in variables.items()})
