"""Set up a new server: `python infra/setup.py process|kubernetes` creates what is missing, and may be run again.

That is the bucket of $CSPIPE_S3 and, on the server of $PREFECT_API_URL, the work pools `cpu` and `gpu` (the latter of
the given type) and the deployments of prefect.yaml. Run it in a clone. Exits with 1 and one line if something fails.
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
