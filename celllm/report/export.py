"""A pre-trained model as one folder that says everything about itself, for others to load and cite."""

import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from celllm import __version__
from celllm.errors import UserError
from celllm.io import read_csv, read_json, write_text

PAPER = (
    "Zhao S, Zhang J, Nie Z (2023). Large-Scale Cell Representation Learning via Divide-and-Conquer "
    "Contrastive Learning. arXiv:2306.04371. https://doi.org/10.48550/arXiv.2306.04371"
)
LIMITS = """\
- Human cells only; genes that the vocabulary lacks are not read.
- Raw counts are expected: normalised or scaled values are refused by `celllm check`.
- Trained and judged on the tissues and protocols listed here; nothing is known of others.
- For research. A label or a confidence made with it is no diagnosis."""


def run_export(run: str | Path, /, model: str, out: str | Path) -> None:
    """A model of a run -> one folder with weights, genes, settings and a card, for others.

    It holds ``model.safetensors``, ``config.json`` (shape, tokeniser, training, digests), ``genes.tsv``,
    ``aliases.tsv`` and ``README.md``, the model card: training data, leakage, scores, limits, licence and
    citation.

    Parameters
    ----------
    run
        Folder of the run, ``results/<run>``.
    model
        Name of the row.
    out
        The folder; complete or absent.

    Raises
    ------
    UserError
        For a run without that model, and a folder that is there already.
    """
    from celllm.model.embedder import Embedder
    from celllm.model.folder import describe, new_folder

    run, out = Path(run), Path(out)
    weights = run / "checkpoints" / model / "encoder.safetensors"
    if not weights.is_file():
        names = sorted(path.parent.name for path in run.glob("checkpoints/*/encoder.safetensors"))
        raise UserError(f"{run}: no trained model '{model}'; there are {', '.join(names) or 'none'}")
    embedder = Embedder.read(weights, device="cpu")
    with new_folder(out) as folder:
        shutil.copyfile(weights, folder / "model.safetensors")
        for part in ("genes.tsv", "aliases.tsv"):
            shutil.copyfile(run / "prepared" / part, folder / part)
        config = describe(folder, embedder)
        write_text(folder / "README.md", "\n".join(_card(run, model, embedder.meta, config)) + "\n")


def _card(run: Path, model: str, meta: Any, config: dict[str, Any]) -> Iterator[str]:
    row, settings = meta.get("model", {}), meta.get("settings", {})
    leakage = run / "leakage.json"
    found = read_json(leakage) if leakage.is_file() else {}
    yield from (
        "---",
        "license: mit",
        "library_name: celllm",
        "tags: [single-cell, scRNA-seq, biology]",
        "---",
    )
    yield from ("", f"# {row.get('title') or model}", "")
    yield f"An encoder of human cells, pre-trained in the run `{run.name}` with celllm {__version__}."
    if found.get("toy"):
        yield "**Trained on made-up cells of a toy run: of no use but for trying the software.**"
    yield from ("", "```python", "import celllm", f'model = celllm.load("{model}")  # this folder')
    yield from ("vectors = model.embed(adata)", "```", "", "## Training", "")
    yield f"Contrast: {row.get('contrast')}; tumour task: {row.get('tumour_task')}."
    yield f"{meta.get('steps')} steps of {settings.get('batch_size')} cells, seed {settings.get('seed')}."
    yield "All settings: `config.json`."
    index = run / "corpus" / "index.json"
    if index.is_file():
        totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for shard in read_json(index)["shards"]:
            for place, number in enumerate((1, shard["n_cells"], shard["n_tumour"])):
                totals[shard["source"]][place] += number
        yield from ("", "| source | samples | cells | of them tumour |", "|---|---:|---:|---:|")
        for source, numbers in totals.items():
            yield f"| {source} | " + " | ".join(f"{number:,}" for number in numbers) + " |"
    yield from ("", "## Leakage", "")
    if found:
        dropped = "left out of training" if found["drop"] else "kept in training"
        yield f"Cells of the tasks with the same counts as a cell of pre-training (which were {dropped}):"
        yield ""
        for name, of in found["data_sets"].items():
            yield f"- {name}: {of['n_in_pretraining']:,} of {of['n_cells']:,}"
    else:
        yield "Not measured in this run."
    yield from ("", "## Scores", "", *_scores(run, model))
    yield from ("", "## Limits", "", LIMITS, "", "## Contents", "")
    yield from (f"- `{name}`: SHA-256 `{digest}`" for name, digest in config["sha256"].items())
    yield from ("", "Licence of software and weights: MIT. Cite the paper that the model is from:", "", PAPER)


def _scores(run: Path, model: str) -> Iterator[str]:
    """Every value of the model's own row in the tables of the run."""
    lines = []
    for table in sorted(run.glob("tables/*.csv")):
        frame = read_csv(table)
        if not {"model", "column", "protocol", "text", "status"} <= set(frame):
            continue
        for row in frame[(frame["model"] == model) & (frame["status"] == "ok")].to_dict("records"):
            lines.append(f"| {row['table']} | {row['column']} | {row['protocol']} | {row['text']} |")
    if not lines:
        yield "None in the tables of this run."
        return
    yield from ("| table | column | protocol | mean ± sd |", "|---|---|---|---:|", *lines)
