"""Gene names: the frozen vocabulary of protein-coding genes and the way from any name to it.

The position of a gene in the vocabulary is its identity in every model, so list and order are written once
per run (``genes.tsv``) and compared by checksum ever after. Names of data sets are older or other than the
approved symbols; ``aliases.tsv`` holds what they mean, by HGNC's own record of previous symbols and aliases.
"""

import hashlib
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from celllm.errors import UserError
from celllm.io import write_text
from celllm.sources import delimited
from celllm.sources.delimited import Row

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

CODING = "protein-coding gene"
KINDS = ("approved", "previous", "alias")
"""What a name can be to a gene, the strongest first."""

_HGNC_COLUMNS = ("symbol", "locus_group", "status", "alias_symbol", "prev_symbol", "ensembl_gene_id")
_GENES_HEADER = ["index", "symbol", "ensembl_id"]
_ALIASES_HEADER = ["name", "symbol", "kind"]
_VERSION = re.compile(r"\.\d+(_PAR_Y)?$")
_DATE = re.compile(r"(?:(\d{1,2})-([A-Z]{3})|([A-Z]{3})-(\d{1,2}))")
_DATED = {"MAR": ("MARCH", "MARC"), "SEP": ("SEPT",)}
"""Symbols that a spreadsheet turns into dates: MARCH1 and MARC1 become 1-Mar, SEPT2 becomes 2-Sep."""
FEW = 0.05
"""Share of a data set's genes below which a match with the vocabulary is suspicious."""


@dataclass(frozen=True)
class Vocabulary:
    """The genes of a run, in their frozen order.

    Attributes
    ----------
    symbols
        Approved symbols, unique; the position is the gene id.
    ensembl_ids
        Ensembl gene id of each symbol, without version; empty where HGNC gives none.
    """

    symbols: tuple[str, ...]
    ensembl_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Gene id of each approved symbol."""
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    @cached_property
    def sha256(self) -> str:
        """Checksum of the ordered symbols: equal for vocabularies whose gene ids mean the same."""
        return hashlib.sha256("\n".join(self.symbols).encode()).hexdigest()

    @classmethod
    def read(cls, path: str | Path) -> "Vocabulary":
        """Read ``genes.tsv``; a file of another kind or with gaps in its order is a :class:`UserError`."""
        rows = list(delimited.rows(path, _GENES_HEADER))
        if [row["index"] for row in rows] != [str(i) for i in range(len(rows))] or not rows:
            raise UserError(f"{path}: the column 'index' must count 0, 1, 2 ...; make it with `celllm genes`")
        vocabulary = cls(tuple(r["symbol"] for r in rows), tuple(r["ensembl_id"] for r in rows))
        if len(vocabulary.index_of) != len(rows):
            raise UserError(f"{path}: a symbol is there twice; make it with `celllm genes`")
        return vocabulary

    def write(self, path: str | Path) -> None:
        """Write ``genes.tsv``."""
        rows = zip(range(len(self)), self.symbols, self.ensembl_ids, strict=True)
        _write(path, _GENES_HEADER, rows)


class SymbolMap:
    """From the names in a data set to gene ids of the vocabulary.

    A name is looked up as it stands (approved symbol, previous symbol, alias, Ensembl id with or without
    version), then without regard to case, then as a symbol that a spreadsheet turned into a date.

    Parameters
    ----------
    vocabulary
        The genes to map to.
    names
        (name, approved symbol, kind) rows of ``aliases.tsv``.
    """

    def __init__(self, vocabulary: Vocabulary, names: Iterable[tuple[str, str, str]]) -> None:
        self.vocabulary = vocabulary
        index_of = vocabulary.index_of
        rows = [(symbol, gene, "approved") for symbol, gene in index_of.items()]
        rows += [(name, index_of[symbol], kind) for name, symbol, kind in names if symbol in index_of]
        self._exact = {name: gene for name, gene, _ in rows}
        self._folded = _fold(rows)
        ensembl = Counter(vocabulary.ensembl_ids)
        self._ensembl = {e: i for i, e in enumerate(vocabulary.ensembl_ids) if e and ensembl[e] == 1}

    @classmethod
    def read(cls, path: str | Path, vocabulary: Vocabulary) -> "SymbolMap":
        """Read ``aliases.tsv``."""
        return cls(
            vocabulary, ((r["name"], r["symbol"], r["kind"]) for r in delimited.rows(path, _ALIASES_HEADER))
        )

    def gene(self, name: str) -> int:
        """Gene id of ``name``, or -1 when it means no gene of the vocabulary or more than one."""
        found = self._as_it_stands(name)
        if found < 0:
            found = self._folded.get(name.upper(), -1)
        return found if found >= 0 else self._undated(name)

    def genes(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Gene ids of many names; -1 where a name maps to none."""
        return np.fromiter((self.gene(name) for name in names), dtype=np.int64)

    def only_by_case(self, names: Iterable[str]) -> int:
        """Count the names that are found only when their case is ignored (mouse symbols, for instance)."""
        return sum(self._as_it_stands(name) < 0 <= self._folded.get(name.upper(), -1) for name in names)

    def _as_it_stands(self, name: str) -> int:
        if name in self._exact:
            return self._exact[name]
        return self._ensembl.get(_VERSION.sub("", name), -1)

    def _undated(self, name: str) -> int:
        match = _DATE.fullmatch(name.upper())
        if match is None:
            return -1
        number, month = match[1] or match[4], match[2] or match[3]
        found = {self._folded.get(f"{stem}{int(number)}", -1) for stem in _DATED.get(month, ())} - {-1}
        return found.pop() if len(found) == 1 else -1


