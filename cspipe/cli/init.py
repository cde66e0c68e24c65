"""`cspipe init`: a folder in which `dvc repro` works with the installed package, outside of a checkout."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cspipe.runtime.code_lock import LOCK, VERSION, installed_code
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file
from cspipe.runtime.git import git, succeeds
from cspipe.runtime.provenance import PIPELINE, shipped

COPIED = (".gitignore", ".dvcignore", "data/raw/README.md")
PARAMS = "params.yaml"
HEADER = f"""# The pipeline of cspipe {VERSION}; `cspipe init .` writes this file anew.
# Files of cspipe/ are those of the installed package: cspipe.lock has their content, and stages depend on its keys.
#
"""


def init(
    folder: Annotated[Path, typer.Argument(help="a new folder, or one without these files; . for this one")],
    preset: Annotated[str, typer.Option(help="values of params.yaml; `cspipe params list` prints them")] = "demo",
) -> None:
    """Make a project: params.yaml, dvc.yaml, git and DVC. In a project: switch to the installed cspipe."""
    from cspipe.cli.dvc_output import dvc_output
    from cspipe.config.overlays import read_preset

    anew = {LOCK: json.dumps(installed_code(), indent=1) + "\n", PIPELINE: pipeline()}
    once = {PARAMS: read_preset(preset).text(), **{name: shipped(name).read_text("utf-8") for name in COPIED}}
    made = (folder / LOCK).exists()  # written first: the same command resumes one that was interrupted
    for name in () if made else (*anew, *once, ".dvc"):
        if (folder / name).exists():
            raise UserError(f"{folder / name} exists, but no {LOCK} of a project; name another folder")
    try:
        _write(folder, anew)
        git(folder, "init", "--quiet")
        if not (folder / ".dvc").exists():
            dvc_output(folder, "init", "--quiet")
            (folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
        missing = {name: text for name, text in once.items() if not made or not (folder / name).exists()}
        _write(folder, missing)
    except OSError as error:
        raise UserError(f"{folder}: cannot make a project there ({error}); name another folder") from None
    files = (".dvc", *anew, *missing)
    git(folder, "add", *files)
    if made and succeeds(folder, "rev-parse", "HEAD"):
        print(f"{folder}: now uses cspipe {VERSION}; `cspipe explain` lists what runs again")
        return
    # DVCLive and DVC's experiments need a commit, so one is made even where git has no name of the user.
    known = succeeds(folder, "var", "GIT_COMMITTER_IDENT")
    author = () if known else ("-c", "user.name=cspipe", "-c", "user.email=cspipe@localhost")
    git(folder, *author, "commit", "--quiet", "--message", f"A project of cspipe {VERSION}", "--", *files)
    print(f"{folder}: a project with the values of the preset {preset}; next: cd {folder} && dvc repro")


def pipeline() -> str:
    """Return the shipped dvc.yaml with keys of cspipe.lock in place of package files: cspipe.data for cspipe/data."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    tree: dict[str, Any] = yaml.load(shipped(PIPELINE).read_text(encoding="utf-8"))
    for entry in tree["stages"].values():
        stage = entry.get("do", entry)
        code = [path for path in stage["deps"] if path.startswith("cspipe/")]
        for path in code:
            stage["deps"].remove(path)
        stage["params"].fa.set_block_style()
        stage["params"].append({LOCK: [path.removesuffix(".py").replace("/", ".") for path in code]})
    text = io.StringIO()
    yaml.dump(tree, text)
    return HEADER + text.getvalue()


def _write(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        with whole_file(folder / name) as beside:
            beside.write_text(text, encoding="utf-8")
