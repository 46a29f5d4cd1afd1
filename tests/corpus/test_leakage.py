"""Planted duplicates are found where they were planted and nowhere else; dropped, they leave the corpus."""

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, random

from celllm.cells import h5ad
from celllm.cells.check import PROVENANCE
from celllm.corpus.hashes import cell_hashes
from celllm.corpus.leakage import COLUMNS, run_leakage
from celllm.corpus.settings import LeakageSettings
from celllm.corpus.shards import Corpus, run_index, run_shard
from celllm.errors import UserError
from celllm.settings import as_settings

N_GENES = 40
NAMES = [f"G{i:02}" for i in range(N_GENES)]


def counts(n: int, seed: int) -> NDArray[np.float32]:
    drawn = random(n, N_GENES, 0.5, format="csr", random_state=seed, dtype=np.float32)
    drawn.data = np.ceil(drawn.data * 30)
    return drawn.toarray()


def write(path: Path, cells: NDArray[np.float32], genes: list[str] = NAMES, **obs: object) -> Path:
    """Write a prepared data set of these cells."""
    table = pd.DataFrame({"sample": path.stem, **obs}, index=[f"{path.stem}:{i}" for i in range(len(cells))])
    uns = {"celllm": {**dict.fromkeys(PROVENANCE, 0), "source": "made", "values": "counts"}}
    data = anndata.AnnData(csr_matrix(cells), obs=table, var=pd.DataFrame(index=genes), uns=uns)
    h5ad.write(data, path)
    return path


@pytest.fixture
def genes(tmp_path: Path) -> Path:
    path = tmp_path / "genes.tsv"
    path.write_text(
        "\n".join(["index\tsymbol\tensembl_id", *(f"{i}\t{n}\t" for i, n in enumerate(NAMES))]) + "\n"
    )
    return path


@pytest.fixture
def shards(tmp_path: Path, genes: Path) -> list[Path]:
    """Three samples of 10, 8 and 0 cells; cells 5 and 9 of the first are cell 2 of the second."""
    one, two = counts(10, 1), counts(8, 2)
    one[5] = one[9]
    two[2] = one[9]
    out = []
    for name, cells in (("S1", one), ("S2", two), ("S3", counts(0, 3))):
        run_shard(
            write(tmp_path / f"{name}.h5ad", cells, tumour=name == "S2"),
            genes,
            tmp_path / f"{name}.safetensors",
        )
        out.append(tmp_path / f"{name}.safetensors")
    return out


def report(
    shards: list[Path], genes: Path, cells: dict[str, Path], **settings: object
) -> tuple[dict, pd.DataFrame]:
    out = genes.parent / "leakage"
    run_leakage(shards, cells, genes, as_settings(LeakageSettings, {"run": "x"} | settings), out)
    return json.loads(out.with_suffix(".json").read_text()), pd.read_csv(out.with_suffix(".csv"))


def test_samples_are_named_by_their_tables(shards: list[Path], genes: Path, tmp_path: Path) -> None:
    (tmp_path / "samples.tsv").write_text("sample\ttumour\nS1\t0\nS2\t1\nS3\t0\n")
    tables = {"cancerscem": tmp_path / "samples.tsv"}
    found = []
    for given, table in ((shards, None), ([tmp_path / "{sample}.safetensors"], tables)):
        prepared = [path.with_suffix(".h5ad") for path in given]
        run_leakage(given, {}, genes, LeakageSettings(run="x"), tmp_path / "leakage", prepared, table)
        run_index(given, tmp_path / "index.json", samples=table)
        found.append([(tmp_path / name).read_text() for name in ("leakage.json", "leakage.md", "index.json")])
    assert found[0] == found[1]
    (tmp_path / "samples.tsv").write_text("name\nS1\n")
    with pytest.raises(UserError, match=r"samples\.tsv: expected the table that 'celllm samples' writes"):
        run_index([tmp_path / "{sample}.safetensors"], tmp_path / "index.json", samples=tables)


def test_libraries_with_the_same_barcodes_are_in_the_report(
    shards: list[Path], genes: Path, tmp_path: Path
) -> None:
    """Other counts under the barcodes of a sample: no equal cell, and the library is named all the same."""
    made = []
    for name, seed in (("task", 8), ("S1", 1)):
        data = h5ad.read(write(tmp_path / f"{name}.h5ad", counts(20, seed)))
        bases = np.random.default_rng(0).choice(list("ACGT"), (20, 16))
        data.obs_names = [f"{name}:{''.join(row)}-1" for row in bases]
        h5ad.write(data, tmp_path / f"{name}.h5ad")
        made.append(tmp_path / f"{name}.h5ad")
    run_leakage(shards, {"task": made[0]}, genes, LeakageSettings(), tmp_path / "out", prepared=made[1:])
    (found,) = json.loads((tmp_path / "out.json").read_text())["libraries"]
    assert (found["data_set"], found["sample"], found["n_barcodes"]) == ("task", "S1", 20)
    assert "| task | task | made: S1 | 20 | 100.0% |  |" in (tmp_path / "out.md").read_text()


@pytest.fixture
def task(tmp_path: Path) -> dict[str, Path]:
    """A task with three planted cells (one of them three times in pre-training), and one without."""
    leaky = counts(12, 7)
    leaky[3], leaky[4], leaky[11] = counts(10, 1)[0], counts(8, 2)[7], counts(10, 1)[9]
    clean = counts(6, 8)
    clean[1] = clean[0]
    return {
        "leaky": write(tmp_path / "leaky.h5ad", leaky, label="a"),
        "clean": write(tmp_path / "clean.h5ad", clean, label="b"),
    }


