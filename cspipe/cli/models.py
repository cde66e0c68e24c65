"""`cspipe models` and `cspipe card`: list the models of a clone with their scores, and write a card of its main net."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_file
from cspipe.runtime.git import output_of, succeeds
from cspipe.runtime.project import check_at_root
from cspipe.runtime.wording import printable, readable_seconds

Tree = Mapping[str, Any]
PIPELINE, MAIN, PREPARED = "dvc.yaml", Path("models/main"), Path("data/prepared")


def models(as_json: Annotated[bool, typer.Option("--json", help="print a list as JSON")] = False) -> None:
    """List the model of this folder and the registered versions (`gto register main`), with their scores."""
    found = list(list_models())
    if as_json:
        print(json.dumps(found, indent=2))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from cspipe.report.numbers import kid, significant

    shown = Table("model", "version", "commit", "variant", "KID x1000", "Frechet", box=SIMPLE_HEAD, show_edge=False)
    for each in found:
        rows = each["scores"].values()
        kids = "\n".join(kid(row.get("kid"), row.get("kid_std")) for row in rows)
        frechets = "\n".join(significant(row.get("frechet")) for row in rows)
        names = (printable(name) + ": damaged" * ("damaged" in row) for name, row in each["scores"].items())
        version = each["version"] or ("this folder" if Path(each["path"]).exists() else "not made yet")
        shown.add_row(each["name"], version, each["commit"][:7], "\n".join(names), kids, frechets)
    Console(markup=False).print(shown)


def list_models() -> Iterator[dict[str, Any]]:
    """Yield the models in this folder (`artifacts:` in dvc.yaml), then registered versions by model, newest first.

    `version` and `commit` are "" for models in this folder; `scores` are by variant: kid, kid_std, frechet and others
    with their `provenance`, or `damaged`: why a metrics file of the commit cannot be read. Outside of git there are no
    versions. Raises UserError outside of a project, or if a metrics file of this folder cannot be read.
    """
    import gto.api
    from gto.constants import VersionSort

    check_at_root()
    declared = (yaml.safe_load(Path(PIPELINE).read_text()) or {}).get("artifacts") or {}
    metrics = {path.stem: path.read_text() for path in sorted(Path("metrics").glob("*.json"))}
    for name, artifact in declared.items():
        scores = _scores(name, metrics, Path(artifact["path"]))
        yield {"name": name, "version": "", "commit": "", "path": artifact["path"], "scores": scores}
    if not succeeds(Path(), "rev-parse"):
        return
    for name in sorted(gto.api.show(".")):
        for version in gto.api.show(".", name, sort=VersionSort.SemVer):
            commit = version["commit_hexsha"]
            there = (yaml.safe_load(output_of(Path(), "show", f"{commit}:{PIPELINE}")) or {}).get("artifacts") or {}
            files = output_of(Path(), "ls-tree", "--name-only", commit, "metrics/").split()
            metrics = {Path(file).stem: output_of(Path(), "show", f"{commit}:{file}") for file in files}
            found = {"name": name, "version": version["version"], "commit": commit}
            yield found | {"path": there.get(name, {}).get("path", ""), "scores": _scores(name, metrics)}


def _scores(name: str, metrics: Mapping[str, str], folder: Path | None = None) -> dict[str, Tree]:
    """Return the scores of the variants that a model drew, by variant, from the texts of their metrics files.

    With `folder` they are those of exactly the weights in it, and a damaged file raises UserError.
    """
    from cspipe.cli.experiments import scores_in

    key = "module_sha256" if name == "compensation" else "model_sha256"
    weights = folder and folder / "model.safetensors"
    made = sha256_file(weights) if weights and weights.exists() else None
    found: dict[str, Tree] = {}
    for variant, text in metrics.items():
        try:
            tree = json.loads(text)
            origin = tree["provenance"][0]
            drawn_with = origin[key]
        except (ValueError, LookupError, TypeError) as error:
            if folder is not None:
                raise UserError(f"metrics/{variant}.json: damaged ({error!r}); `dvc repro` makes it anew") from None
            found[variant] = {"damaged": repr(error)}  # in a commit, where it cannot be repaired
            continue
        if drawn_with and (folder is None or drawn_with == made):
            found[variant] = {**scores_in(tree), "provenance": origin}
    return found


def card(
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for README.md and images; outside of models/")],
) -> None:
    """Write a card of the model in models/main, as model hubs show it: data, training, scores, samples, limits."""
    from cspipe.data.shards import INDEX, read_index
    from cspipe.runtime.models import FILE, read_config
    from cspipe.runtime.records import find_here

    if out.resolve().is_relative_to(Path("models").resolve()):
        raise UserError(f"{out}: in models/, whose content DVC compares; name another folder")
    config = _as_text(read_config(MAIN, "train"))
    index = _as_text(read_index(PREPARED)) if (PREPARED / INDEX).exists() else {}
    if index and index["splits"]["train"]["sha256"] != config["data_sha256"]:
        index = {}  # images of another run
    files = {path.stem: path.read_text() for path in sorted(Path("metrics").glob("*.json"))}
    scores = _as_text(_scores("main", files, MAIN))
    record = _as_text(find_here(sha256_file(MAIN / FILE), Path.cwd()))
    try:
        text = describe(config, index, scores, record)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{MAIN}: what it or metrics/ says is damaged ({error!r}); `dvc repro` makes it anew") from None
    with whole_file(out / "README.md") as beside:
        beside.write_text(text, encoding="utf-8")
    for variant in scores:
        if (grid := Path("samples") / variant / "grid.png").exists():
            shutil.copyfile(grid, out / f"{variant}.png")
    print(f"{out / 'README.md'}: the model of {MAIN}; scored: {', '.join(scores) or 'nothing'}")


def _as_text(tree: Any) -> Any:
    """Return a tree whose strings, perhaps from untrusted files, are made printable in a line and HTML-escaped."""
    if isinstance(tree, dict):
        return {key: _as_text(value) for key, value in tree.items()}
    return escape(printable(tree), quote=False) if isinstance(tree, str) else tree


def front_matter(config: Tree, index: Tree, scores: Mapping[str, Tree]) -> Tree:
    """Return the YAML metadata of a card, which model hubs read."""
    data = {"name": index.get("source", "unknown"), "type": index.get("source", "images")}
    task = {"type": {"generate": "unconditional-image-generation"}.get(config["task"], "image-to-image")}
    metrics = [
        {"type": name, "value": row[name], "name": f"{variant} {name}"}
        for variant, row in scores.items() for name in ("kid", "frechet") if name in row
    ]  # fmt: skip
    return {
        "library_name": "cspipe", "pipeline_tag": task["type"], "license": "other",
        "tags": ["diffusion", "compensation-sampling", config["train"]["method"]],
        "model-index": [{"name": "main", "results": [{"task": task, "dataset": data, "metrics": metrics}]}],
    }  # fmt: skip


def sampler_words(origin: Tree) -> str:
    """Describe a variant by its sampler, steps and correction."""
    correction = (origin.get("correction") or {}).get("name", "no correction")
    return f"{origin.get('sampler')}, {origin.get('steps')} steps, {correction}"


def comparison_words(origins: Sequence[Tree]) -> str:
    """Describe what the scores compare: samples, references, extractor, versions; a sentence for each distinct set."""
    sets = {
        f"{origin.get('samples_images')} samples against {origin.get('reference_images')} images of the split "
        f"{origin.get('reference')} (sha256 {str(origin.get('reference_sha256'))[:12]}), in the features of "
        f"{origin.get('extractor')} (weights: sha256 {str(origin.get('extractor_weights_sha256'))[:12]}), "
        f"torch {origin.get('torch')} on {origin.get('device')}."
        for origin in origins
    }
    if not sets:
        return "No variant of this model is scored."
    return " ".join(["Scores compare", *sorted(sets), "They do not compare with scores of another extractor."])


def energy_words(record: Tree | None) -> str:
    """Describe the energy, as far as known, the time and the device of a training, by the record of this machine."""
    if record is None:
        return "not measured, and no record of the training is here; `cspipe plan PRESET` estimates the kWh on a GPU"
    time = f"Training took {readable_seconds(record['seconds'])} on {record['device']}, counted from its last start"
    if (joules := record.get("gpu_joules")) is not None:
        counted = "by the counters of its GPUs, on one machine and without processors and cooling"
        return f"{joules / 3.6e6:.3g} kWh {counted}. {time}"
    return f"not measured. {time}. For an estimate, multiply this by the power of all devices used"


def training_words(config: Tree, index: Tree, record: Tree | None) -> str:
    """Describe the training data, training and energy of a model, as Markdown."""
    train = config["train"]
    start = f", from the weights of model {config['start_sha256'][:12]}" if config.get("start_sha256") else ""
    return f"""\
