"""The undirected gene network: STRING's protein links put on the genes of the vocabulary."""

import csv
import dataclasses
import json
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from celllm import io
from celllm.errors import UserError
from celllm.graph.settings import MAX_SCORE, NetworkSettings

if TYPE_CHECKING:
    from celllm.cells.genes import SymbolMap

LINK_COLUMNS = ("protein1", "protein2", "combined_score")
ID_COLUMNS = ("protein_external_id", "#string_protein_id", "string_protein_id")
"""Name of the first column of STRING's ``protein.info`` in version 11.0 and since 11.5."""

ROWS_AT_ONCE = 500_000

Ints = NDArray[np.int32]
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class GeneNetwork:
    """Undirected edges between genes, each edge once.

    ``source`` and ``target`` are vocabulary indices, ``source < target``, sorted by both; ``score`` is the
    combined score of STRING (0 to 1000). Genes without an edge are part of the network too.
    """

    source: Ints
    target: Ints
    score: Ints
    n_genes: int
    genes_sha256: str
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def n_edges(self) -> int:
        """Number of undirected edges."""
        return len(self.source)

    def both_ways(self) -> tuple[Ints, Ints]:
        """Sources and targets of the 2 x ``n_edges`` directed edges."""
        return np.concatenate([self.source, self.target]), np.concatenate([self.target, self.source])

    def degrees(self) -> NDArray[np.int64]:
        """Number of neighbours of each gene, shape (n_genes,)."""
        return np.bincount(self.both_ways()[0], minlength=self.n_genes)

    def adjacency(self) -> sparse.csr_array:
        """Symmetric (n_genes, n_genes) matrix of scores as fractions of 1000, float32."""
        weights = np.tile(self.score.astype(np.float32) / MAX_SCORE, 2)
        return sparse.coo_array((weights, self.both_ways()), shape=(self.n_genes, self.n_genes)).tocsr()

    def save(self, path: str | Path) -> None:
        """Write the network as ``.npz``, whole or not at all."""
        with io.atomic(path) as partial, open(partial, "wb") as handle:
            np.savez(
                handle,
                source=self.source,
                target=self.target,
                score=self.score,
                n_genes=np.int64(self.n_genes),
                genes_sha256=np.str_(self.genes_sha256),
                facts=np.str_(json.dumps(self.facts)),
            )

    @classmethod
    def read(cls, path: str | Path, genes_sha256: str) -> "GeneNetwork":
        """Read a network written by :meth:`save`.

        Raises :class:`UserError` when the file is missing, is not such a network, or was made for a
        vocabulary other than the one with ``genes_sha256``.
        """
        damage = KeyError, ValueError, EOFError, OSError, zipfile.BadZipFile
        with (
            io.reading(path, "not a gene network ({}); make the network again", *damage),
            np.load(path, allow_pickle=False) as held,
        ):
            network = cls(
                source=held["source"],
                target=held["target"],
                score=held["score"],
                n_genes=int(held["n_genes"]),
                genes_sha256=str(held["genes_sha256"]),
                facts=json.loads(str(held["facts"])),
            )
        if network.genes_sha256 != genes_sha256:
            raise UserError(f"{path}: made for another gene vocabulary; make the network again")
        return network


def run_network(
    links: str | Path,
    info: str | Path,
    aliases: str | Path,
    genes: str | Path,
    settings: NetworkSettings,
    out: str | Path,
) -> None:
    """STRING -> gene network over the vocabulary.

    Parameters
    ----------
    links, info
        STRING's ``protein.links`` (space-separated, every edge twice) and ``protein.info`` (tab-separated) of
        version 11 or 12, gzip-compressed or plain.
    aliases, genes
        The prepared alias table and vocabulary.
    """
    from celllm.cells.genes import SymbolMap, Vocabulary
    from celllm.sources.lock import verified

    vocabulary = Vocabulary.read(genes)
    symbols = SymbolMap.read(aliases, vocabulary)
    protein_genes = read_proteins(verified(info), symbols)
    network = read_links(
        verified(links), protein_genes, len(vocabulary), vocabulary.sha256, settings.min_score
    )
    network.save(out)
    log.info("%s: %s", out, ", ".join(f"{name} {value}" for name, value in network.facts.items()))


