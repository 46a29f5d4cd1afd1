"""The pre-training corpus: token shards on disk, one per sample, read as one table of cells."""

import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from celllm import __version__, tensors
from celllm.corpus.expressed import CellsInMemory, Ragged, blocks, concatenate, gather, tokens_of
from celllm.corpus.hashes import cell_hashes
from celllm.errors import UserError
from celllm.io import read_json, sha256, write_json

if TYPE_CHECKING:
    pass

FORMAT = "celllm-shard-3"
INDEX_FORMAT = "celllm-corpus-2"


@dataclass(frozen=True)
class ShardEntry:
    """One line of the corpus index.

    ``path`` of the shard is relative to the index; ``n_cells``, ``n_tokens`` (stored values) and ``n_tumour``
    are without the ``dropped`` cells, rows of the file that are no part of the corpus, ascending; ``bytes``
    and ``sha256`` are those of the file.
    """

    path: str
    source: str
    sample: str
    n_cells: int
    n_tokens: int
    n_tumour: int
    bytes: int
    sha256: str
    dropped: list[int] = field(default_factory=list)


class Shard:
    """A shard file, mapped into memory: nothing is read before it is asked for.

    ``indptr``, ``gene_ids`` and ``expression`` are those of :class:`celllm.corpus.expressed.Ragged`;
    ``tumour`` is (n_cells,), 1 for a tumour cell; ``cell_hash``, (n_cells,), is by
    :func:`celllm.corpus.hashes.cell_hashes`; ``metadata`` has source, sample, n_cells, n_genes, genes_sha256
    and version. A missing, truncated or other file is a :class:`UserError`.
    """

    indptr: NDArray[np.int64]
    gene_ids: NDArray[np.uint16]
    expression: NDArray[np.uint16]
    tumour: NDArray[np.uint8]
    cell_hash: NDArray[np.uint64]

    def __init__(self, path: str | Path, verify: bool = True) -> None:
        """Open a shard; ``verify`` holds the whole file to its seal, where no index has its checksum."""
        self.metadata = tensors.read_header(path, FORMAT, "shard; write it with 'celllm shard'", verify)
        for name, array in tensors.mapped(path).items():
            setattr(self, name, array)


def write_shard(
    path: str | Path,
    cells: CellsInMemory,
    tumour: ArrayLike,
    cell_hash: ArrayLike,
    *,
    source: str,
    sample: str,
    n_genes: int,
    genes_sha256: str,
) -> None:
    """Write the cells of one sample, there may be none, atomically to a ``.safetensors`` file.

    ``tumour`` and ``cell_hash`` (of the raw counts) are (n_cells,); ``n_genes`` and ``genes_sha256`` are size
    and digest of the vocabulary.
    """
    ragged = cells.ragged
    arrays: dict[str, NDArray[Any]] = {
        "indptr": ragged.indptr,
        "gene_ids": ragged.gene_ids,
        "expression": ragged.expression,
        "tumour": np.asarray(tumour, dtype=bool).astype(np.uint8),
        "cell_hash": np.asarray(cell_hash, dtype=np.uint64),
    }
    about = {"source": source, "sample": sample, "n_cells": len(ragged), "n_genes": n_genes}
    tensors.write(path, FORMAT, arrays, **about, genes_sha256=genes_sha256, version=__version__)


def run_shard(cells: str | Path, genes: str | Path, out: str | Path) -> None:
    """Prepared cells of one sample -> token shard.

    Parameters
    ----------
    cells : path
        Prepared ``.h5ad`` with ``obs["tumour"]``.
    genes : path
        Vocabulary, ``genes.tsv``.
    out : path
        The shard.

    Raises
    ------
    UserError
        When the file is damaged, the tumour flag is missing or no gene is in the vocabulary.
    """
    from celllm.cells import h5ad
    from celllm.cells.genes import Vocabulary

    vocabulary = Vocabulary.read(genes)
    with h5ad.opened(cells) as data:
        if "tumour" not in data.obs:
            raise UserError(f"{cells}: obs has no column 'tumour' (true or false for each cell); add it")
        samples = data.obs["sample"].unique()
        source, tumour = str(data.uns["celllm"]["source"]), data.obs["tumour"].to_numpy(dtype=bool)
        parts = [(tokens_of(counts).ragged, cell_hashes(counts)) for counts in blocks(data, vocabulary)]
    write_shard(
        out,
        CellsInMemory(concatenate([ragged for ragged, _ in parts])),
        tumour,
        np.concatenate([np.empty(0, dtype=np.uint64), *(hashes for _, hashes in parts)]),
        source=source,
        sample=str(samples[0]) if len(samples) == 1 else Path(cells).stem,
        n_genes=len(vocabulary),
        genes_sha256=vocabulary.sha256,
    )


