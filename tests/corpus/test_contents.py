"""What data sets hold, counted in small files of known content, and in the real ones of the mirror."""

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from celllm.cells import h5ad
from celllm.cells.check import PROVENANCE
from celllm.cells.genes import Vocabulary
from celllm.cells.prepare import run_prepare
from celllm.cells.responses import run_responses
from celllm.corpus import contents
from celllm.corpus.contents import of_lengths, run_counts
from celllm.corpus.expressed import CellsInMemory, expression_of, from_csr, not_normalised
from celllm.corpus.settings import LogBase
from celllm.corpus.shards import run_index, run_shard
from celllm.corpus.tokens import bins
from celllm.errors import UserError

NAMES = [f"G{i:02}" for i in range(20)]


def write(path: Path, cells: list[str], n_expressed: int = 3, **obs: Any) -> Path:
    """Write a prepared data set with ``n_expressed`` genes in every cell."""
    matrix = np.zeros((len(cells), len(NAMES)), dtype=np.float32)
    matrix[:, :n_expressed] = np.arange(1, len(cells) + 1)[:, None]
    table = pd.DataFrame({"sample": path.stem, **obs}, index=cells)
    if "label" in table:
        table["label"] = pd.Categorical(table["label"], categories=[*dict.fromkeys(table["label"]), "nobody"])
    uns = {"celllm": {**dict.fromkeys(PROVENANCE, 0), "source": path.parent.name, "values": "counts"}}
    data = anndata.AnnData(csr_matrix(matrix), obs=table, var=pd.DataFrame(index=NAMES), uns=uns)
    h5ad.write(data, path)
    return path


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Any]:
    """Arguments of run_counts for a run of known sizes."""
    genes = tmp_path / "genes.tsv"
    genes.write_text(
        "\n".join(["index\tsymbol\tensembl_id", *(f"{i}\t{n}\t" for i, n in enumerate(NAMES))]) + "\n"
    )
    (tmp_path / "panglaodb").mkdir()
    shards = []
    for sample, (n, n_expressed) in {"S1": (4, 2), "S2": (6, 7), "S3": (0, 1), "S4": (5, 2)}.items():
        names = [f"{sample}:{i}" for i in range(n)]
        cells = write(tmp_path / "panglaodb" / f"{sample}.h5ad", names, n_expressed, tumour=sample == "S2")
        shards.append(tmp_path / f"{sample}.safetensors")
        run_shard(cells, genes, shards[-1])
    exclude = tmp_path / "exclude.csv"
    exclude.write_text("source,sample,row\npanglaodb,S1,0\n")
    run_index(shards, tmp_path / "index.json", exclude)
    samples = tmp_path / "samples.tsv"
    samples.write_text("sample\ttumour\ttissue\nS1\t0\tLung\nS2\t1\tTumour\nS3\t0\tLiver\nS4\t0\tLung\n")
    responses = tmp_path / "gdsc.responses.csv"
    responses.write_text(
        "cell_line,drug,drug_name,smiles,screen,ln_ic50\n"
        "ACH-1,5,A,C,GDSC:1,0.1\nACH-1,5,A,C,GDSC:9,0.2\nACH-2,5,A,C,GDSC:1,0.3\nACH-2,6,B,CC,GDSC:2,0.4\n"
        "ACH-3,7,D,CCC,GDSC:3,0.5\n"
    )
    return {
        "cells": {"baron": write(tmp_path / "baron.h5ad", list("abcde"), label=["x", "y", "x", "x", "z"])},
        "genes": genes,
        "corpus": tmp_path / "index.json",
        "samples": {"panglaodb": samples},
        "responses": {"gdsc": responses},
        "expression": {"ccle": write(tmp_path / "ccle.h5ad", ["ACH-1", "ACH-2", "ACH-9"])},
        "out": tmp_path / "facts" / "counts.json",
    }


def counted(run: dict[str, Any]) -> dict[str, Any]:
    run_counts(**run)
    return json.loads(run["out"].read_text())


