"""The pre-training corpus: token shards on disk, one per sample, read as one table of cells."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from celllm import __version__
from celllm.data.tokens import CellsInMemory, Ragged, from_h5ad, gather
from celllm.errors import UserError
from celllm.io import atomic, read_json, sha256, write_json

SHARD_FORMAT = "celllm-shard-1"
INDEX_FORMAT = "celllm-corpus-1"

_TENSORS = {"indptr": np.int64, "gene_ids": np.uint16, "expression": np.uint16, "tumour": np.uint8}


@dataclass(frozen=True)
class ShardEntry:
    """One line of the corpus index.

    Attributes
    ----------
    path : str
        Of the shard, relative to the index.
    source, sample : str
        Where its cells come from.
    n_cells, n_tokens, n_tumour : int
        Cells, stored values, tumour cells.
    bytes : int
        Size of the file.
    sha256 : str
        Of the file.
    """

    path: str
    source: str
    sample: str
    n_cells: int
    n_tokens: int
    n_tumour: int
    bytes: int
    sha256: str


class Shard:
    """A shard file, mapped into memory: nothing is read before it is asked for.

    Attributes
    ----------
    indptr, gene_ids, expression : array
        See :class:`celllm.data.tokens.Ragged`.
    tumour : array of uint8
        (n_cells,), 1 for a tumour cell.
    metadata : dict of str
        format, source, sample, n_cells, n_genes, genes_sha256, version.

    Raises
    ------
    UserError
        When the file is missing, truncated or something else.
    """

    indptr: NDArray[np.int64]
    gene_ids: NDArray[np.uint16]
    expression: NDArray[np.uint16]
    tumour: NDArray[np.uint8]

    def __init__(self, path: str | Path) -> None:
        self.metadata = _metadata(path)
        if self.metadata.get("format") != SHARD_FORMAT:
            raise UserError(f"{path}: not a shard of this package; write it with 'celllm shard'")
        content = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        # A safetensors file: 8 bytes that tell the size of the header, the header in JSON, the tensors.
        body = 8 + int(content[:8].view("<u8")[0])
        places = json.loads(content[8:body].tobytes())
        for name, kind in _TENSORS.items():
            start, stop = places[name]["data_offsets"]
            setattr(self, name, content[body + start : body + stop].view(kind))


def _metadata(path: str | Path) -> dict[str, str]:
    """Metadata of a safetensors file whose header and size have been checked."""
    try:
        with safe_open(path, framework="np") as file:
            return file.metadata() or {}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such shard; write it with 'celllm shard'") from error
    except SafetensorError as error:
        raise UserError(f"{path}: damaged or not a shard ({error}); write it again") from error


def write_shard(
    path: str | Path,
    cells: CellsInMemory,
    tumour: ArrayLike,
    *,
    source: str,
    sample: str,
    n_genes: int,
    genes_sha256: str,
) -> None:
    """Write the cells of one sample, atomically.

    Parameters
    ----------
    path : path
        A ``.safetensors`` file.
    cells : CellsInMemory
        The cells; there may be none.
    tumour : array of bool
        (n_cells,).
    source, sample : str
        Names of data set and sample.
    n_genes, genes_sha256
        Size and digest of the vocabulary.
    """
    ragged = cells.ragged
    tensors: dict[str, NDArray[Any]] = {
        "indptr": ragged.indptr,
        "gene_ids": ragged.gene_ids,
        "expression": ragged.expression,
        "tumour": np.asarray(tumour, dtype=bool).astype(np.uint8),
    }
    metadata = {
        "format": SHARD_FORMAT,
        "source": source,
        "sample": sample,
        "n_cells": str(len(ragged)),
        "n_genes": str(n_genes),
        "genes_sha256": genes_sha256,
        "version": __version__,
    }
    with atomic(path) as partial:
        save_file(tensors, partial, metadata=metadata)


def run_shard(cells: str | Path, genes: str | Path, out: str | Path) -> None:
    """Write the shard of one prepared sample; memory holds the tokens of that sample at most.

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
    from celllm.data.genes import Vocabulary
    from celllm.data.prepared import verify

    verify(cells)
    vocabulary = Vocabulary.read(genes)
    source, sample, tumour = _origin(cells)
    write_shard(
        out,
        from_h5ad(cells, vocabulary),
        tumour,
        source=source,
        sample=sample,
        n_genes=len(vocabulary),
        genes_sha256=vocabulary.sha256,
    )


def _origin(path: str | Path) -> tuple[str, str, NDArray[np.bool_]]:
    """Source, sample (the name of the file when it holds several) and tumour flags of a prepared file."""
    import anndata

    data = anndata.read_h5ad(path, backed="r")
    try:
        if "tumour" not in data.obs:
            raise UserError(f"{path}: obs has no column 'tumour' (true or false for each cell); add it")
        samples = data.obs["sample"].unique() if "sample" in data.obs else []
        sample = str(samples[0]) if len(samples) == 1 else Path(path).stem
        return str(data.uns["celllm"]["source"]), sample, data.obs["tumour"].to_numpy(dtype=bool)
    finally:
        data.file.close()


