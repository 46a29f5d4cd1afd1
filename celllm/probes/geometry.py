"""How the cell embeddings of several encoders lie: the paper argues that contrast spreads them.

All measures are of cells that no encoder was trained on; see :mod:`celllm.model.geometry`.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from celllm.cells import h5ad
from celllm.cells.genes import Vocabulary
from celllm.corpus.expressed import CellsInMemory, in_memory
from celllm.errors import UserError
from celllm.io import write_csv, write_text
from celllm.model import load_encoder
from celllm.model.geometry import measure
from celllm.report.render import markdown
from celllm.scores.columns import GEOMETRY
from celllm.settings import fill
from celllm.training.distributed import joined
from celllm.training.model_row import read_tokeniser

log = logging.getLogger(__name__)

TITLES = ("Mean cosine", "Uniformity", "Alignment", "Effective rank")
KINDS = {"mean": "mean over the genes of a cell", "cls": "vector of [CLS]"}
LEGEND = """\
Cells that no encoder was trained on. Mean cosine of two cells: 1 is a single direction. Uniformity: 0 is a
point, lower is more even. Alignment: distance of two dropout passes of a cell. Effective rank: at most the
length of an embedding, which stands in brackets. Definitions: docs/outputs.md."""


@dataclass(frozen=True)
class GeometrySettings:
    """``n_cells`` random cells of each data set; ``token_budget`` tokens of a pass, padding counted."""

    n_cells: int = 512
    seed: int = 0
    token_budget: int = 8192
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.n_cells < 2:
            raise UserError(f"settings.n_cells: expected at least 2, got {self.n_cells}")


def run_geometry(
    encoders: Mapping[str, str | Path],
    cells: Mapping[str, str | Path],
    genes: str | Path,
    out: str | Path,
    settings: Mapping[str, Any] | str | None = None,
) -> None:
    """Write the measures of several encoders on the same cells, as CSV and as Markdown beside it.

    Parameters
    ----------
    encoders
        Pre-trained encoders by the name of their row.
    cells
        Prepared ``.h5ad`` by data set: cells that none of the encoders was trained on.
    genes
        The vocabulary, ``genes.tsv``.
    out
        CSV with :data:`GEOMETRY`, a row per encoder, data set and kind of embedding (the mean over a cell's
        genes; the vector of [CLS]). The same numbers stand in the ``.md`` file beside it.
    settings
        :class:`GeometrySettings` as mapping or JSON.

    Raises
    ------
    UserError
        For files of another vocabulary, or a data set with fewer than two cells that express a gene.
    """
    chosen = fill(GeometrySettings, settings, "geometry: settings")
    vocabulary = Vocabulary.read(genes)
    samples = {name: _sample(path, vocabulary, chosen) for name, path in cells.items()}
    rows = []
    with joined(chosen.device) as processes:
        for model, path in encoders.items():
            encoder, meta = load_encoder(path, vocabulary.sha256)
            encoder.to(processes.device)
            for data_set, sample in samples.items():
                of_both = measure(encoder, read_tokeniser(meta), sample, chosen.seed, chosen.token_budget)
                for embedding, measures in of_both.items():
                    numbers = [f"{value:.6g}" for value in measures.values()]
                    rows.append([model, data_set, embedding, encoder.config.dim, sample.n_cells, *numbers])
                    told = "  ".join(f"{name} {value:.3f}" for name, value in measures.items())
                    log.info("%s, %s, %s: %s", model, data_set, embedding, told)
    write_csv(out, GEOMETRY, rows)
    write_text(Path(out).with_suffix(".md"), in_markdown(rows))


def in_markdown(rows: Sequence[Sequence[Any]]) -> str:
    """Rows of :data:`GEOMETRY` for readers: a table per data set and embedding, a line per encoder."""
    lines = ["# Geometry of embeddings", "", LEGEND]
    tables: dict[tuple[str, str], list[Sequence[Any]]] = {}
    for row in rows:
        tables.setdefault((row[1], row[2]), []).append(row)
    for (data_set, embedding), members in tables.items():
        lines += ["", f"## {markdown(data_set)}: {KINDS[embedding]}, {members[0][4]} cells", ""]
        lines += ["| Model | " + " | ".join(TITLES) + " |", "|---|" + "---:|" * len(TITLES)]
        for model, _, _, dim, _, *measures in members:
            numbers = " | ".join(f"{float(value):.3f}" for value in measures)
            lines.append(f"| {markdown(model)} ({dim}) | {numbers} |")
    return "\n".join(lines) + "\n"


def _sample(path: str | Path, vocabulary: Vocabulary, settings: GeometrySettings) -> CellsInMemory:
    """Random cells of a prepared data set, among those that express a gene."""
    with h5ad.opened(path) as data:
        cells = in_memory(data, vocabulary)
    rows = np.flatnonzero(cells.lengths)
    if len(rows) < 2:
        raise UserError(f"{path}: {len(rows)} cell(s) with an expressed gene; geometry needs two")
    n = min(settings.n_cells, len(rows))
    return CellsInMemory(cells.take(np.random.default_rng(settings.seed).choice(rows, n, replace=False)))
