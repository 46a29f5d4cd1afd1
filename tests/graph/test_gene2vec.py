"""A user's file of Gene2vec's vectors, in all the forms that it comes in, and in none."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from celllm.cells.genes import Vocabulary
from celllm.errors import UserError
from celllm.graph.embeddings import digest_of, load_gene_embeddings
from celllm.graph.gene2vec import run_gene2vec

LINES = ["TP53\t0.5\t-1e-3\t2", "OLDA\t9\t9\t9", "A1\t1\t2\t3", "NOGENE\t4\t5\t6"]


def made(folder: Path, content: bytes, dim: int = 3) -> np.ndarray:
    vocabulary = Vocabulary(("A1", "B2", "TP53"), ("",) * 3)
    vocabulary.write(folder / "genes.tsv")
    (folder / "aliases.tsv").write_text("name\tsymbol\tkind\nOLDA\tA1\tprevious\nOLDB\tB2\tprevious\n")
    (folder / "gene2vec.txt").write_bytes(content)
    out = folder / "out.safetensors"
    names = ("gene2vec.txt", "genes.tsv", "aliases.tsv")
    run_gene2vec(*(folder / name for name in names), dim, out, folder / "out.sha256")
    table = load_gene_embeddings(out, vocabulary.sha256)
    assert (folder / "out.sha256").read_text() == f"{digest_of(table)}\n"
    return table.numpy()


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(LINES),
        "4 3\n" + "\n".join(LINES) + "\n",
        "\n".join(line.replace("\t", " ") + " " for line in LINES),
        "\n".join(line.replace("\t", "\t", 1).replace("\t", " ") for line in LINES[::-1]) + "\r\n\n",
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_vectors_come_to_their_genes(tmp_path: Path, text: str, packed: bool) -> None:
    """Another name of a gene counts where the approved symbol is not there; without a vector, zeros."""
    content = gzip.compress(text.encode()) if packed else text.encode()
    assert made(tmp_path, content).tolist() == [[1, 2, 3], [0, 0, 0], np.float32([0.5, -1e-3, 2]).tolist()]
    renamed = made(tmp_path, text.replace("A1", "OLDB").encode())
    assert renamed[:2].tolist() == [[9, 9, 9], [1, 2, 3]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no vector"),
        (b"TP53 1 2\n", "line 1: TP53 has 2 numbers, expected 3"),
        (b"TP53 1 2 3\nA1 1 2 3 4\n", "line 2: A1 has 4 numbers, expected 3"),
        (b"TP53 1 x 3\n", "line 1: could not convert string to float"),
        (b"TP53 1 nan 3\n", "line 1: TP53 has a value that is not a finite number"),
        (
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'shape': (16906, 200), }\n" + bytes(range(256)),
            "is a NumPy array .*; a text is expected",
        ),
        (b"X 1 2 3\nY 1 2 3\n", "none of its 2 names is a gene of the vocabulary"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        made(tmp_path, content)
    assert "gene2vec.txt" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.safetensors").exists()
