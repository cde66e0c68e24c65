"""infra/.env.example: one file for compose, for the shell and for kubectl."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.infra.conftest import INFRA, VARIABLE, read_env

EXAMPLE = INFRA / ".env.example"


def test_the_shell_reads_the_same_values(env: dict[str, str]) -> None:
    script = f"set -a; . {EXAMPLE}; env -0"
    output = subprocess.run(["sh", "-euc", script], env={}, capture_output=True, text=True, check=True).stdout
    seen = dict(line.split("=", 1) for line in output.split("\0") if "=" in line)
    assert {name: seen.get(name) for name in env} == env


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_reads_the_same_names(env: dict[str, str], tmp_path: Path) -> None:
    command = ["kubectl", "create", "secret", "generic", "cspipe", "--dry-run=client", f"--from-env-file={EXAMPLE}"]
    template = "go-template={{range $name, $value := .data}}{{$name}}={{base64decode $value}}\n{{end}}"
    done = subprocess.run([*command, "--output", template], capture_output=True, text=True, check=True, cwd=tmp_path)
    (tmp_path / "env").write_text(done.stdout)
    assert read_env(tmp_path / "env") == env


def test_compose_uses_only_variables_of_the_example(env: dict[str, str]) -> None:
    text = (INFRA / "compose.yaml").read_text()
    used = [found[1] for found in VARIABLE.finditer(text)]
    assert set(used) - set(env) == set()
    assert text.count("$") == len(used)  # no other way of writing one is overlooked


def test_every_variable_of_the_example_is_used(env: dict[str, str]) -> None:
    text = (INFRA / "compose.yaml").read_text() + (INFRA / "worker-entrypoint.sh").read_text()
    assert {name for name in env if name not in text} == {"COMPOSE_PROFILES"}  # which compose itself reads


def test_no_secret_has_a_value_that_would_do(env: dict[str, str]) -> None:
    secrets = {name for name in env if re.search("PASSWORD|SECRET|AUTH_STRING", name)}
    assert secrets == {"POSTGRES_PASSWORD", "AWS_SECRET_ACCESS_KEY", "PREFECT_API_AUTH_STRING"}
    assert all("change-me" in env[name] for name in secrets)


def test_git_ignores_the_real_file_and_the_state_of_terraform() -> None:
    names = ["infra/.env", "infra/terraform/terraform.tfstate", "infra/terraform/.terraform/x"]
    ignored = subprocess.run(["git", "check-ignore", *names], cwd=ROOT, capture_output=True, text=True).stdout
    assert ignored.split() == names
    assert subprocess.run(["git", "check-ignore", "infra/.env.example"], cwd=ROOT).returncode == 1