def of_samples(paths: Sequence[str | Path], samples: Mapping[str, str | Path] | None) -> Sequence[str | Path]:
    """Paths with ``{source}`` and ``{sample}`` filled in for every sample in the tables of some sources.

    Thousands of paths are too long for a command line. Without tables, the paths as they are.
    """
    if samples is None:
        return paths
    found: list[str | Path] = []
    for source, table in samples.items():
        try:
            with open(table, newline="", encoding="utf-8") as handle:
                names = [row["sample"] for row in csv.DictReader(handle, delimiter="\t")]
        except (OSError, KeyError, UnicodeDecodeError) as error:
            raise UserError(
                f"{table}: expected the table that 'celllm samples' writes ({error!r})"
            ) from error
        found += [str(path).format(source=source, sample=name) for path in paths for name in names]
    return found


def run_index(
    shards: Sequence[str | Path],
    out: str | Path,
    exclude: str | Path | None = None,
    samples: Mapping[str, str | Path] | None = None,
) -> None:
    """Token shards -> the index that makes them one corpus.

    Parameters
    ----------
    shards : paths
        One per sample; or with ``samples`` their pattern.
    samples : mapping, optional
        Tables that ``celllm samples`` wrote, by source: ``{source}`` and ``{sample}`` in the shards stand for
        each of their samples.
    out : path
        The index, ``index.json``.
    exclude : path, optional
        CSV with the columns source, sample, row: cells to leave out, such as ``celllm leakage`` lists.

    Raises
    ------
    UserError
        When there is no cell at all, two shards have different vocabularies or the same sample, or a cell to
        leave out is in none of them.
    """
    shards = of_samples(shards, samples)
    if not shards:
        raise UserError(f"{out}: no shard to make a corpus of; choose a pre-training data set")
    folder = Path(out).resolve().parent
    opened = [(Path(path), Shard(path)) for path in shards]
    lists = {shard.metadata["genes_sha256"]: path for path, shard in opened}
    if len(lists) > 1:
        one, other = list(lists.values())[:2]
        raise UserError(f"{one} and {other} have different gene lists; write all shards with one genes.tsv")
    entries = []
    for path, shard in opened:
        entry = ShardEntry(
            path=os.path.relpath(path.resolve(), folder),
            source=shard.metadata["source"],
            sample=shard.metadata["sample"],
            n_cells=len(shard.tumour),
            n_tokens=len(shard.gene_ids),
            n_tumour=int(shard.tumour.sum()),
            bytes=path.stat().st_size,
            sha256=sha256(path),
        )
        entries.append(entry)
    (source, sample), times = Counter((entry.source, entry.sample) for entry in entries).most_common(1)[0]
    if times > 1:
        raise UserError(f"sample {sample} of {source} is in {times} shards; give each sample once")
    if exclude is not None:
        entries = _without(entries, exclude, folder)
    if sum(entry.n_cells for entry in entries) == 0:
        raise UserError(
            f"{out}: none of the {len(entries)} shards holds a cell; check the filters of the sources"
        )
    index = {
        "format": INDEX_FORMAT,
        "genes_sha256": next(iter(lists)),
        **{key: sum(getattr(entry, key) for entry in entries) for key in ("n_cells", "n_tokens", "n_tumour")},
        "n_dropped": sum(len(entry.dropped) for entry in entries),
        "shards": [asdict(entry) for entry in entries],
    }
    write_json(out, index)


