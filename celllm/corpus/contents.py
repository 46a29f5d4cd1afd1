"""What the data sets of a run hold: cells, classes, samples, pairs, counted in the prepared files."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celllm.cells import h5ad
from celllm.cells.genes import Vocabulary
from celllm.cells.responses import counts as response_counts
from celllm.cells.responses import read_responses
from celllm.cells.values import linear, tpm_of
from celllm.corpus.expressed import FRACTION_BITS, blocks, expression_of
from celllm.corpus.shards import Corpus, Shard, ShardEntry, read_index
from celllm.io import write_json
from celllm.sources import delimited


def run_counts(
    cells: Mapping[str, str | Path],
    genes: str | Path,
    out: str | Path,
    corpus: str | Path | None = None,
    samples: Mapping[str, str | Path] | None = None,
    responses: Mapping[str, str | Path] | None = None,
    expression: Mapping[str, str | Path] | None = None,
) -> None:
    """Cells, classes, samples and pairs of the data sets, counted, as facts for tables and claims.

    Parameters
    ----------
    cells
        Prepared ``.h5ad`` of labelled cells by data set.
    genes
        Vocabulary, ``genes.tsv``.
    out
        The JSON file.
    corpus
        Index of the pre-training corpus. Cells that it leaves out are no part of ``pretraining``, but of
        their data set.
    samples
        Tables of samples by pre-training source.
    responses, expression
        Tables of responses and prepared expression of cell lines, by data set; counted are the responses of
        lines that have expression, as the data set ``<response>_<expression>``.

    Raises
    ------
    UserError
        For a missing or damaged file.
    """
    vocabulary = Vocabulary.read(genes)
    n_genes = len(vocabulary)
    data_sets: dict[str, Any] = {}
    for name, path in cells.items():
        with h5ad.opened(path) as data:
            labels = {str(label): int(n) for label, n in data.obs["label"].value_counts().items() if n}
            data_sets[name] = {"n_cells": data.n_obs, "n_classes": len(labels), "labels": labels}
    facts: dict[str, Any] = {"vocabulary": {"n_genes": n_genes}, "data_sets": data_sets}
    if corpus is not None:
        index = read_index(corpus)
        entries = [ShardEntry(**entry) for entry in index["shards"]]
        for name, path in (samples or {}).items():
            sizes = {e.sample: e.n_cells + len(e.dropped) for e in entries if e.source == name}
            rows = list(delimited.rows(path, ("sample", "tissue")))
            data_sets[name] = {
                "n_cells": sum(sizes.values()),
                "n_samples": sum(n > 0 for n in sizes.values()),
                "n_samples_listed": len(rows),
                "n_tissues": len({row["tissue"] for row in rows if sizes.get(row["sample"], 0) > 0}),
            }
        expressed = index["n_tokens"] / index["n_cells"] / n_genes
        facts["pretraining"] = {
            **{key: index[key] for key in ("n_cells", "n_tumour", "n_dropped")},
            "share_of_genes_not_expressed": round(100 * (1 - expressed), 2),
            **of_lengths(Corpus.open(corpus).lengths),
        }
    for response, table in (responses or {}).items():
        for lines, path in (expression or {}).items():
            pairs = read_responses(table)
            with h5ad.opened(path) as data:
                counted = response_counts(pairs[pairs["cell_line"].isin(data.obs_names)])
            data_sets[f"{response}_{lines}"] = counted
    facts["bins"] = {name: of_bins(path, vocabulary) for name, path in cells.items()}
    for lines, path in (expression or {}).items():
        for read, normalise in (("normalised", True), ("log2_tpm", False)):
            facts["bins"][f"{lines}, {read}"] = of_bins(path, vocabulary, normalise)
    if corpus is not None:
        for source in dict.fromkeys(entry.source for entry in entries):
            paths = [Path(corpus).parent / entry.path for entry in entries if entry.source == source]
            shards = (Shard(path, verify=False) for path in paths)
            facts["bins"][source] = _shares(shard.expression >> FRACTION_BITS for shard in shards)
    write_json(out, facts)


def of_bins(path: str | Path, vocabulary: Vocabulary, normalise: bool = True) -> list[float]:
    """Per cent of the expressed genes of a prepared data set's cells in each expression bin, 0 to 5.

    Without ``normalise`` of cell lines read as they are: ``floor(log2(TPM + 1))``.
    """
    with h5ad.opened(path) as data:
        kind = str(data.uns["celllm"]["values"])
        parts = blocks(data, vocabulary)
        if normalise:
            return _shares(expression_of(linear(x, kind)) >> FRACTION_BITS for x in parts)
        return _shares(np.log2(tpm_of(x, kind).data + 1) for x in parts)


def _shares(parts: Iterable[NDArray[Any]]) -> list[float]:
    """Per cent of numbers whose integer part is 0 to 4, and of those from 5 on."""
    counted = np.zeros(6, dtype=np.int64)
    for numbers in parts:
        counted += np.bincount(np.minimum(numbers, 5).astype(np.int64), minlength=6)
    return [round(100 * float(n) / max(int(counted.sum()), 1), 2) for n in counted]


def of_lengths(lengths: NDArray[np.int64]) -> dict[str, float]:
    """Per cent of the cells with as many expressed genes as the paper says in section 4.3."""
    usual, covered = (lengths >= 300) & (lengths <= 5000), lengths <= 13_000
    return {
        "share_of_cells_300_to_5000_genes": round(100 * float(usual.mean()), 2),
        "share_of_cells_up_to_13000_genes": round(100 * float(covered.mean()), 2),
    }
