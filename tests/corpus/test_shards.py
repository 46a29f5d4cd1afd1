import json
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from scipy.sparse import csr_matrix, random

from celllm.cells import h5ad as prepared_files
from celllm.cells.check import PROVENANCE
from celllm.corpus.expressed import CellsInMemory, concatenate, from_csr
from celllm.corpus.shards import Corpus, Shard, run_index, run_shard, write_shard
from celllm.errors import UserError
from celllm.io import sha256

GENES = "a" * 64
SIZES = (7, 0, 12, 1)
PROVENANCE_OF_TEST = {**dict.fromkeys(PROVENANCE, 0), "source": "cancerscem", "values": "counts"}


def cells(n: int, seed: int) -> CellsInMemory:
    counts = random(n, 30, 0.5, format="csr", random_state=seed) if n else csr_matrix((0, 30))
    return from_csr(counts, np.arange(30))


def flags(n: int) -> np.ndarray:
    return np.arange(n) % 3 == 0


def hashes(n: int, seed: int) -> np.ndarray:
    return 1000 * seed + np.arange(n, dtype=np.uint64)


def write(folder: Path, i: int, n: int, genes: str = GENES, sample: str | None = None) -> Path:
    path = folder / f"shard{i}.safetensors"
    names = {"source": "panglaodb", "sample": sample or f"S{i}"}
    write_shard(path, cells(n, i), flags(n), hashes(n, i), n_genes=30, genes_sha256=genes, **names)
    return path


