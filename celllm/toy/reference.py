"""Toy gene list (HGNC) and protein network (STRING)."""

import itertools
from collections.abc import Iterable

import numpy as np

from celllm.toy.biology import Biology, real_gene_names, stream
from celllm.toy.packing import ToyFile, by_column, gzipped, table
from celllm.toy.symbols import ALIASES, FORMER, NON_CODING, OLD_NAME

HGNC_COLUMNS = """
    hgnc_id symbol name locus_group locus_type status location location_sortable alias_symbol
    alias_name prev_symbol prev_name gene_group gene_group_id date_approved_reserved
    date_symbol_changed date_name_changed date_modified entrez_id ensembl_gene_id vega_id ucsc_id
    ena refseq_accession ccds_id uniprot_ids pubmed_id mgd_id rgd_id lsdb cosmic omim_id mirbase
    homeodb snornabase bioparadigms_slc orphanet pseudogene.org horde_id merops imgt iuphar
    kznf_gene_catalog mamit-trnadb cd lncrnadb enzyme_id intermediate_filament_db rna_central_ids
    lncipedia gtrnadb agr mane_select gencc
"""


class Identifiers:
    """Placeholder ids of the toy genes: well-formed, the same in all files, none of them real."""

    def __init__(self, coding: Iterable[str]) -> None:
        names = dict.fromkeys((*coding, *NON_CODING, *real_gene_names()))
        self._number = {name: 900001 + i for i, name in enumerate(names)}

    def number(self, symbol: str) -> int:
        """Stands for the Entrez id and for the number behind ``HGNC:``."""
        return self._number[symbol]

    def ensembl(self, symbol: str) -> str:
        """Gene id without version."""
        return f"ENSG{self._number[symbol]:011d}"

    def protein(self, symbol: str) -> str:
        """Protein id with the taxon in front, as STRING writes it."""
        return f"9606.ENSP{self._number[symbol]:011d}"


def reference_files(biology: Biology, ids: Identifiers, seed: int) -> list[ToyFile]:
    """The HGNC complete set and the two STRING files."""
    coding = dict.fromkeys(biology.symbols, ("protein-coding gene", "gene with protein product"))
    others = dict.fromkeys(NON_CODING, ("non-coding RNA", "RNA, long non-coding"))
    genes = (
        {
            "hgnc_id": f"HGNC:{ids.number(symbol)}",
            "symbol": symbol,
            "name": f"{symbol}, name left out of the toy list",
            "locus_group": group,
            "locus_type": kind,
            "status": "Approved",
            "alias_symbol": _several(ALIASES.get(symbol, ())),
            "prev_symbol": _several(FORMER.get(symbol, ())),
            "entrez_id": ids.number(symbol),
            "ensembl_gene_id": ids.ensembl(symbol),
        }
        for symbol, (group, kind) in sorted((coding | others).items())
    )
    # Every link in both directions, sorted, as STRING lists them
    names = [ids.protein(symbol) for symbol in biology.symbols]
    network = string_network(biology, stream(seed, "string"))
    ends = [(pair, str(score)) for (i, j), score in network.items() for pair in ((i, j), (j, i))]
    links = sorted((names[i], names[j], score) for (i, j), score in ends)
    # STRING has former symbols for some genes and no symbol for some proteins
    proteins = [
        (name, OLD_NAME.get(symbol, symbol) if i % 2 else symbol)
        for i, (name, symbol) in enumerate(zip(names, biology.symbols, strict=True))
    ]
    proteins += [(f"9606.ENSP{990001 + n:011d}", f"ENSP{990001 + n:011d}") for n in range(5)]
    info = [(*protein, "0", "annotation not available") for protein in proteins]
    return [
        ToyFile(
            "hgnc/hgnc_complete_set_2024-08-01.txt",
            table(by_column(HGNC_COLUMNS.split(), genes, missing="")),
            "HGNC complete set, monthly archive",
            "real symbols and other names; ids are placeholders",
        ),
        ToyFile(
            "string/9606.protein.links.v11.0.txt.gz",
            gzipped(table([("protein1", "protein2", "combined_score"), *links], " ")),
            "STRING v11.0, human: protein.links",
        ),
        ToyFile(
            "string/9606.protein.info.v11.0.txt.gz",
            gzipped(table([("protein_external_id", "preferred_name", "protein_size", "annotation"), *info])),
            "STRING v11.0, human: protein.info",
            "real symbols; protein ids are placeholders",
        ),
    ]


def _several(names: tuple[str, ...]) -> str:
    """A cell of several values is quoted in the original, a cell of one value is not."""
    return f'"{"|".join(names)}"' if len(names) > 1 else "".join(names)


def string_network(biology: Biology, rng: np.random.Generator) -> dict[tuple[int, int], int]:
    """Scores of gene pairs (i < j): many confident links within a programme, a few between, the rest weak.

    Three of four links inside a programme score above 950 (what the authors' code keeps), the others lie
    between 700 and 950; as many random pairs again score 150 to 400.
    """
    links: dict[tuple[int, int], int] = {}
    for programme in biology.programmes:
        members = biology.members(programme)
        pairs = list(itertools.combinations(members.tolist(), 2))
        chosen = rng.choice(len(pairs), size=min(len(pairs), 5 * len(members)), replace=False)
        for pick in chosen:
            sure = rng.random() < 0.75
            links[pairs[pick]] = int(rng.integers(951, 1000) if sure else rng.integers(700, 951))
    inside = len(links)
    linked = np.flatnonzero(biology.loadings.any(axis=0))
    for n, scores in ((inside // 20, (951, 1000)), (inside, (150, 401))):
        for _ in range(n):  # a pair that is there already keeps its score
            first, second = sorted(rng.choice(linked, size=2, replace=False).tolist())
            links.setdefault((first, second), int(rng.integers(*scores)))
    return links
