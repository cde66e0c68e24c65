"""The documentation: its site, its notebook, its blocks of code, and the commands, paths and links that it names."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from itertools import dropwhile, product
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from cspipe.config.overlays import read_preset, set_keys
from cspipe.config.params import Params
from cspipe.config.params_file import ParamsError, parse_params
from tests.conftest import ROOT, Tree

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "infra/README.md", "data/raw/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
TOUR = ROOT / "docs/tour.ipynb"
OWN = {"cspipe", "dvc", "gto", "mkdocs", "prefect"}
SHELL = OWN | {"aws", "cd", "cp", "docker", "export", "for", "git", "kubectl", "pip", "set", "terraform", "uv"}
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


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


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(language, code): as a fence names it; of an indented block `yaml` or `sh` by its beginning, or ""."""
    either = r"^```(\w*)\n(.*?)^```|((?:^ {4,}\S[^\n]*\n(?:\n(?= {4}))?)+)"
    for language, fenced, indented in re.findall(either, text, re.MULTILINE | re.DOTALL):
        if fenced:
            yield language, fenced
            continue
        block = dedent(indented)
        is_shell = block.split()[0] in SHELL or re.match("[A-Z_]+=", block)
        yield "sh" if is_shell else "yaml" if re.match(r"[a-z_]+:(\s|$)", block) else "", block


def commands(code: str) -> Iterator[list[str]]:
    """Words of the commands of `tools` and of `python -m`, without `uv run` and variables before them."""
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("();<>|&"):
                words.append(word)
                continue
            own = list(dropwhile(lambda name: name in ("uv", "run") or "=" in name, words))
            if own[1:] and (own[0] in OWN or own[:2] == ["python", "-m"]):
                yield own
            words = []


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


@every_page
def test_commands_and_their_options_exist(page: Path) -> None:
    text = page.read_text()
    spans = [" ".join(span.split()) for span in re.findall("`([^`]+)`", re.sub("```.*?```", "", text, flags=re.DOTALL))]
    typed = [*(block for kind, block in blocks(text) if kind == "sh"), *spans]
    named = [words for code in typed for words in commands(code)]
    assert [(words, bad) for words in named if (bad := unknown(words))] == []


@every_page
def test_files_exist(page: Path) -> None:
    """Targets of relative links, and paths and tests in code; mkdocs checks the headings that links name."""
    text = page.read_text()
    links = {page.parent / link for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text)}
    named = re.findall(r"`((?:benchmarks|cspipe|docs|flows|infra|tests)/[\w./-]+\w/?)", text)
    paths = [*links, *(ROOT / name for name in named if name != "infra/.env")]
    assert [str(path) for path in paths if not path.exists()] == []
    tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert [name for file, name in tests if f"def {name}(" not in (ROOT / file).read_text()] == []


def test_the_notebook_is_committed_without_outputs() -> None:
    cells = [cell for cell in json.loads(TOUR.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell for cell in cells if cell["outputs"] or cell["execution_count"]] == []


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, where torch is there already; a kernel of Jupyter has the lines with % besides."""
    import matplotlib.pyplot as plt

    monkeypatch.chdir(TOUR.parent)
    plt.switch_backend("agg")
    names: dict[str, Any] = {"display": print}
    for cell in json.loads(TOUR.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(line for line in cell["source"] if not line.startswith("%")), names)
    plt.close("all")
    assert "panels" in names


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = [page.read_text() for page in (tmp_path / "site").rglob("*.html")]
    loaded = {found for page in pages for found in re.findall(r'(?:<link[^>]*href|src)="((?:https?:)?//[^"]+)"', page)}
    assert loaded == set(), "read without a network"
    assert "compensated_pair" in (tmp_path / "site/api/compensation.html").read_text()


def values(text: str) -> Iterator[dict[str, Any]]:
    """Changes of params.yaml, keys with dots: of YAML, of `key.key: value` in sentences, of `-S` and `overrides=`."""
    for kind, block in blocks(text):
        if kind == "yaml" and set(tree := yaml.safe_load(block)) <= set(Params.model_fields):
            yield tree
        for words in commands(block) if kind == "sh" else ():
            given = [word.partition("=") for word in words if "=" in word]
            yield from (json.loads(value) for key, _, value in given if key == "overrides")
            if words[:3] == ["dvc", "exp", "run"]:  # its values with commas are several runs
                several = ([(key, yaml.safe_load(each)) for each in value.split(",")] for key, _, value in given)
                yield from map(dict, product(*several))
    for key, value in re.findall(r"`([a-z_]+(?:\.[\w*-]+)*): ([^`<]+)`", text):
        if key.partition(".")[0] in Params.model_fields:
            yield from ({key: yaml.safe_load(each)} for each in ([value] if value[0] in "[{" else value.split(",")))


@cache
def demos() -> list[Tree]:
    return [read_preset(name).tree for name in ("demo", "demo-inpaint", "demo-deocclude")]


def invalid(changes: dict[str, Any], tree: Tree) -> str:
    """Why a demo does not take changes, `*` standing for a variant; "" if it does."""
    row = next(iter(tree["variants"]))
    try:
        parse_params(set_keys(tree, {key.replace("*", row): changes[key] for key in changes}, "docs"), "docs")
    except ParamsError as error:
        return str(error)
    return ""


@every_page
def test_values_of_params_yaml_are_valid_in_some_demo(page: Path) -> None:
    for changes in values(page.read_text()):
        why = [invalid(changes, tree) for tree in demos()]
        assert "" in why, (changes, why)


def test_python_compiles() -> None:
    found = [(page, code) for page in PAGES for kind, code in blocks(page.read_text()) if kind == "python"]
    assert found
    for page, code in found:
        compile(code, str(page), "exec")


def test_shell_is_whole() -> None:
    """bash reads every block without running it."""
    script = "\n".join(block for page in PAGES for kind, block in blocks(page.read_text()) if kind == "sh")
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
