"""What of the documentation needs neither a server nor files of one's own, run in a finished clone."""

import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.stages.conftest import run_in
from tests.test_docs import blocks, commands

ELSEWHERE = {"artifacts", "doctor", "heun", "import", "init", "serve"} | {"--queue", "queue"}
"""Words of commands that need more, such as an imported model of EDM; other tests run them."""
LONG = {"use", "convergence", "few-steps", "smallest"}
"""Of the studies, and of a preset for larger images."""


@pytest.mark.slow
@pytest.mark.parametrize("page", ["index", "models", "pipeline", "settings"])
def test_blocks_run_one_after_the_other(page: str, clone: Path) -> None:
    ran = 0
    for kind, block in blocks((ROOT / f"docs/{page}.md").read_text()):
        for words in commands(block) if kind == "sh" else ():
            if not (ELSEWHERE | LONG) & set(words):
                run_in(clone, *words)
                ran += 1
        if kind == "python" and "import dnnlib" not in block:  # EDM's own code
            run_in(clone, sys.executable, "-c", block)
    assert ran


@pytest.mark.slow
def test_the_notebook_ends_with_images_of_the_model(clone: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(clone / "docs/tour.ipynb", 4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": clone}}).execute()
    assert "image/png" in notebook.cells[-1].outputs[0].data