def test_everything_is_counted(run) -> None:
    assert counted(run) == {
        "vocabulary": {"n_genes": 20},
        "data_sets": {
            "baron": {"n_cells": 5, "n_classes": 3, "labels": {"x": 3, "y": 1, "z": 1}},
            "panglaodb": {"n_cells": 15, "n_samples": 3, "n_samples_listed": 4, "n_tissues": 2},
            "gdsc_ccle": {"n_pairs": 4, "n_distinct_pairs": 3, "n_lines": 2, "n_drugs": 2},
        },
        # 3 and 5 cells of 2 genes, 6 cells of 7 genes: 58 of 14 x 20 places.
        "pretraining": {
            "n_cells": 14,
            "n_tumour": 6,
            "n_dropped": 1,
            "share_of_genes_not_expressed": 79.29,
            "share_of_cells_300_to_5000_genes": 0.0,
            "share_of_cells_up_to_13000_genes": 100.0,
        },
        # Cells of two to seven genes: each gene has over 1,400 of 10,000 counts, ln of which is above 5.
        "bins": {
            name: [0, 0, 0, 0, 0, 100]
            for name in ("baron", "ccle, normalised", "ccle, log2_tpm", "panglaodb")
        },
    }


def test_the_bins_are_those_of_the_tokens() -> None:
    random = np.random.default_rng(0)
    counts = csr_matrix(random.poisson(random.lognormal(0, 2, (30, 400))).astype(np.float32))
    expression = expression_of(counts)
    expected = np.bincount(bins(expression), minlength=6) / len(expression) * 100
    parts = [expression[:99] >> 12, expression[99:] >> 12]
    np.testing.assert_allclose(contents._shares(parts), expected, atol=0.005)
    assert (expected > 0).sum() >= 4


@pytest.mark.parametrize("values", ["tpm", "log2_tpm"])
def test_bins_of_cell_lines_are_those_of_both_readings(tmp_path: Path, values: str) -> None:
    """Most of a line is in bin 0 when normalised as a cell, and spread when log2(TPM + 1) is floored."""
    random = np.random.default_rng(0)
    tpm = random.lognormal(1, 2, (6, 200))
    tpm *= 1e6 / tpm.sum(1, keepdims=True) / 100  # of 20,000 genes like these
    path = write(tmp_path / "ccle.h5ad", [f"ACH-{i}" for i in range(6)])
    data, vocabulary = h5ad.read(path), Vocabulary(tuple(f"G{i}" for i in range(200)), ("",) * 200)
    x = csr_matrix((np.log2(tpm + 1) if values == "log2_tpm" else tpm).astype(np.float32))
    uns = {"celllm": data.uns["celllm"] | {"values": values}}
    made = anndata.AnnData(x, obs=data.obs, var=pd.DataFrame(index=list(vocabulary.symbols)), uns=uns)
    h5ad.write(made, path)
    readings: dict[bool, tuple[CellsInMemory, LogBase]] = {
        True: (from_csr(tpm, range(200)), "e"),
        False: (not_normalised(tpm, range(200)), "2"),
    }
    for normalise, (cells, base) in readings.items():
        found = bins(cells.ragged.expression, log_base=base)
        expected = np.bincount(found, minlength=6) / len(found) * 100
        np.testing.assert_allclose(contents.of_bins(path, vocabulary, normalise), expected, atol=0.2)


def test_what_a_run_does_not_have_is_not_counted(run) -> None:
    facts = counted({name: run[name] for name in ("cells", "genes", "out")})
    assert set(facts) == {"vocabulary", "data_sets", "bins"}
    assert set(facts["data_sets"]) == {"baron"}


