"""The files of infra/, read as those who use them read them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

INFRA = ROOT / "infra"
Tree = dict[str, Any]
VARIABLE = re.compile(r"\$\{(\w+)(:?\?[^}]*)?\}")
"""${NAME}, ${NAME?message} and ${NAME:?message}, the forms of compose.yaml."""
SECRETS = {
    "PREFECT_API_AUTH_STRING": "admin:for-this-test-alone",
    "POSTGRES_PASSWORD": "for-this-test-alone",
    "AWS_SECRET_ACCESS_KEY": "for-this-test-alone",
}
"""What people fill in."""


def read_env(file: Path) -> dict[str, str]:
    """NAME=value lines; compose, kubectl and the shell agree on these as long as no quoting is needed."""
    lines = (line for line in file.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def substitute(value: Any, variables: dict[str, str]) -> Any:
    """The tree with variables put in. Raises KeyError for one that is not there."""
    if isinstance(value, dict):
        return {key: substitute(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, variables) for item in value]
    return VARIABLE.sub(lambda found: variables[found[1]], value) if isinstance(value, str) else value


@pytest.fixture(scope="session")
def env() -> dict[str, str]:
    return read_env(INFRA / ".env.example") | SECRETS


@pytest.fixture(scope="session")
def compose(env: dict[str, str]) -> Tree:
    return substitute(yaml.safe_load((INFRA / "compose.yaml").read_text()), env)
