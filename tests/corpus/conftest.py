from pathlib import Path
from types import SimpleNamespace

import pytest

from celllm.cells.genes import run_genes


@pytest.fixture(scope="session")
def real_genes(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Vocabulary and aliases of HGNC's August 2024 release."""
    folder = tmp_path_factory.mktemp("real_genes")
    files = SimpleNamespace(genes=folder / "genes.tsv", aliases=folder / "aliases.tsv")
    run_genes(mirror / "hgnc" / "hgnc_complete_set_2024-08-01.txt", files.genes, files.aliases)
    return files
