"""docs/results/README.md: every claim that a study has decided, one row each. Made from the studies' results alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cspipe.runtime.files import whole_file
from cspipe.study.claims import decide
from cspipe.study.results import RESULTS, Results, read_results

INTRODUCTION = """\
# Does compensation sampling do what the paper says?

The claims of arXiv 2312.06285, and what was measured here. A verdict is about the scale that was run: small pictures,
small nets, a few seeds, features that are not Inception's. **Undecided** means that the interval holds both answers:
a tie. Three seeds agree by chance in one case of four: a verdict is a measurement, not a proof. Each study is one
command; its page has the table with intervals, the cost of each line, the commit, the machine.
"""
NOTICE = """\
**Not decided yet.** Verdicts marked as withdrawn no longer stand: their study says why, and is to be repeated.
"""
HEADS = "| claim | verdict | numbers |"
FIRST = "convergence"
"""The study whose figure stands on top: score against images and against time."""


def write_overview(root: Path) -> Path:
    """Rewrite the page from the results of all studies in docs/results. Raises UserError for one that is damaged."""
    found = [read_results(path) for path in sorted((root / RESULTS).glob("*.json"))]
    path = root / RESULTS / "README.md"
    with whole_file(path) as beside:
        beside.write_text(overview(found), encoding="utf-8")
    return path


def overview(studies: Sequence[Results]) -> str:
    """The page as Markdown; studies without claims are left out."""
    ordered = sorted((each for each in studies if each.study.claims), key=lambda each: (each.name != FIRST, each.name))
    title, _, introduction = INTRODUCTION.partition("\n\n")
    parts = [f"{title}\n", *([NOTICE] if any(each.study.withdrawn for each in ordered) else []), introduction]
    if ordered and ordered[0].name == FIRST:
        parts.append(f"![score against images seen and against seconds]({FIRST}.png)\n")
    for results in ordered:
        parts.append("\n".join([*_heading(results), *_rows(results), ""]))
    return "\n".join(parts)


def _heading(results: Results) -> list[str]:
    command = f"uv run cspipe study {results.name} --jobs {results.setting.jobs}"
    what = f"[{results.study.question}]({results.name}.md) `{command}`; {results.setting.data}"
    notice = [results.study.notice, ""] if results.study.notice else []
    return [f"## {results.name}", "", what, "", *notice, HEADS, "|---|---|---|"]


def _rows(results: Results) -> list[str]:
    verdicts = [(claim.text, decide(claim, results)) for claim in results.study.claims]
    return [f"| {text} | **{verdict.word}** | {verdict.numbers} |" for text, verdict in verdicts]