def test_planted_cells_are_found_and_no_others(shards, genes, task) -> None:
    numbers, pairs = report(shards, genes, task)
    assert tuple(pairs.columns) == COLUMNS
    assert sorted(pairs.itertuples(index=False, name=None)) == [
        ("leaky", "leaky:11", "made", "S1", 5),
        ("leaky", "leaky:11", "made", "S1", 9),
        ("leaky", "leaky:11", "made", "S2", 2),
        ("leaky", "leaky:3", "made", "S1", 0),
        ("leaky", "leaky:4", "made", "S2", 7),
    ]
    assert numbers["data_sets"] == {
        "leaky": {"n_cells": 12, "n_repeated": 0, "n_in_pretraining": 3, "n_cells_of_pretraining": 5},
        "clean": {"n_cells": 6, "n_repeated": 1, "n_in_pretraining": 0, "n_cells_of_pretraining": 0},
    }
    made = {"n_cells": 18, "n_repeated": 2}
    assert numbers["pretraining"] == {**made, "sources": {"made": made}}
    text = (genes.parent / "leakage.md").read_text()
    assert "| leaky | 12 | 0 | 3 | 5 |" in text and "kept in the corpus" in text and "## clean" not in text


def test_one_count_more_is_another_cell(shards, genes, tmp_path) -> None:
    cells = counts(10, 1)[:3]
    cells[1, np.flatnonzero(cells[1])[0]] += 1
    cells[2] *= 2
    numbers, _ = report(shards, genes, {"near": write(tmp_path / "near.h5ad", cells, label="a")})
    assert numbers["data_sets"]["near"]["n_in_pretraining"] == 1


def test_genes_that_a_file_lacks_are_zeros(shards, genes, tmp_path) -> None:
    """The same cell from a file that leaves the genes out which the cell does not express."""
    cell = counts(10, 1)[[0]]
    kept = np.flatnonzero(cell[0])
    path = write(tmp_path / "narrow.h5ad", cell[:, kept], [NAMES[i] for i in kept], label="a")
    numbers, _ = report(shards, genes, {"narrow": path})
    assert numbers["data_sets"]["narrow"]["n_in_pretraining"] == 1


def test_the_first_pairs_are_shown_the_others_counted(shards, genes, tmp_path) -> None:
    report(
        shards,
        genes,
        {"all": write(tmp_path / "all.h5ad", np.repeat(counts(10, 1)[:1], 25, axis=0), label="a")},
    )
    text = (genes.parent / "leakage.md").read_text()
    assert "## all, the first 20 of 25" in text
    assert text.count("| made: S1 | 0 |") == 20


def test_dropped_cells_are_out_of_the_corpus(shards, genes, task, tmp_path) -> None:
    report(shards, genes, task, drop=True)
    assert "left out of the corpus" in (tmp_path / "leakage.md").read_text()
    run_index(shards, tmp_path / "whole.json")
    run_index(shards, tmp_path / "index.json", exclude=tmp_path / "leakage.csv")
    whole, less = Corpus.open(tmp_path / "whole.json"), Corpus.open(tmp_path / "index.json")
    kept = np.delete(np.arange(18), [0, 5, 9, 12, 17])
    index = json.loads((tmp_path / "index.json").read_text())
    assert (index["n_cells"], index["n_dropped"], index["n_tumour"]) == (13, 5, 6)
    assert index["n_tokens"] == less.lengths.sum() == whole.lengths[kept].sum()
    assert [entry["dropped"] for entry in index["shards"]] == [[0, 5, 9], [2, 7], []]
    got, expected = less.take(np.arange(13)), whole.take(kept)
    for name in ("indptr", "gene_ids", "expression"):
        assert np.array_equal(getattr(got, name), getattr(expected, name))
    assert np.array_equal(less.tumour, whole.tumour[kept])
    assert less.samples(np.arange(13)) == ["S1"] * 7 + ["S2"] * 6


def test_an_empty_list_drops_nothing(shards, genes, task, tmp_path) -> None:
    report(shards, genes, {"clean": task["clean"]})
    run_index(shards, tmp_path / "index.json", exclude=tmp_path / "leakage.csv")
    assert Corpus.open(tmp_path / "index.json").n_cells == 18


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("source,sample,row\nmade,S9,0\n", "sample S9 of made is in none of the shards"),
        ("source,sample,row\nmade,S1,10\n", "sample S1 has 10 cells, no row 10"),
        ("source,sample\nmade,S1\n", "the column 'row' is missing"),
        ("source,sample,row\nmade,S1,first\n", "sample S1: 'first' is not a row"),
        (None, "exclude.csv: no such file"),
    ],
)
def test_a_list_that_does_not_fit_is_one_line(shards, tmp_path, content, message) -> None:
    path = tmp_path / "exclude.csv"
    if content:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        run_index(shards, tmp_path / "index.json", exclude=path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "index.json").exists()


def test_shards_of_other_genes_are_refused(shards, genes, task) -> None:
    genes.write_text(genes.read_text().replace("G39", "G99"))
    with pytest.raises(UserError, match="written with another gene list"):
        report(shards, genes, task)


def test_hashes_are_fixed() -> None:
    """When these numbers change, shards on disk are of no use any more: raise their format then."""
    found = cell_hashes(csr_matrix(np.array([[0, 2, 0.5], [0, 0, 0], [1, 0, 0]], dtype=np.float32)))
    assert found.dtype == np.uint64
    assert found.tolist() == [6236818054663250396, 13020603013274838756, 9135120358444264767]
