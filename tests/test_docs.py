"""The documentation: its site, its notebook, and the commands, options, paths and links that it names."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "infra/README.md", "data/raw/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
TOUR = ROOT / "docs/tour.ipynb"


@cache
def tools() -> dict[str, Any]:
    """The command lines that pages name; their imports take seconds, which no other test needs."""
    from dvc.cli.parser import get_main_parser
    from gto.cli import app as gto
    from mkdocs.__main__ import cli as mkdocs
    from prefect.cli._app import _app as prefect
    from typer.main import get_command

    from cspipe.cli.main import app

    return {"cspipe": get_command(app), "dvc": get_main_parser(), "gto": gto, "mkdocs": mkdocs, "prefect": prefect}


def code(text: str) -> Iterator[str]:
    """Lines of indented blocks, those that end with a backslash joined, and code in sentences, without comments."""
    blocks = re.findall(r"^ {4}(.+)$", text.replace("\\\n", ""), re.MULTILINE)
    for line in [*blocks, *(span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", text))]:
        yield line.partition(" #")[0]


def commands(text: str) -> Iterator[list[str]]:
    """Words of the commands of `tools` and of `python -m`."""
    for line in code(text):
        for part in re.split(r"&&|\|", line):
            words = part.strip().removeprefix("uv run ").split()
            if words[1:] and (words[0] in tools() or words[:2] == ["python", "-m"]):
                yield shlex.split(" ".join(words)) if part.count("'") % 2 == 0 else words


def subcommands_and_options(tool: Any) -> tuple[dict[str, Any], set[str]]:
    """Of a command of click, argparse or cyclopts."""
    if hasattr(tool, "_actions"):
        choices = [action.choices for action in tool._actions if isinstance(action.choices, dict)]
        return choices[0] if choices else {}, set(tool._option_string_actions)
    if hasattr(tool, "assemble_argument_collection"):
        names = [name for name in tool if not name.startswith("-")]
        own = tool.assemble_argument_collection() if tool.default_command else []
        return {name: tool[name] for name in names}, {name for option in own for name in option.names}
    options = {name for option in tool.params for name in [*option.opts, *option.secondary_opts]}
    return getattr(tool, "commands", {}), options


def unknown(words: list[str]) -> list[str]:
    """The words of a command that it does not know: subcommands, options, modules."""
    if words[0] == "python":
        package = find_spec(words[2])
        is_folder = package is not None and package.submodule_search_locations is not None
        spec = find_spec(f"{words[2]}.__main__") if is_folder else package
        text = Path(spec.origin).read_text() if spec and spec.origin else ""
        return [word for word in words[2:] if not text or (word.startswith("--") and word not in text)]
    tool, words = tools()[words[0]], words[1:]
    below, options = subcommands_and_options(tool)
    bad = []
    for word in words:
        if word.startswith("-"):
            bad += [word] * (word.partition("=")[0] not in options | {"--help"})
        elif below:
            if word not in below:
                return [*bad, word]
            below, own = subcommands_and_options(below[word])
            options = options | own
    return bad


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_exist(page: Path) -> None:
    assert [(words, bad) for words in commands(page.read_text()) if (bad := unknown(words))] == []


def test_what_does_not_exist_is_seen() -> None:
    text = "    uv run cspipe paramz show && dvc repro --now  # dvc no\n\n`prefect flow begin` `python -m cspipe.no`"
    assert [unknown(words) for words in commands(text)] == [["paramz"], ["--now"], ["begin"], ["cspipe.no"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_exist(page: Path) -> None:
    """Targets of relative links, and paths of the repository in code; mkdocs checks the headings that links name."""
    text = page.read_text()
    links = {page.parent / link for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text)}
    named = re.findall(r"`((?:benchmarks|cspipe|docs|flows|infra|tests)/[\w./-]+\w/?)", text)
    paths = [*links, *(ROOT / name for name in named if name != "infra/.env")]
    assert [str(path) for path in paths if not path.exists()] == []


def test_the_notebook_is_committed_without_outputs() -> None:
    cells = [cell for cell in json.loads(TOUR.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell for cell in cells if cell["outputs"] or cell["execution_count"]] == []


@pytest.mark.slow
def test_the_notebook_runs() -> None:
    """A cell that raises fails it."""
    import nbformat
    from nbclient import NotebookClient

    NotebookClient(nbformat.read(TOUR, 4), timeout=120, resources={"metadata": {"path": TOUR.parent}}).execute()


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = [page.read_text() for page in (tmp_path / "site").rglob("*.html")]
    loaded = {found for page in pages for found in re.findall(r'(?:<link[^>]*href|src)="((?:https?:)?//[^"]+)"', page)}
    assert loaded == set(), "read without a network"
    assert "compensated_pair" in (tmp_path / "site/api/compensation.html").read_text()
