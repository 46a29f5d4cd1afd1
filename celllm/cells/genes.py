"""Gene names: the frozen vocabulary of protein-coding genes and the way from any name to it.

The position of a gene in the vocabulary is its identity in every model, so list and order are written once
per run (``genes.tsv``). ``aliases.tsv`` holds what older names mean, by HGNC's record of symbols and aliases.
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

from celllm.cells.names import UNIQUE, is_mangled, looks_like_date, mangled, repairs
from celllm.errors import UserError
from celllm.io import write_text
from celllm.sources import delimited
from celllm.sources.delimited import Row
from celllm.sources.lock import verified

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
FEW = 0.05
"""Share of a data set's genes below which a match with the vocabulary is suspicious."""
SHOWN = 10
"""Unknown names that are reported, the most expressed first."""


@dataclass(frozen=True)
class Vocabulary:
    """The genes of a run, in their frozen order.

    ``symbols`` are approved and unique, the position is the gene id; ``ensembl_ids`` are without version, and
    empty where HGNC gives none.
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
            raise UserError(f"{path}: a symbol occurs twice; make it with `celllm genes`")
        return vocabulary

    def write(self, path: str | Path) -> None:
        """Write ``genes.tsv``."""
        rows = zip(range(len(self)), self.symbols, self.ensembl_ids, strict=True)
        _write(path, _GENES_HEADER, rows)


def gene_list_of(model: Path) -> Path:
    """Place of the gene list of a model: beside its weights, or in the ``prepared`` folder of its run."""
    folder = model if model.is_dir() else model.parent
    for place in (folder / "genes.tsv", *(p / "prepared/genes.tsv" for p in folder.absolute().parents[:2])):
        if place.is_file():
            return place
    raise UserError(
        f"{model}: no genes.tsv beside it or in the prepared/ folder of its run; copy genes.tsv and "
        "aliases.tsv there, or export the model with `celllm export`"
    )


class SymbolMap:
    """From the names in a data set to gene ids of the vocabulary.

    A name is looked up as it stands (approved symbol, previous symbol, alias, Ensembl id with or without
    version), then without regard to case, then as what programs make of names (:mod:`celllm.cells.names`).
    ``names`` are the (name, approved symbol, kind) rows of ``aliases.tsv``.
    """

    def __init__(self, vocabulary: Vocabulary, names: Iterable[tuple[str, str, str]]) -> None:
        self.vocabulary = vocabulary
        index_of = vocabulary.index_of
        rows = [(symbol, gene, "approved") for symbol, gene in index_of.items()]
        approved = {mangled(symbol): gene for symbol, gene in index_of.items()}
        for name, symbol, kind in names:
            gene = index_of.get(symbol, -1)
            if kind != "approved" and name.lower() in delimited.MISSING:  # NaN is an alias of SCN11A
                continue
            # NKX6.1 is an alias of NKX6-2, but what R makes of NKX6-1: the approved symbol wins.
            if gene >= 0 and (
                kind != "alias" or "." not in name or approved.get(mangled(name), gene) == gene
            ):
                rows.append((name, gene, kind))
        self._exact = {name: gene for name, gene, _ in rows}
        self._folded = _fold(rows)
        self._mangled = _fold([(mangled(name), gene, kind) for name, gene, kind in rows])
        ensembl = Counter(vocabulary.ensembl_ids)
        self._ensembl = {e: i for i, e in enumerate(vocabulary.ensembl_ids) if e and ensembl[e] == 1}

    @classmethod
    def read(cls, path: str | Path | None, vocabulary: Vocabulary) -> "SymbolMap":
        """Read ``aliases.tsv``; without it approved symbols and Ensembl ids alone are known."""
        rows = delimited.rows(path, _ALIASES_HEADER) if path else ()
        return cls(vocabulary, ((row["name"], row["symbol"], row["kind"]) for row in rows))

    def gene(self, name: str) -> int:
        """Gene id of ``name``, or -1 when it means no gene of the vocabulary or more than one."""
        return self._meaning(name)[0]

    def genes(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Gene ids of many names; -1 where a name maps to none."""
        return self.meanings(list(names))[0]

    def meanings(self, names: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
        """Gene ids of the names of a data set, and how each was found: "" as it stands, or what was undone.

        Only here are names read that were made unique (``TBCE-1``, ``TBCE.1``): the name without the number
        must be there too, and all smaller numbers.
        """
        found = {name: self._meaning(name) for name in dict.fromkeys(names)}
        for name, (gene, _) in list(found.items()):
            parts = UNIQUE.fullmatch(name) if gene < 0 else None
            if parts is not None:
                base, sign, n = parts[1], parts[2], int(parts[3])
                before = [base, *(f"{base}{sign}{k}" for k in range(1, n))]
                if all(one in found for one in before) and found[base][0] >= 0:
                    found[name] = (found[base][0], "made unique")
        genes = np.array([found[name][0] for name in names], dtype=np.int64)
        return genes, [found[name][1] for name in names]

    def _meaning(self, name: str, depth: int = 3) -> tuple[int, str]:
        if name in self._exact:
            return self._exact[name], ""
        if (gene := self._ensembl.get(_VERSION.sub("", name), -1)) >= 0:
            return gene, "Ensembl id"
        if (gene := self._folded.get(name.upper(), -1)) >= 0:
            return gene, "case"
        for kind, readings in repairs(name) if depth else ():
            genes = {self._meaning(reading, depth - 1)[0] for reading in readings} - {-1}
            if len(genes) == 1:
                return genes.pop(), kind
        if is_mangled(name):
            return self._mangled.get(mangled(name).upper(), -1), "R's make.names"
        return -1, ""


@dataclass(frozen=True)
class GeneReport:
    """What happened to the genes of a data set.

    ``n_renamed`` names map to another symbol than themselves, ``n_unmapped`` to none. ``n_changed`` counts,
    by kind, names that are found only when something is undone (``case``, ``spreadsheet date`` ...).
    ``merged`` symbols got several names, whose values were summed. ``unmapped`` has the names of no gene, the
    most expressed first, ``unknown_share`` the share of all counts that stand under them.
    """

    n_in: int
    n_out: int
    n_renamed: int
    n_unmapped: int
    n_changed: dict[str, int]
    merged: tuple[str, ...]
    unmapped: tuple[str, ...]
    unknown_share: float


def harmonise(
    matrix: "csr_matrix",
    names: Sequence[str],
    symbol_map: SymbolMap,
    where: str | Path = "the data",
    max_unknown: float = 1.0,
) -> tuple["csr_matrix", list[str], GeneReport]:
    """Map the columns of a matrix to genes of the vocabulary, in its order; columns of one gene are summed.

    ``matrix`` is cells x names with linear values (never logarithms: they are summed); ``where`` is the file,
    for messages. Returned are the cells x symbols CSR matrix of the same dtype, the symbols (a subset of the
    vocabulary) and the report. :class:`UserError` when no name maps to the vocabulary, or names of no gene
    have more than the share ``max_unknown`` of the counts.
    """
    from scipy.sparse import csr_matrix

    genes, changes = symbol_map.meanings(names)
    mapped, unknown = np.flatnonzero(genes >= 0), np.flatnonzero(genes < 0)
    present, columns, n_names = np.unique(genes[mapped], return_inverse=True, return_counts=True)
    symbols = [symbol_map.vocabulary.symbols[g] for g in present]
    sums = np.asarray(matrix.sum(axis=0, dtype=np.float64)).ravel()
    report = GeneReport(
        n_in=len(names),
        n_out=len(present),
        n_renamed=sum(symbol_map.vocabulary.symbols[genes[i]] != names[i] for i in mapped.tolist()),
        n_unmapped=len(unknown),
        n_changed=dict(Counter(changes[i] for i in mapped.tolist() if changes[i])),
        merged=tuple(symbols[c] for c in np.flatnonzero(n_names > 1)),
        unmapped=tuple(str(names[i]) for i in unknown[np.argsort(-sums[unknown], kind="stable")].tolist()),
        unknown_share=float(sums[unknown].sum() / max(sums.sum(), 1e-300)),
    )
    _judge(report, names, where, max_unknown)
    ones = np.ones(len(mapped), dtype=matrix.dtype)
    selector = csr_matrix((ones, (mapped, columns)), shape=(len(names), len(present)))
    product = csr_matrix(matrix) @ selector
    product.eliminate_zeros()
    product.sort_indices()
    return product, symbols, report


def _judge(report: GeneReport, names: Sequence[str], where: str | Path, max_unknown: float) -> None:
    n_mapped = report.n_in - report.n_unmapped
    examples = ", ".join(repr(str(name)) for name in names[:3])
    if not n_mapped:
        raise UserError(
            f"{where}: no gene in common with the vocabulary (names here: {examples}); "
            "human gene symbols or Ensembl gene ids are expected"
        )
    unknown = ", ".join(report.unmapped[:SHOWN])
    if report.unknown_share > max_unknown:
        raise UserError(
            f"{where}: {report.unknown_share:.0%} of the counts are under names that mean no gene of the "
            f"vocabulary (the most expressed: {unknown}); correct the names, or allow it with max_unknown"
        )
    if report.n_unmapped:
        log.warning(
            "%s: %d of %d names (%.1f %% of the counts) match no gene of the vocabulary; most expressed: %s",
            where, report.n_unmapped, report.n_in, 100 * report.unknown_share, unknown,
        )  # fmt: skip
    if dated := [name for name in report.unmapped if looks_like_date(name)]:
        shown = ", ".join(dated[:SHOWN])
        log.warning("%s: %d unknown names look like dates of a spreadsheet: %s", where, len(dated), shown)
    if n_mapped < FEW * report.n_in:
        log.warning("%s: only %d of %d genes are in the vocabulary", where, n_mapped, report.n_in)
    if report.n_changed.get("case", 0) > n_mapped / 2:
        log.warning("%s: most genes match only when case is ignored (%s): are they human?", where, examples)


def run_genes(hgnc: str | Path, genes: str | Path, aliases: str | Path) -> None:
    """HGNC complete set -> vocabulary and other names of its genes.

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
        For a file that is not HGNC's table, a missing column, or a symbol that occurs twice.
    """
    rows = [row for row in delimited.rows(verified(hgnc), _HGNC_COLUMNS) if row["status"] == "Approved"]
    coding = sorted((r for r in rows if r["locus_group"] == CODING), key=lambda r: r["symbol"])
    if not coding:
        raise UserError(f"{hgnc}: no approved entry of the locus group '{CODING}'")
    symbol, n = Counter(row["symbol"] for row in rows).most_common(1)[0]
    if n > 1:
        raise UserError(f"{hgnc}: the symbol '{symbol}' is approved {n} times; take HGNC's own complete set")
    vocabulary = Vocabulary(tuple(r["symbol"] for r in coding), tuple(r["ensembl_gene_id"] for r in coding))
    names = list(_names(rows, set(vocabulary.symbols)))
    vocabulary.write(genes)
    _write(aliases, _ALIASES_HEADER, names)
    kinds = Counter(kind for _, _, kind in names)
    log.info(
        "%s: %d approved entries, %d protein-coding genes; %d previous symbols and %d aliases kept",
        hgnc, len(rows), len(vocabulary), kinds["previous"], kinds["alias"],
    )  # fmt: skip


def _names(rows: Sequence[Row], coding: set[str]) -> Iterator[tuple[str, str, str]]:
    """Rows of ``aliases.tsv``: what each name means, and nothing for a name that means more than one gene.

    All locus groups take part, so that the symbol of a non-coding gene is never read as an alias of a coding
    one; what belongs to a non-coding gene is left out at the end.
    """
    approved = {row["symbol"].upper(): row["symbol"] for row in rows}
    meaning = {row["symbol"]: (row["symbol"], "approved") for row in rows}
    for kind, column in (("previous", "prev_symbol"), ("alias", "alias_symbol")):
        owners: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            for name in row[column].split("|"):
                owners[name].add(row["symbol"])
        for name, symbols in owners.items():
            if name in meaning or not name:
                continue
            symbol = symbols.pop() if len(symbols) == 1 else ""
            if approved.get(name.upper(), symbol) != symbol:  # the symbol of another gene but for its case
                symbol = ""
            meaning[name] = (symbol, kind)
    order = {kind: i for i, kind in enumerate(KINDS)}
    kept = [(name, symbol, kind) for name, (symbol, kind) in meaning.items() if symbol in coding]
    yield from sorted(kept, key=lambda row: (order[row[2]], row[0]))


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
