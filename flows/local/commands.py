"""Commands that this clone adds to `cspipe`, by entry points of pyproject.toml; a wheel has none of them.

Imports only typer; each command imports the rest: `cspipe --help` loads this module.
"""

from __future__ import annotations

from typing import Annotated

import typer


def up(
    detach: Annotated[bool, typer.Option("--detach", help="return when all is ready; `cspipe down` stops it")] = False,
    s3: Annotated[str | None, typer.Option(help="s3://bucket/prefix to use; a store here if not given")] = None,
    port: Annotated[int | None, typer.Option(help="of Prefect's server; 4200 or another free one if not given")] = None,
) -> None:
    """Start Prefect's server, an S3 store and workers on this machine, and register all deployments."""
    from flows.local.stack import up

    up(detach, s3, port)


def down() -> None:
    """Stop what `cspipe up` started in this folder."""
    from flows.local.stack import down

    down()


def status(as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False) -> None:
    """Show what runs and whether it is healthy; exit status 1 if not."""
    from flows.local.status import status

    raise typer.Exit(0 if status(as_json) else 1)


def worker(pool: Annotated[str, typer.Argument(help="cpu or gpu")]) -> None:
    """Start this machine's workers of a pool, one per GPU for gpu; the server's address is PREFECT_API_URL."""
    from flows.local.workers import worker

    worker(pool)
