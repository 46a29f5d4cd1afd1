"""The leakage report: cells of the tasks that the encoders have already met in pre-training.

Equal hashes of the counts are the very same cell; of cells that another pipeline counted anew the library is
found, by its barcodes and accession numbers. Memory holds eight bytes per cell.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from celllm.cells import h5ad
from celllm.cells.genes import Vocabulary
from celllm.corpus.expressed import blocks
from celllm.corpus.hashes import cell_hashes
from celllm.corpus.libraries import FEWEST, SHARE, common
from celllm.corpus.settings import LeakageSettings
from celllm.corpus.shards import Shard, of_samples
from celllm.errors import UserError
from celllm.io import write_json, write_text

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("data_set", "cell", "source", "sample", "row")
"""A cell of a task, and the equal cell of pre-training: its sample and its row in the sample's file."""

SHOWN = 20
"""Pairs of a data set that the Markdown file shows; the CSV has them all."""

log = logging.getLogger(__name__)


class Pretraining:
    """All cells of pre-training by their hash, from shards of the vocabulary with this digest."""

    def __init__(self, paths: Sequence[str | Path], genes_sha256: str) -> None:
        shards = [Shard(path) for path in paths]
        for path, shard in zip(paths, shards, strict=True):
            if shard.metadata["genes_sha256"] != genes_sha256:
                raise UserError(
                    f"{path}: written with another gene list than genes.tsv; write the shard again"
                )
        self.samples = [(str(s.metadata["source"]), str(s.metadata["sample"])) for s in shards]
        self._firsts = np.cumsum([0, *(len(shard.cell_hash) for shard in shards)])
        hashes = np.concatenate([shard.cell_hash for shard in shards])
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]

    def summary(self) -> dict[str, Any]:
        """Cells, and how many equal a cell that stands before them, in all and by source."""
        is_repeat = np.zeros(len(self._order), dtype=bool)
        is_repeat[self._order[1:]] = self._sorted[1:] == self._sorted[:-1]
        sources: dict[str, dict[str, int]] = {}
        for (source, _), first, stop in zip(self.samples, self._firsts[:-1], self._firsts[1:], strict=True):
            one = sources.setdefault(source, {"n_cells": 0, "n_repeated": 0})
            one["n_cells"] += int(stop - first)
            one["n_repeated"] += int(is_repeat[first:stop].sum())
        return {"n_cells": len(is_repeat), "n_repeated": int(is_repeat.sum()), "sources": sources}

    def equal_to(self, hashes: NDArray[np.uint64]) -> Iterator[tuple[int, tuple[str, str, int]]]:
        """Yield a position in ``hashes`` and (source, sample, row of the sample) for each equal cell."""
        low, high = (np.searchsorted(self._sorted, hashes, side=side) for side in ("left", "right"))
        for position in np.flatnonzero(high > low):
            for cell in self._order[low[position] : high[position]]:
                shard = int(np.searchsorted(self._firsts, cell, side="right")) - 1
                yield int(position), (*self.samples[shard], int(cell - self._firsts[shard]))