def test_a_damaged_file_is_not_counted(run) -> None:
    content = bytearray(run["cells"]["baron"].read_bytes())
    content[len(content) // 2] ^= 1
    run["cells"]["baron"].write_bytes(content)
    with pytest.raises(UserError, match="damaged or changed"):
        run_counts(**run)
    assert not run["out"].exists()


def test_an_index_of_another_kind_is_refused(run) -> None:
    run["corpus"].write_text("{}")
    with pytest.raises(UserError, match="not a corpus index"):
        run_counts(**run)


FILES = {
    "zheng68k": {
        "matrix": "zheng68k/fresh_68k_pbmc_donor_a_filtered_gene_bc_matrices.tar.gz",
        "labels": "zheng68k/68k_pbmc_barcodes_annotation.tsv",
    },
    "baron": {"matrix": "baron/GSE84133_RAW.tar"},
    "gse149383": {"matrix": "gse149383/erl_total_data_2K.csv", "labels": "gse149383/erl_total_2K_meta.csv"},
    "gse117872": {
        "matrix": "gse117872/GSE117872_good_Data_TPM.txt.gz",
        "labels": "gse117872/GSE117872_good_Data_cellinfo.txt.gz",
    },
    "ccle": {"expression": "ccle/CCLE_expression.csv"},
}
GDSC = {
    "ic50": "gdsc/deepcdr/data/CCLE/GDSC_IC50.csv",
    "annotation": "gdsc/deepcdr/data/CCLE/Cell_lines_annotations_20181226.txt",
    "lines": "gdsc/deepcdr/data/cancer_cell_line.info",
    "drugs": "gdsc/deepcdr/data/GDSC/1.Drug_listMon Jun 24 09_00_55 2019.csv",
    "smiles": "gdsc/deepcdr/data/223drugs_pubchem_smiles.txt",
}


@pytest.mark.mirror
@pytest.mark.slow
def test_real_data_sets_have_the_counts_of_the_mirror(mirror, real_genes, tmp_path) -> None:
    def prepare(name: str, options: dict[str, Any]) -> Path:
        files = {key: mirror / path for key, path in FILES[name].items()}
        run_prepare(name, files, real_genes.genes, real_genes.aliases, options, tmp_path / f"{name}.h5ad")
        return tmp_path / f"{name}.h5ad"

    run_responses("gdsc", {key: mirror / path for key, path in GDSC.items()}, {}, tmp_path / "gdsc.csv")
    facts = counted(
        {
            "cells": {name: prepare(name, {}) for name in ("zheng68k", "baron", "gse149383", "gse117872")},
            "genes": real_genes.genes,
            "responses": {"gdsc": tmp_path / "gdsc.csv"},
            "expression": {"ccle": prepare("ccle", {})},
            "out": tmp_path / "counts.json",
        }
    )
    assert facts["vocabulary"] == {"n_genes": 19283}
    found = facts["data_sets"]
    assert {n: (found[n]["n_cells"], found[n]["n_classes"]) for n in FILES if n in found} == {
        "zheng68k": (683, 10), "baron": (238, 7), "gse149383": (400, 2), "gse117872": (300, 2),
    }  # fmt: skip
    assert found["zheng68k"]["labels"]["Dendritic"] == 239
    assert found["baron"]["labels"] == {
        "macrophage": 55, "beta": 35, "delta": 35, "activated_stellate": 35, "alpha": 35,
        "mast": 25, "epsilon": 18,
    }  # fmt: skip
    assert found["gse149383"]["labels"] == {"sensitive": 200, "resistant": 200}
    assert found["gse117872"]["labels"] == {"sensitive": 188, "resistant": 112}
    assert found["gdsc_ccle"]["n_pairs"] == 89288
    assert found["gdsc_ccle"]["n_distinct_pairs"] == 83899
    assert (found["gdsc_ccle"]["n_lines"], found["gdsc_ccle"]["n_drugs"]) == (460, 223)


def test_lengths_of_cells_bounds_included() -> None:
    shares = of_lengths(np.array([299, 300, 5000, 5001, 13_000, 13_001]))
    assert shares == {"share_of_cells_300_to_5000_genes": 33.33, "share_of_cells_up_to_13000_genes": 83.33}
