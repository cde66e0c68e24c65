"""Make a new server usable: `python infra/setup.py process|kubernetes` creates what is missing, and may be run again.

The bucket of $CSPIPE_S3, the work pools `cpu` and `gpu` (the latter of the given type) and the deployments of
prefect.yaml, on the server of $PREFECT_API_URL. Typed in a clone. Ends with 1 and one line if something fails.
"""

from __future__ import annotations

import sys

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from cspipe.runtime.errors import UserError
from flows.setup import set_up

if __name__ == "__main__":
    if sys.argv[1:] not in (["process"], ["kubernetes"]):
        sys.exit("usage: python infra/setup.py process|kubernetes   (type of the work pool gpu)")
    try:
        set_up(sys.argv[1])
    except KeyError as error:
        sys.exit(f"{error.args[0]} is not set; infra/.env.example has all variables")
    except (BotoCoreError, ClientError, httpx.HTTPError, UserError) as error:
        sys.exit(f"setup: {error}")