@pytest.fixture
def index(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus" / "panglaodb"
    run_index([write(folder, i, n) for i, n in enumerate(SIZES)], tmp_path / "corpus" / "index.json")
    return tmp_path / "corpus" / "index.json"


def test_a_corpus_is_its_cells_in_one_row(index: Path) -> None:
    corpus = Corpus.open(index, GENES)
    whole = CellsInMemory(concatenate([cells(n, i).ragged for i, n in enumerate(SIZES)]))
    assert corpus.n_cells == 20
    assert np.array_equal(corpus.lengths, whole.lengths)
    assert np.array_equal(corpus.tumour, np.concatenate([flags(n) for n in SIZES]))
    for rows in (np.arange(20), [19, 0, 6, 7, 7, 18], np.random.default_rng(0).permutation(20), []):
        got, expected = corpus.take(rows), whole.take(rows)
        for name in ("indptr", "gene_ids", "expression"):
            assert np.array_equal(getattr(got, name), getattr(expected, name))
            assert getattr(got, name).dtype == getattr(expected, name).dtype
    assert corpus.samples([0, 6, 7, 18, 19]) == ["S0", "S0", "S2", "S2", "S3"]


def test_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    """As 2,000 samples where `ulimit -n` is 1,024."""
    run_index([write(tmp_path, i, 1) for i in range(150)], tmp_path / "index.json")
    code = (
        "import resource, sys; from celllm.corpus.shards import Corpus;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40));"
        "corpus = Corpus.open(*sys.argv[1:]); print(len(corpus.take(range(corpus.n_cells)).indptr))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "index.json"), GENES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["151"], done.stderr


def test_the_index_counts_and_is_free_of_places(index: Path) -> None:
    content = json.loads(index.read_text())
    assert (content["n_cells"], content["n_tumour"]) == (20, sum(flags(n).sum() for n in SIZES))
    assert content["n_tokens"] == sum(cells(n, i).lengths.sum() for i, n in enumerate(SIZES))
    first = content["shards"][0]
    assert first["path"] == "panglaodb/shard0.safetensors"
    assert first["sha256"] == sha256(index.parent / first["path"])
    moved = index.parent.rename(index.parent.with_name("moved"))
    assert Corpus.open(moved / "index.json").n_cells == 20


def test_another_gene_list_is_refused(index: Path) -> None:
    with pytest.raises(UserError, match="written with another gene list"):
        Corpus.open(index, "b" * 64)
    write(index.parent / "panglaodb", 2, 12, genes="b" * 64)
    with pytest.raises(UserError, match="another gene list than the index"):
        Corpus.open(index, GENES)


def test_damage_is_told_in_one_line(index: Path, tmp_path: Path) -> None:
    shard = index.parent / "panglaodb" / "shard2.safetensors"
    content = shard.read_bytes()

    def refused(message: str) -> None:
        with pytest.raises(UserError, match=message) as caught:
            Corpus.open(index)
        assert "\n" not in str(caught.value)

    shard.write_bytes(content[:-3])
    refused("damaged, or not a safetensors file")
    shard.write_bytes(b"")
    refused("damaged, or not a safetensors file")
    shard.write_text("<html>404</html>")
    refused("damaged, or not a safetensors file")
    save_file({"x": np.zeros(2)}, shard)
    refused("not a shard")
    shard.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    refused("shard2.safetensors: damaged or changed since the index was written")
    write(index.parent / "panglaodb", 2, 11)
    refused("not the shard that the index describes")
    shard.unlink()
    refused("no such file")
    index.write_text("{}")
    refused("not a corpus index")


def test_shards_that_do_not_fit_make_no_index(tmp_path: Path) -> None:
    out = tmp_path / "index.json"
    for shards, message in (
        ([write(tmp_path, 0, 3), write(tmp_path, 1, 3, genes="b" * 64)], "different gene lists"),
        (
            [write(tmp_path, 2, 3), write(tmp_path, 3, 3, sample="S2")],
            "sample S2 of panglaodb is in 2 shards",
        ),
        ([write(tmp_path, 4, 0)], "none of the 1 shards holds a cell"),
        ([], "no shard to make a corpus of"),
    ):
        with pytest.raises(UserError, match=message):
            run_index(shards, out)
        assert not out.exists()


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    rows = ["index\tsymbol\tensembl_id", *(f"{i}\tG{i:02}\t" for i in range(30))]
    (tmp_path / "genes.tsv").write_text("\n".join(rows) + "\n")
    counts = random(9, 20, 0.5, format="csr", random_state=3, dtype=np.float32)
    counts.data = np.ceil(counts.data * 20)
    obs = pd.DataFrame({"sample": "S9", "tumour": flags(9)}, index=[f"S9:{i}" for i in range(9)])
    data = anndata.AnnData(counts, obs=obs, uns={"celllm": PROVENANCE_OF_TEST})
    data.var_names = [f"G{i:02}" for i in range(5, 25)]
    prepared_files.write(data, tmp_path / "S9.h5ad")
    return tmp_path


def test_a_prepared_sample_becomes_a_shard(prepared: Path) -> None:
    run_shard(prepared / "S9.h5ad", prepared / "genes.tsv", prepared / "S9.safetensors")
    shard = Shard(prepared / "S9.safetensors")
    counts = anndata.read_h5ad(prepared / "S9.h5ad").X
    expected = from_csr(counts, np.arange(5, 25)).ragged
    assert np.array_equal(shard.gene_ids, expected.gene_ids)
    assert np.array_equal(shard.expression, expected.expression)
    assert np.array_equal(shard.tumour, flags(9))
    assert (shard.metadata["source"], shard.metadata["sample"], shard.metadata["n_genes"]) == (
        "cancerscem",
        "S9",
        30,
    )


def test_shards_do_not_load_pytorch(prepared: Path) -> None:
    files = ", ".join(repr(str(prepared / name)) for name in ("S9.h5ad", "genes.tsv", "S9.safetensors"))
    code = f"from celllm.corpus.shards import run_shard; run_shard({files})"
    code = f"import sys; {code}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_sample_of_no_cell_is_legal(prepared: Path) -> None:
    data = anndata.read_h5ad(prepared / "S9.h5ad")[:0].copy()
    prepared_files.write(data, prepared / "none.h5ad")
    run_shard(prepared / "none.h5ad", prepared / "genes.tsv", prepared / "none.safetensors")
    assert len(Shard(prepared / "none.safetensors").tumour) == 0


def test_a_sample_without_tumour_flags_is_refused(prepared: Path) -> None:
    data = anndata.read_h5ad(prepared / "S9.h5ad")
    del data.obs["tumour"]
    prepared_files.write(data, prepared / "S9.h5ad")
    with pytest.raises(UserError, match="obs has no column 'tumour'"):
        run_shard(prepared / "S9.h5ad", prepared / "genes.tsv", prepared / "S9.safetensors")
    assert not (prepared / "S9.safetensors").exists()


def test_a_damaged_sample_is_refused(prepared: Path) -> None:
    place = prepared / "S9.h5ad"
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(content)
    with pytest.raises(UserError, match="damaged or changed"):
        run_shard(place, prepared / "genes.tsv", prepared / "S9.safetensors")