@dataclass(frozen=True)
class GeneReport:
    """What became of the genes of a data set.

    Attributes
    ----------
    n_in, n_out
        Names in the file; symbols that they map to.
    n_renamed, n_by_case, n_unmapped
        Names mapped to another symbol than themselves; mapped only without regard to case; mapped to none.
    merged
        Symbols that got several names, whose values were summed.
    unmapped
        Names that map to no gene of the vocabulary.
    """

    n_in: int
    n_out: int
    n_renamed: int
    n_by_case: int
    n_unmapped: int
    merged: tuple[str, ...]
    unmapped: tuple[str, ...]


def harmonise(
    matrix: "csr_matrix", names: Sequence[str], symbol_map: SymbolMap, where: str | Path = "the data"
) -> tuple["csr_matrix", list[str], GeneReport]:
    """Map the columns of a matrix to genes of the vocabulary, in its order; columns of one gene are summed.

    Parameters
    ----------
    matrix
        Cells x names, linear values (counts or TPM, never logarithms: they are summed).
    names
        Name of each column.
    where
        The file, for messages.

    Returns
    -------
    Cells x symbols CSR matrix of the same dtype, the symbols (a subset of the vocabulary, in its order),
    and the report.

    Raises
    ------
    UserError
        When no name maps to the vocabulary.
    """
    from scipy.sparse import csr_matrix

    genes = symbol_map.genes(names)
    mapped = np.flatnonzero(genes >= 0)
    present, columns, n_names = np.unique(genes[mapped], return_inverse=True, return_counts=True)
    symbols = [symbol_map.vocabulary.symbols[g] for g in present]
    report = _report(names, genes, [symbols[c] for c in np.flatnonzero(n_names > 1)], symbol_map)
    _judge(report, names, where)
    ones = np.ones(len(mapped), dtype=matrix.dtype)
    selector = csr_matrix((ones, (mapped, columns)), shape=(len(names), len(present)))
    product = csr_matrix(matrix) @ selector
    product.eliminate_zeros()
    product.sort_indices()
    return product, symbols, report


def _report(
    names: Sequence[str], genes: NDArray[np.int64], merged: list[str], symbol_map: SymbolMap
) -> GeneReport:
    symbols = symbol_map.vocabulary.symbols
    found = genes >= 0
    return GeneReport(
        n_in=len(names),
        n_out=len(np.unique(genes[found])),
        n_renamed=sum(symbols[g] != name for name, g in zip(names, genes, strict=True) if g >= 0),
        n_by_case=symbol_map.only_by_case(names),
        n_unmapped=int((~found).sum()),
        merged=tuple(merged),
        unmapped=tuple(name for name, is_found in zip(names, found, strict=True) if not is_found),
    )