- **Data**: {index.get("source", "unknown")}, \
{index.get("splits", {}).get("train", {}).get("images", "?")} training images; licence of \
the images: {index.get("licence", "unknown")}; sha256 {config["data_sha256"][:12]}
- **Training**: method {train["method"]}, {config["images_seen"]:,} images seen, batch {train["batch"]}, learning rate \
{train["learning_rate"]:g}, seed {config["seed"]}{start}
- **Energy**: {energy_words(record)}"""


def origin_of_import(config: Tree) -> str:
    """Describe the origin of an imported model, of whose training nothing else is known, as Markdown."""
    return f"""\
- **Origin**: {config["train"]["method"]} from `{config["source"]}`, weights of sha256 {config["source_sha256"][:12]}
- **Data**, **training**, **energy**: unknown here, as is the licence of the images and of the model: see its source"""


def describe(config: Tree, index: Tree, scores: Mapping[str, Tree], record: Tree | None) -> str:
    """Return the card of a main net: metadata for hubs (YAML), then Markdown. The same model gives the same text."""
    from cspipe.report.numbers import kid, significant

    head = ["| variant | drawn with | KID x1000 | Frechet | sha256 of the samples |", "|---|---|---|---|---|"]
    rows = [
        f"| {name} | {sampler_words(row['provenance'])} | {kid(row.get('kid'), row.get('kid_std'))} "
        f"| {significant(row.get('frechet'))} | {row['provenance'].get('samples_sha256', '?')[:12]} |"
        for name, row in scores.items()
    ]
    grids = [f"![Samples of {name}]({name}.png)\n" for name in scores]
    size, imported = config["size"], config["data_sha256"] is None
    return f"""---
{yaml.safe_dump(front_matter(config, index, scores), sort_keys=False)}---
# A diffusion model of {size} x {size} pixels, task {config["task"]}

{"Imported into" if imported else "Trained by"} cspipe. Its methods include \
[compensation sampling](https://arxiv.org/abs/2312.06285) (`compensated`).

- **Net**: {config["model"]["name"]}, {config["parameters"]:,} parameters; it predicts \
{config["diffusion"]["prediction"]}, {config["diffusion"]["steps"]} steps, schedule {config["diffusion"]["schedule"]}
{origin_of_import(config) if imported else training_words(config, index, record)}
- **Use**: `cspipe sample --model models/main -o grid.png` draws samples, `cspipe export` writes it for diffusers or
  ONNX, `cspipe lineage models/main/model.safetensors` tells its origin

{chr(10).join([*head, *rows, ""] if rows else [])}
{comparison_words([row["provenance"] for row in scores.values()])}

{chr(10).join(grids)}
**Limits**: the model draws images like its training data only, with the gaps and biases of that data. Do not use it to
identify or depict real persons. Set `license` above: what you may choose depends on the licence of the images\
{" and of the model that was imported" if imported else ""}.
"""
