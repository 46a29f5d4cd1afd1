"""Libraries that are in a task and in pre-training are found under other counts and other names of cells."""

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from celllm.cells import h5ad
from celllm.cells.check import PROVENANCE
from celllm.corpus.libraries import common

RANDOM = np.random.default_rng(0)
BARCODES = ["".join(RANDOM.choice(list("ACGT"), 16)) for _ in range(400)]


def _write(path: Path, names: list[str], sample: str, source: str, file: str = "x.csv") -> Path:
    said = dict.fromkeys(PROVENANCE, 0) | {
        "source": source,
        "values": "counts",
        "files": json.dumps({"matrix": file}),
    }
    matrix = csr_matrix(RANDOM.integers(1, 9, (len(names), 3)).astype(np.float32))
    obs = pd.DataFrame({"sample": sample}, index=names)
    h5ad.write(
        anndata.AnnData(matrix, obs=obs, var=pd.DataFrame(index=["A", "B", "C"]), uns={"celllm": said}), path
    )
    return path


@pytest.mark.parametrize("form", ["{}-1", "lib_{}", "{}-1_2", "donor:{}", "{}"])
@pytest.mark.parametrize(("n_common", "found"), [(60, True), (10, True), (9, False), (0, False)])
def test_a_library_is_known_by_its_barcodes(tmp_path: Path, form: str, n_common: int, found: bool) -> None:
    task = [form.format(b) for b in BARCODES[:100]]
    other = [f"SRA1_SRS2:{b}" for b in BARCODES[100 - n_common : 200 - n_common]]
    cells = {"zheng": _write(tmp_path / "task.h5ad", task, "donor", "zheng")}
    pretraining = [_write(tmp_path / "pre.h5ad", other, "SRA1_SRS2", "panglaodb")]
    pairs = common(cells, pretraining)
    assert len(pairs) == found
    if found:
        assert (pairs[0]["sample"], pairs[0]["n_barcodes"]) == ("SRA1_SRS2", n_common)
        assert pairs[0]["share_of_barcodes"] == n_common / 100


def test_a_library_is_known_by_its_accession_number(tmp_path: Path) -> None:
    cells = {
        "baron": _write(tmp_path / "t.h5ad", ["human1_1", "human1_2"], "human1", "baron", "GSE84133_RAW.tar")
    }
    same = _write(tmp_path / "a.h5ad", ["gse84133:1"], "gse84133", "mine")
    other = _write(tmp_path / "b.h5ad", ["GSE8413:1"], "GSE8413", "mine")
    assert [(one["sample"], one["accessions"]) for one in common(cells, [same, other])] == [
        ("gse84133", ["GSE84133"])
    ]