def _without(entries: list[ShardEntry], exclude: str | Path, folder: Path) -> list[ShardEntry]:
    """Entries with the listed cells taken out of their numbers and noted as dropped."""
    from celllm.sources import delimited

    listed: dict[tuple[str, str], set[int]] = {}
    for row in delimited.rows(exclude, ("source", "sample", "row"), ","):
        if not row["row"].isdigit():
            raise UserError(
                f"{exclude}: sample {row['sample']}: '{row['row']}' is not a row; write the list again"
            )
        listed.setdefault((row["source"], row["sample"]), set()).add(int(row["row"]))
    unknown = set(listed) - {(entry.source, entry.sample) for entry in entries}
    if unknown:
        source, sample = min(unknown)
        raise UserError(
            f"{exclude}: sample {sample} of {source} is in none of the shards; list its cells again"
        )
    kept = []
    for entry in entries:
        if rows := sorted(listed.get((entry.source, entry.sample), ())):
            if rows[-1] >= entry.n_cells:
                raise UserError(
                    f"{exclude}: sample {entry.sample} has {entry.n_cells} cells, no row {rows[-1]}"
                )
            shard = Shard(folder / entry.path)
            entry = replace(
                entry,
                n_cells=entry.n_cells - len(rows),
                n_tokens=entry.n_tokens - int(np.diff(shard.indptr)[rows].sum()),
                n_tumour=entry.n_tumour - int(shard.tumour[rows].sum()),
                dropped=rows,
            )
        kept.append(entry)
    return kept


def read_index(path: str | Path) -> dict[str, Any]:
    """Read ``index.json`` as it stands; any other file is a :class:`UserError`."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != INDEX_FORMAT:
        raise UserError(f"{path}: not a corpus index; write it with 'celllm corpus'")
    return content


class Corpus:
    """All shards as one table of cells; implements :class:`celllm.corpus.expressed.Cells`.

    ``lengths``, (n_cells,), are non-zero genes of each cell; ``tumour``, (n_cells,), is 1 for a tumour cell;
    ``entries`` is the index, ``genes_sha256`` the digest of the vocabulary.
    """

    def __init__(self, entries: list[ShardEntry], shards: list[Shard], genes_sha256: str) -> None:
        self.entries, self.genes_sha256 = entries, genes_sha256
        self._columns = [(shard.gene_ids, shard.expression) for shard in shards]
        # Dropped cells stay in their files; rows of the corpus pass over them.
        kept = [
            np.delete(np.arange(len(shard.tumour)), entry.dropped)
            for entry, shard in zip(entries, shards, strict=True)
        ]
        pairs = list(zip(shards, kept, strict=True))
        self.lengths = np.concatenate([np.diff(shard.indptr)[rows] for shard, rows in pairs])
        self.tumour = np.concatenate([shard.tumour[rows] for shard, rows in pairs])
        self.n_cells = len(self.lengths)
        self._starts = np.concatenate([shard.indptr[rows] for shard, rows in pairs])
        self._firsts = np.cumsum([0, *(len(rows) for rows in kept)])

    @classmethod
    def open(cls, index: str | Path, genes_sha256: str | None = None) -> "Corpus":
        """Map the shards of an index into memory, each held to its checksum first (seconds per gigabyte).

        A missing, damaged or changed file, or another gene list than asked for, is a :class:`UserError`.
        """
        content = read_index(index)
        digest = content["genes_sha256"]
        if genes_sha256 is not None and digest != genes_sha256:
            raise UserError(
                f"{index}: written with another gene list (sha256 {digest[:12]}, "
                f"expected {genes_sha256[:12]}); write the shards again"
            )
        entries, shards = [ShardEntry(**entry) for entry in content["shards"]], []
        for entry in entries:
            path = Path(index).parent / entry.path
            shard = Shard(path, verify=False)
            n_cells = entry.n_cells + len(entry.dropped)
            if path.stat().st_size != entry.bytes or len(shard.tumour) != n_cells:
                raise UserError(f"{path}: not the shard that the index describes; write the index again")
            if shard.metadata["genes_sha256"] != digest:
                raise UserError(
                    f"{path}: written with another gene list than the index; write the shard again"
                )
            if sha256(path) != entry.sha256:
                raise UserError(
                    f"{path}: damaged or changed since the index was written; write the shard again"
                )
            shards.append(shard)
        return cls(entries, shards, digest)

    def take(self, rows: ArrayLike) -> Ragged:
        """Cells of these rows, in this order, whatever shard they are in."""
        rows = np.asarray(rows, dtype=np.int64)
        starts = self._starts[rows]
        return gather(self._columns, self.shard_of(rows), starts, starts + self.lengths[rows])

    def shard_of(self, rows: ArrayLike) -> NDArray[np.int64]:
        """Place in ``entries`` of the shard that holds each row."""
        return np.searchsorted(self._firsts, np.asarray(rows), side="right") - 1

    def samples(self, rows: ArrayLike) -> list[str]:
        """Sample name of each row."""
        return [self.entries[shard].sample for shard in self.shard_of(rows)]