def read_proteins(info: str | Path, symbols: "SymbolMap") -> dict[str, int]:
    """Return the gene of every protein whose preferred name is, or was, the name of a gene of the vocabulary.

    Raises :class:`UserError` when the file is not STRING's ``protein.info`` or names no gene of the
    vocabulary.
    """
    proteins: dict[str, int] = {}
    n_proteins, name = 0, ""
    for rows in _tables(info, "\t", (ID_COLUMNS, ("preferred_name",))):
        ids, names = (rows.iloc[:, column].tolist() for column in (0, 1))
        proteins |= {p: gene for p, gene in zip(ids, symbols.genes(names).tolist(), strict=True) if gene >= 0}
        n_proteins, name = n_proteins + len(rows), names[0]
    if not proteins:
        raise UserError(
            f"{info}: no gene in common with the vocabulary ({n_proteins} proteins, such as {name!r})"
        )
    log.info("%s: %d of %d proteins are genes of the vocabulary", info, len(proteins), n_proteins)
    return proteins


def read_links(
    links: str | Path, protein_genes: dict[str, int], n_genes: int, genes_sha256: str, min_score: int
) -> GeneNetwork:
    """Read STRING's links, in pieces, as an undirected network of genes.

    Links between two proteins of one gene are dropped; of several links between two genes the highest score
    counts.

    Raises :class:`UserError` when the file is damaged or not STRING's ``protein.links``, or when no edge is
    left.
    """
    pieces, n_links, n_above = [], 0, 0
    for rows in _tables(links, " ", tuple((name,) for name in LINK_COLUMNS)):
        found = rows["combined_score"].to_numpy()
        if found.dtype.kind not in "iu" or not 1 <= found.max() <= MAX_SCORE:
            raise UserError(
                f"{links}: combined_score must be a whole number of 1 to {MAX_SCORE} in every row"
            )
        above = rows[found > min_score]
        genes = [above[name].map(protein_genes).fillna(-1).astype(np.int32) for name in LINK_COLUMNS[:2]]
        ends = np.sort(np.stack(genes), axis=0)
        kept = (ends[0] >= 0) & (ends[0] != ends[1])
        pieces.append(np.stack([*ends, above["combined_score"].to_numpy(np.int32)])[:, kept])
        n_links, n_above = n_links + len(rows), n_above + len(above)
    low, high, scores = np.concatenate(pieces, axis=1) if pieces else np.empty((3, 0), np.int32)
    if not len(low):
        raise UserError(f"{links}: no link with a score above {min_score} joins two genes of the vocabulary")
    order = np.lexsort((scores, high, low))
    low, high, scores = low[order], high[order], scores[order]
    last = np.append((low[1:] != low[:-1]) | (high[1:] != high[:-1]), True)  # the highest score comes last
    network = GeneNetwork(low[last], high[last], scores[last], n_genes, genes_sha256)
    degrees = network.degrees()
    _, component = connected_components(network.adjacency(), directed=False)
    facts = {
        "min_score": min_score,
        "n_links": n_links,
        "n_links_above": n_above,
        "n_edges": network.n_edges,
        "n_genes_with_edge": int((degrees > 0).sum()),
        "n_genes_without_edge": int((degrees == 0).sum()),
        "largest_component": int(np.bincount(component).max()),
        "highest_degree": int(degrees.max()),
    }
    return dataclasses.replace(network, facts=facts)


def _tables(path: str | Path, separator: str, wanted: tuple[tuple[str, ...], ...]) -> Iterator[Any]:
    """Iterate the wanted columns (each given by its possible names) of a table, some rows at a time."""
    import pandas as pd

    from celllm.sources.archives import open_text

    with open_text(path) as text:
        header = text.readline(10_000).rstrip("\r\n").split(separator)
        found = [next((name for name in names if name in header), None) for names in wanted]
        if None in found:
            expected, line = ", ".join(names[0] for names in wanted), separator.join(header)[:60]
            raise UserError(f"{path}: expected the columns {expected}; the first line is {line!r}")
        try:
            for rows in pd.read_csv(
                text,
                sep=separator,
                names=header,
                usecols=found,
                index_col=False,
                quoting=csv.QUOTE_NONE,
                keep_default_na=False,  # NA is a name like any other
                chunksize=ROWS_AT_ONCE,
            ):
                if rows.empty:
                    raise UserError(f"{path}: nothing after its first line; fetch it again")
                yield rows[found]
        except (pd.errors.ParserError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not a table of STRING ({' '.join(str(error).split())})") from error
