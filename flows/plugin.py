"""Prefect plugin: accepts bare deployment names (`prefect deployment run train-demo`), checks parameters, watches runs.

Prefect calls it before its own command line. It is enabled under `[tool.prefect.plugins]` in pyproject.toml, so it
works only in this folder. It imports little at first: every process that imports prefect loads this module.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.plugins import register_hook

from cspipe.runtime.errors import UserError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.plugins import HookContext

FLOWS = {"pipeline", "sweep"}
"""Flows that take a preset, a revision and overrides."""
TIMEOUT = 10.0
"""Seconds to wait for an answer of the server."""


@register_hook
def setup_environment(*, ctx: HookContext) -> None:
    """Replace a bare deployment name in Prefect's command by `flow/deployment`; leave other commands as they are.

    A run with unusable parameters is refused; flows/watch.py watches the runs of this project.
    Exits with status 1 and one line on stderr if the server does not answer, if none or several deployments have the
    name, or if a run is refused.
    """
    if not _is_prefect(sys.argv, sys.orig_argv):
        return
    if {"--watch", "watch"} & set(sys.argv):
        from flows.watch import install

        install()
    start = next((place for place, word in enumerate(sys.argv, 1) if word in {"deployment", "deployments"}), None)
    arguments = {} if start is None else _arguments(sys.argv[start:])
    if "name" not in arguments:
        return
    name = arguments["name"]
    try:
        full = name if "/" in name else _full_name(name, ctx.api_url)
        if full != name:
            print(f"cspipe: {name} is {full}", file=sys.stderr)
            sys.argv[start:] = _replaced(sys.argv[start:], name, full)
        _check_request(arguments, full)
    except UserError as error:
        print(f"cspipe: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _check_request(arguments: Mapping[str, Any], name: str) -> None:
    """Raise UserError if `prefect deployment run` of `name` gives parameters that its flow cannot use."""
    flow = name.partition("/")[0]
    if flow in FLOWS and arguments.keys() & {"params", "multiparams"}:
        from flows.request import check, typed_parameters

        check(flow, {**_deployed_parameters(name), **typed_parameters(arguments)})


def _deployed_parameters(name: str) -> dict[str, Any]:
    """Return the parameters of a deployment; {} if the server does not give them, which Prefect reports later."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    try:
        with get_client(httpx_settings={"timeout": TIMEOUT}, sync_client=True) as client:
            return client.read_deployment_by_name(name).parameters
    except (httpx.HTTPError, RuntimeError, ObjectNotFound):
        return {}


def _is_prefect(argv: Sequence[str], original: Sequence[str]) -> bool:
    """Whether this process is Prefect's command: `prefect ...` or `python -m prefect ...`."""
    if argv[:1] == ["-m"]:  # runpy sets argv[0] to "-m" until the module is found
        return "-m" in original and original[original.index("-m") + 1] == "prefect"
    return bool(argv) and Path(argv[0]).stem == "prefect"


def _arguments(words: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of `prefect deployment run` or `inspect`, as Prefect's own command line reads these words.

    Empty for other commands, and for words that Prefect refuses with a message of its own.
    """
    from cyclopts import CycloptsError
    from prefect.cli.deployment import deployment_app

    try:
        command, bound, _ = deployment_app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError:
        return {}
    return dict(bound.arguments) if command.__name__ in ("run", "inspect") else {}


def _replaced(words: Sequence[str], name: str, full: str) -> list[str]:
    """Return the words with the deployment's name replaced by `full`, but not an equal value of an option."""
    places = (place for place, word in enumerate(words) if word == name)
    tried = ([*words[:place], full, *words[place + 1 :]] for place in places)
    return next(each for each in tried if _arguments(each).get("name") == full)


def _full_name(name: str, api_url: str | None) -> str:
    """Return `flow/deployment` of the only deployment with this name. Raises UserError that lists the existing ones."""
    import httpx
    from prefect.client.orchestration import get_client

    from flows import password

    if api_url is None:
        raise UserError("no Prefect server is set up here; start one with `uv run cspipe up`, or set PREFECT_API_URL")
    try:
        with get_client(httpx_settings={"timeout": TIMEOUT}, sync_client=True) as client:
            found = _names(client, name)
            known = found or _names(client)
    except (httpx.HTTPError, RuntimeError) as error:
        if password.refused(error):
            raise UserError(f"the Prefect server at {api_url} refuses the password; {password.FIX}") from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the Prefect server at {api_url} gives no answer ({reason}); is it up (`uv run cspipe status`), "
            "are PREFECT_API_URL and PREFECT_API_AUTH_STRING right?"
        ) from None
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{len(found)} deployments are named {name!r}; type one of {', '.join(found)}")
    there = f"there are {', '.join(known)}" if known else "there are none; `uv run cspipe up` registers them"
    raise UserError(f"no deployment is named {name!r}; {there}")


def _names(client: SyncPrefectClient, name: str | None = None) -> list[str]:
    """Return `flow/deployment` of the deployments with this name, or of the first 200 on the server; sorted."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowFilter, FlowFilterId

    wanted = None if name is None else DeploymentFilter(name=DeploymentFilterName(any_=[name]))
    deployments = client.read_deployments(deployment_filter=wanted)
    flows = client.read_flows(flow_filter=FlowFilter(id=FlowFilterId(any_=[d.flow_id for d in deployments])))
    names = {flow.id: flow.name for flow in flows}
    return sorted(f"{names[deployment.flow_id]}/{deployment.name}" for deployment in deployments)