def run_index(shards: Sequence[str | Path], out: str | Path) -> None:
    """Join shards to a corpus: write its index, with paths relative to it.

    Raises
    ------
    UserError
        When there is no cell at all, or two shards have different vocabularies or the same sample.
    """
    if not shards:
        raise UserError(f"{out}: no shard to make a corpus of; choose a pre-training data set")
    folder = Path(out).resolve().parent
    digests = {Shard(path).metadata["genes_sha256"]: path for path in shards}
    if len(digests) > 1:
        one, other = list(digests.values())[:2]
        raise UserError(f"{one} and {other} have different gene lists; write all shards with one genes.tsv")
    entries = [_entry(Path(path), folder) for path in shards]
    (source, sample), times = Counter((entry.source, entry.sample) for entry in entries).most_common(1)[0]
    if times > 1:
        raise UserError(f"sample {sample} of {source} is in {times} shards; give each sample once")
    if sum(entry.n_cells for entry in entries) == 0:
        raise UserError(
            f"{out}: none of the {len(entries)} shards holds a cell; check the filters of the sources"
        )
    index = {
        "format": INDEX_FORMAT,
        "genes_sha256": next(iter(digests)),
        "n_cells": sum(entry.n_cells for entry in entries),
        "n_tokens": sum(entry.n_tokens for entry in entries),
        "n_tumour": sum(entry.n_tumour for entry in entries),
        "shards": [asdict(entry) for entry in entries],
    }
    write_json(out, index)


def _entry(path: Path, folder: Path) -> ShardEntry:
    shard = Shard(path)
    return ShardEntry(
        path=os.path.relpath(path.resolve(), folder),
        source=shard.metadata["source"],
        sample=shard.metadata["sample"],
        n_cells=len(shard.tumour),
        n_tokens=len(shard.gene_ids),
        n_tumour=int(shard.tumour.sum()),
        bytes=path.stat().st_size,
        sha256=sha256(path),
    )


class Corpus:
    """All shards as one table of cells; implements :class:`celllm.data.tokens.Cells`.

    Attributes
    ----------
    genes_sha256 : str
        Digest of the vocabulary.
    entries : list of ShardEntry
        The index.
    n_cells : int
        Cells.
    lengths : array of int64
        Non-zero genes of each cell, (n_cells,).
    tumour : array of uint8
        (n_cells,), 1 for a tumour cell.
    """

    def __init__(self, entries: list[ShardEntry], shards: list[Shard], genes_sha256: str) -> None:
        self.entries, self.genes_sha256 = entries, genes_sha256
        self._columns = [(shard.gene_ids, shard.expression) for shard in shards]
        self.lengths = np.concatenate([np.diff(shard.indptr) for shard in shards])
        self.tumour = np.concatenate([shard.tumour for shard in shards])
        self.n_cells = len(self.lengths)
        self._starts = np.concatenate([shard.indptr[:-1] for shard in shards])
        self._firsts = np.cumsum([0, *(len(shard.tumour) for shard in shards)])

    @classmethod
    def open(cls, index: str | Path, genes_sha256: str | None = None) -> "Corpus":
        """Map the shards of an index into memory.

        Parameters
        ----------
        index : path
            ``index.json``.
        genes_sha256 : str, optional
            Digest of the gene list in use; a corpus of another list is refused.

        Raises
        ------
        UserError
            For a missing, damaged or changed file, and for another gene list.
        """
        content = read_json(index)
        if not isinstance(content, dict) or content.get("format") != INDEX_FORMAT:
            raise UserError(f"{index}: not a corpus index; write it with 'celllm corpus'")
        digest = content["genes_sha256"]
        if genes_sha256 is not None and digest != genes_sha256:
            raise UserError(
                f"{index}: written with another gene list (sha256 {digest[:12]}, "
                f"expected {genes_sha256[:12]}); write the shards again"
            )
        entries = [ShardEntry(**entry) for entry in content["shards"]]
        folder = Path(index).parent
        return cls(entries, [_checked(folder / entry.path, entry, digest) for entry in entries], digest)

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


def _checked(path: Path, entry: ShardEntry, genes_sha256: str) -> Shard:
    shard = Shard(path)
    if path.stat().st_size != entry.bytes or len(shard.tumour) != entry.n_cells:
        raise UserError(f"{path}: not the shard that the index describes; write the index again")
    if shard.metadata["genes_sha256"] != genes_sha256:
        raise UserError(f"{path}: written with another gene list than the index; write the shard again")
    return shard