def run_leakage(
    shards: Sequence[str | Path],
    cells: Mapping[str, str | Path],
    genes: str | Path,
    settings: LeakageSettings,
    out: str | Path,
    prepared: Sequence[str | Path] = (),
    samples: Mapping[str, str | Path] | None = None,
) -> None:
    """Cells of the tasks that are among the cells of pre-training, as JSON, CSV and Markdown.

    Parameters
    ----------
    shards
        Shards of pre-training; or with ``samples`` their pattern.
    cells
        Prepared ``.h5ad`` of the tasks by data set.
    genes
        Vocabulary, ``genes.tsv``.
    prepared
        Prepared ``.h5ad`` of the samples of pre-training, for their barcodes and accession numbers; or their
        pattern.
    samples
        Tables that ``celllm samples`` wrote, by source: ``{source}`` and ``{sample}`` in ``shards`` and
        ``prepared`` stand for each of their samples.

    Raises
    ------
    UserError
        For a damaged file, or shards of another vocabulary.
    """
    import pandas as pd

    vocabulary = Vocabulary.read(genes)
    pretraining = Pretraining(of_samples(shards, samples), vocabulary.sha256)
    pairs: list[tuple[str, str, str, str, int]] = []
    data_sets = {}
    for name, path in cells.items():
        with h5ad.opened(path) as data:
            parts = [cell_hashes(counts) for counts in blocks(data, vocabulary)]
            names = [str(cell) for cell in data.obs_names]
        hashes = np.concatenate([np.empty(0, dtype=np.uint64), *parts])
        found = [(name, names[i], *place) for i, place in pretraining.equal_to(hashes)]
        data_sets[name] = {
            "n_cells": len(hashes),
            "n_repeated": len(hashes) - len(np.unique(hashes)),
            "n_in_pretraining": len({pair[1] for pair in found}),
            "n_cells_of_pretraining": len({pair[2:] for pair in found}),
        }
        log.info("%s: %s", name, data_sets[name])
        pairs += found
    table = pd.DataFrame(pairs, columns=list(COLUMNS))
    numbers = settings.model_dump() | {"pretraining": pretraining.summary(), "data_sets": data_sets}
    numbers["libraries"] = common(cells, of_samples(prepared, samples))
    write_text(f"{out}.csv", table.to_csv(index=False, lineterminator="\n"))
    write_json(f"{out}.json", numbers)
    write_text(f"{out}.md", markdown(numbers, table))


def markdown(numbers: Mapping[str, Any], pairs: "pd.DataFrame") -> str:
    """Write the report for a reader: what was found in numbers, then the first pairs of each data set."""
    fate = "left out of the corpus" if numbers["drop"] else "kept in the corpus"
    lines = [
        f"# Leakage: cells of the tasks among the cells of pre-training{' (toy)' if numbers['toy'] else ''}",
        "",
        f"Run `{numbers['run']}`. Two cells are equal if every gene of the vocabulary has the same count.",
        f"Cells of pre-training that equal a cell of a task are {fate} (`leakage.drop` in the config).",
        "",
        "| data set | cells | repeated within it | in pre-training too | equal cells there |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in numbers["data_sets"].items():
        lines.append(f"| {name} | {' | '.join(f'{n:,}' for n in row.values())} |")
    lines += ["", "| source of pre-training | cells | equal to a cell before them |", "|---|---:|---:|"]
    sources = numbers["pretraining"]["sources"] | {"all": numbers["pretraining"]}
    lines += [f"| {name} | {row['n_cells']:,} | {row['n_repeated']:,} |" for name, row in sources.items()]
    lines += [
        "",
        f"Libraries with a common accession number, or {FEWEST} barcodes and {SHARE:.0%} of the smaller:",
        "",
        "| data set | library | pre-training | barcodes in common | share | accessions |",
        "|---|---|---|---:|---:|---|",
    ]
    lines += [
        f"| {one['data_set']} | {one['library']} | {one['source']}: {one['sample']} | {one['n_barcodes']:,} "
        f"| {one['share_of_barcodes']:.1%} | {', '.join(one['accessions'])} |"
        for one in numbers["libraries"]
    ] or ["| none | | | | | |"]
    for name in dict.fromkeys(pairs["data_set"]):
        of_set = pairs[pairs["data_set"] == name]
        more = f", the first {SHOWN} of {len(of_set):,}" if len(of_set) > SHOWN else ""
        lines += ["", f"## {name}{more}", "", "| cell | sample of pre-training | row |", "|---|---|---:|"]
        shown = of_set.head(SHOWN).itertuples()
        lines += [f"| {pair.cell} | {pair.source}: {pair.sample} | {pair.row} |" for pair in shown]
    return "\n".join(lines) + "\n"
