"""How the cell embeddings of several encoders lie: the paper argues that contrast spreads them.

All measures are of cells that no encoder was trained on; see :mod:`celllm.model.anisotropy`.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celllm.cells import h5ad
from celllm.cells.genes import Vocabulary
from celllm.corpus.expressed import CellsInMemory, in_memory
from celllm.errors import NotTrainedError
from celllm.io import write_csv
from celllm.model.anisotropy import measure
from celllm.probes.sampling import draw
from celllm.probes.settings import GeometrySettings
from celllm.scores.columns import GEOMETRY
from celllm.training.model_row import read_embedder

log = logging.getLogger(__name__)


def run_geometry(
    encoders: Mapping[str, str | Path],
    cells: Mapping[str, str | Path],
    genes: str | Path,
    out: str | Path,
    settings: GeometrySettings,
    untrained: Mapping[str, str] | None = None,
) -> None:
    """Encoders and cells they have not seen -> how the embeddings are spread.

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
        genes; the vector of [CLS]).

    untrained
        Rows with ``pretrained: false`` as JSON, by name: where training starts from.

    Raises
    ------
    UserError
        For files of another vocabulary, or a data set with fewer than two cells that express a gene.
    """
    vocabulary = Vocabulary.read(genes)
    samples = {}
    for name, path in cells.items():
        with h5ad.opened(path) as data:
            found = in_memory(data, vocabulary)
        rows = draw(found.lengths > 0, settings.n_cells, settings.seed, 2, path)
        samples[name] = CellsInMemory(found.take(rows))
    lines = []
    sources: dict[str, Any] = {model: (path, {}) for model, path in encoders.items()}
    sources |= {model: (None, json.loads(row)) for model, row in (untrained or {}).items()}
    for model, (path, row) in sources.items():
        try:
            embedder = read_embedder(path, row, vocabulary, settings.device)
        except NotTrainedError as error:
            log.warning("%s is left out: %s", model, error)
            continue
        dim = embedder.encoder.config.dim
        for data_set, sample in samples.items():
            for how, measures in measure(embedder, sample, settings.seed, settings.token_budget).items():
                numbers = [f"{value:.6g}" for value in measures.values()]
                lines.append([model, data_set, how, dim, sample.n_cells, *numbers])
                shown = "  ".join(f"{name} {value:.3f}" for name, value in measures.items())
                log.info("%s, %s, %s: %s", model, data_set, how, shown)
    write_csv(out, GEOMETRY, lines)
