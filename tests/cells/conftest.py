"""A small vocabulary and the layouts of the sources, written as small as a test needs them."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from celllm.cells.genes import SymbolMap, Vocabulary, run_genes

HGNC_COLUMNS = (
    "hgnc_id",
    "symbol",
    "locus_group",
    "status",
    "alias_symbol",
    "prev_symbol",
    "ensembl_gene_id",
)
CODING, RNA = "protein-coding gene", "non-coding RNA"
HGNC_ROWS = [
    # symbol, locus group, status, aliases, previous symbols, Ensembl id
    ("GATA1", CODING, "Approved", "ERYF1|NFE1", "GF1", "ENSG00000102145"),
    ("ACTB", CODING, "Approved", "", "", "ENSG00000075624"),
    ("C1orf112", CODING, "Approved", "MEICA1", "", "ENSG00000000460"),
    ("MARCHF1", CODING, "Approved", "RNF171|SHARED", "MARCH1", "ENSG00000145416"),
    ("MTARC1", CODING, "Approved", "SHARED", "MARC1", "ENSG00000186205"),
    ("SEPTIN2", CODING, "Approved", "DIFF6", "SEPT2|NEDD5", "ENSG00000168385"),
    ("CD4", CODING, "Approved", "XIST|Actb|OLDNAME", "", "ENSG00000010610"),
    ("CD8A", CODING, "Approved", "", "OLDNAME|TWICE", "ENSG00000153563"),
    ("CD8B", CODING, "Approved", "lower1", "TWICE", ""),
    ("CCL3L1", CODING, "Approved", "", "", "ENSG00000276085"),
    ("CCL3L3", CODING, "Approved", "LOWER1", "", "ENSG00000276085"),
    ("XIST", RNA, "Approved", "NCALIAS", "NCPREV", "ENSG00000229807"),
    ("TRA", "other", "Approved", "", "NCPREV2", ""),
    ("GONE1", CODING, "Entry Withdrawn", "", "", ""),
]
"""``CD4`` claims names of others: of a non-coding gene, of ACTB but for its case, a former one of CD8A."""


def hgnc_text(rows: list[tuple[str, ...]]) -> str:
    lines = ["\t".join(HGNC_COLUMNS)]
    for number, (symbol, group, status, alias, previous, ensembl) in enumerate(rows):
        quoted = f'"{alias}"' if "|" in alias else alias
        lines.append("\t".join((f"HGNC:{number}", symbol, group, status, quoted, previous, ensembl)))
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class GeneFiles:
    genes: Path
    aliases: Path

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.read(self.genes)

    @property
    def symbol_map(self) -> SymbolMap:
        return SymbolMap.read(self.aliases, self.vocabulary)


def _gene_files(hgnc: Path, folder: Path) -> GeneFiles:
    files = GeneFiles(folder / "genes.tsv", folder / "aliases.tsv")
    run_genes(hgnc, files.genes, files.aliases)
    return files


@pytest.fixture(scope="session")
def gene_files(tmp_path_factory: pytest.TempPathFactory) -> GeneFiles:
    """Vocabulary and aliases of eleven coding genes."""
    folder = tmp_path_factory.mktemp("genes")
    hgnc = folder / "hgnc.txt"
    hgnc.write_text(hgnc_text(HGNC_ROWS))
    return _gene_files(hgnc, folder)


@pytest.fixture(scope="session")
def real_genes(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> GeneFiles:
    """Vocabulary and aliases of HGNC's August 2024 release."""
    folder = tmp_path_factory.mktemp("real_genes")
    return _gene_files(mirror / "hgnc" / "hgnc_complete_set_2024-08-01.txt", folder)
