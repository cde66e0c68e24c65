"""Stage report: one HTML page of all scores, samples and curves, and the scores as text on the terminal."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from cspipe.config.params_file import load_params
from cspipe.report.collect import collect, remove_gone
from cspipe.report.page import render
from cspipe.report.summary import text_table
from cspipe.runtime.files import whole_file
from cspipe.runtime.stage import stage

ROOT, PIPELINE, PAGE = Path(), Path("dvc.yaml"), Path("report/report.html")


def main() -> None:
    """Read params.yaml and what the other stages wrote; write report/report.html and print the scores.

    Removes outputs of variants that params.yaml no longer has.
    """
    with stage("report"):
        params = load_params()
        if gone := remove_gone(ROOT, params.variants):
            print(f"removed outputs of variants that params.yaml no longer has: {', '.join(gone)}")
        report = collect(ROOT, params)
        with whole_file(PAGE) as path:
            path.write_text(render(report, log_names(PIPELINE, list(params.variants))), encoding="utf-8")
        print(f"\n{text_table(report)}")
        if "CSPIPE_FLOW_RUN" not in os.environ:  # a flow's folder is removed before anyone could open the page
            print(f"report: {PAGE.resolve().as_uri()}")


def log_names(pipeline: Path, variants: list[str]) -> list[str]:
    """Names of the run logs: the stages in the order of dvc.yaml, those over variants once per variant."""
    stages = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"]
    names = []
    for name, settings in stages.items():
        names += [f"{name}@{variant}" for variant in variants] if "foreach" in settings else [name]
    return names


if __name__ == "__main__":
    main()