def _judge(report: GeneReport, names: Sequence[str], where: str | Path) -> None:
    n_mapped = report.n_in - report.n_unmapped
    examples = ", ".join(repr(str(name)) for name in names[:3])
    if not n_mapped:
        raise UserError(
            f"{where}: no gene in common with the vocabulary (names here: {examples}); "
            "human gene symbols or Ensembl gene ids are expected"
        )
    if n_mapped < FEW * report.n_in:
        log.warning("%s: only %d of %d genes are in the vocabulary", where, n_mapped, report.n_in)
    if report.n_by_case > n_mapped / 2:
        log.warning(
            "%s: most genes match only when case is ignored (%s): are they human?",
            where,
            examples,
        )


def run_genes(hgnc: str | Path, genes: str | Path, aliases: str | Path) -> None:
    """Write the vocabulary and the meaning of other names from HGNC's complete set.

    Parameters
    ----------
    hgnc
        ``hgnc_complete_set_*.txt`` (TSV, plain or gzip): approved, withdrawn and non-coding entries may be
        there.
    genes
        Output: ``index, symbol, ensembl_id`` of every approved protein-coding gene, sorted by symbol.
    aliases
        Output: ``name, symbol, kind`` with kind one of ``approved``, ``previous``, ``alias``.

    Raises
    ------
    UserError
        For a file that is not HGNC's table, a missing column, or a symbol that is there twice.
    """
    rows = [row for row in delimited.rows(hgnc, _HGNC_COLUMNS) if row["status"] == "Approved"]
    coding = sorted((r for r in rows if r["locus_group"] == CODING), key=lambda r: r["symbol"])
    if not coding:
        raise UserError(f"{hgnc}: no approved entry of the locus group '{CODING}'")
    _refuse_repeats(hgnc, rows)
    vocabulary = Vocabulary(tuple(r["symbol"] for r in coding), tuple(r["ensembl_gene_id"] for r in coding))
    names = list(_names(rows, set(vocabulary.symbols)))
    vocabulary.write(genes)
    _write(aliases, _ALIASES_HEADER, names)
    kinds = Counter(kind for _, _, kind in names)
    log.info(
        "%s: %d approved entries, %d protein-coding genes; %d previous symbols and %d aliases kept",
        hgnc,
        len(rows),
        len(vocabulary),
        kinds["previous"],
        kinds["alias"],
    )


def _refuse_repeats(hgnc: str | Path, rows: Sequence[Row]) -> None:
    symbol, n = Counter(row["symbol"] for row in rows).most_common(1)[0]
    if n > 1:
        raise UserError(f"{hgnc}: the symbol '{symbol}' is approved {n} times; take HGNC's own complete set")


def _names(rows: Sequence[Row], coding: set[str]) -> Iterator[tuple[str, str, str]]:
    """Rows of ``aliases.tsv``: what each name means, and nothing for a name that means more than one gene.

    All locus groups take part, so that the symbol of a non-coding gene is never read as an alias of a coding
    one; what belongs to a non-coding gene is left out at the end.
    """
    approved = {row["symbol"].upper(): row["symbol"] for row in rows}
    meaning = {row["symbol"]: (row["symbol"], "approved") for row in rows}
    for kind, column in (("previous", "prev_symbol"), ("alias", "alias_symbol")):
        for name, symbols in _owners(rows, column).items():
            if name in meaning:
                continue
            symbol = symbols.pop() if len(symbols) == 1 else ""
            if approved.get(name.upper(), symbol) != symbol:  # the symbol of another gene but for its case
                symbol = ""
            meaning[name] = (symbol, kind)
    order = {kind: i for i, kind in enumerate(KINDS)}
    kept = [(name, symbol, kind) for name, (symbol, kind) in meaning.items() if symbol in coding]
    yield from sorted(kept, key=lambda row: (order[row[2]], row[0]))


def _owners(rows: Sequence[Row], column: str) -> dict[str, set[str]]:
    owners: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for name in row[column].split("|"):
            if name:
                owners[name].add(row["symbol"])
    return owners


def _fold(rows: list[tuple[str, int, str]]) -> dict[str, int]:
    """Upper-case name -> gene; the stronger kind wins, a name of two genes within one kind means none."""
    folded: dict[str, int] = {}
    for kind in KINDS:
        this: dict[str, int] = {}
        for name, gene, its_kind in rows:
            if its_kind == kind:
                key = name.upper()
                this[key] = gene if this.get(key, gene) == gene else -1
        folded = this | folded
    return folded


def _write(path: str | Path, header: list[str], rows: Iterable[Sequence[object]]) -> None:
    lines = ["\t".join(header), *("\t".join(map(str, row)) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")
