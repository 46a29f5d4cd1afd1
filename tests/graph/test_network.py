import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from celllm.cells.genes import SymbolMap, Vocabulary, run_genes
from celllm.errors import UserError
from celllm.graph.network import GeneNetwork, NetworkSettings, read_links, read_proteins, run_network
from celllm.settings import as_settings

VOCABULARY = Vocabulary(("A1", "B2", "C3", "D4", "NA"), ("",) * 5)
NAMES = [("OLDB", "B2", "previous"), ("A1", "A1", "approved")]
INFO = """protein_external_id\tpreferred_name\tprotein_size\tannotation
9606.P1\tA1\t1\ta "quoted note
9606.P2\tOLDB\t1\tnote
9606.P3\tC3\t1\tnote
9606.P4\tA1\t1\ta second protein of A1
9606.P5\tNA\t1\ta gene of this name
9606.P6\tENSP6\t1\tno gene
"""
LINKS = """protein1 protein2 combined_score
9606.P1 9606.P2 951
9606.P2 9606.P1 951
9606.P4 9606.P2 990
9606.P2 9606.P4 990
9606.P1 9606.P4 999
9606.P4 9606.P1 999
9606.P2 9606.P3 950
9606.P3 9606.P2 950
9606.P5 9606.P3 960
9606.P3 9606.P5 960
9606.P6 9606.P3 999
9606.P3 9606.P6 999
"""


def packed(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.fixture()
def files(tmp_path: Path) -> dict[str, Path]:
    VOCABULARY.write(tmp_path / "genes.tsv")
    rows = ["name\tsymbol\tkind", *("\t".join(row) for row in NAMES)]
    (tmp_path / "aliases.tsv").write_text("\n".join(rows) + "\n")
    return {
        "links": packed(tmp_path / "links.txt.gz", LINKS),
        "info": packed(tmp_path / "info.txt.gz", INFO),
        "aliases": tmp_path / "aliases.tsv",
        "genes": tmp_path / "genes.tsv",
        "out": tmp_path / "network.npz",
    }


def made(files: dict[str, Path], **options: object) -> GeneNetwork:
    run_network(**files, settings=as_settings(NetworkSettings, options))
    return GeneNetwork.read(files["out"], VOCABULARY.sha256)


def test_two_proteins_of_a_gene_give_one_edge_with_the_higher_score(files: dict[str, Path]) -> None:
    network = made(files)
    assert network.source.tolist() == [0, 2]
    assert network.target.tolist() == [1, 4]
    assert network.score.tolist() == [990, 960]
    assert network.source.dtype == network.target.dtype == np.int32
    assert network.n_genes == 5
    assert network.degrees().tolist() == [1, 1, 1, 0, 1]


def test_threshold_is_strict_and_an_option(files: dict[str, Path]) -> None:
    assert made(files, min_score=949).n_edges == 3
    assert made(files, min_score=950).n_edges == 2
    assert made(files, min_score=960).n_edges == 1
    with pytest.raises(UserError, match="no link with a score above 995"):
        made(files, min_score=995)
    with pytest.raises(UserError, match="min_score: expected less than 1000, got 1000"):
        as_settings(NetworkSettings, {"min_score": 1000})


def test_adjacency_is_symmetric_without_loops(files: dict[str, Path]) -> None:
    dense = made(files).adjacency().toarray()
    assert (dense == dense.T).all()
    assert not dense.diagonal().any()
    assert dense[0, 1] == pytest.approx(0.99)
    assert dense.sum() == pytest.approx(2 * (0.99 + 0.96))


def test_facts_count_what_was_read(files: dict[str, Path]) -> None:
    assert made(files).facts == {
        "min_score": 950,
        "n_links": 12,
        "n_links_above": 10,
        "n_edges": 2,
        "n_genes_with_edge": 4,
        "n_genes_without_edge": 1,
        "largest_component": 2,
        "highest_degree": 1,
    }


def test_header_of_version_12_and_plain_text(files: dict[str, Path]) -> None:
    wanted = made(files)
    files["info"].write_text(INFO.replace("protein_external_id", "#string_protein_id"))
    files["links"].write_text(LINKS)
    assert made(files).score.tolist() == wanted.score.tolist()


def test_reading_in_pieces_changes_nothing(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(files)
    monkeypatch.setattr("celllm.graph.network.ROWS_AT_ONCE", 1)
    pieces = made(files)
    assert pieces.facts == whole.facts
    assert (pieces.source == whole.source).all()
    assert (pieces.score == whole.score).all()


def test_the_file_is_the_same_every_time(files: dict[str, Path]) -> None:
    made(files)
    first = files["out"].read_bytes()
    made(files)
    assert files["out"].read_bytes() == first


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("links", "<!DOCTYPE html>\n<html>\n", "expected the columns protein1, protein2, combined_score"),
        ("links", "protein1 protein2\n1 2\n", "expected the columns"),
        ("links", "protein1 protein2 combined_score\n", "nothing after its first line"),
        ("links", "protein1 protein2 combined_score\n9606.P1 9606.P2 0.9\n", "whole number"),
        ("links", "protein1 protein2 combined_score\n9606.P1 9606.P2\n", "not a table of STRING"),
        ("links", "protein1 protein2 combined_score\n9606.P1 9606.P2 5000\n", "whole number"),
        ("links", "protein1 protein2 combined_score\na b c d e f\n", "not a table of STRING|whole number"),
        ("info", "<html>", "expected the columns protein_external_id, preferred_name"),
        ("info", "protein_external_id\tpreferred_name\n1\tZZZ\n", "no gene in common .*'ZZZ'"),
    ],
)
def test_bad_files_are_one_line_and_leave_nothing(
    files: dict[str, Path], name: str, content: str, message: str
) -> None:
    packed(files[name], content)
    with pytest.raises(UserError, match=message) as caught:
        made(files)
    assert str(files[name]) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not files["out"].exists()
    assert sorted(p.name for p in files["out"].parent.iterdir()) == sorted(
        files[key].name for key in ("links", "info", "aliases", "genes")
    )


@pytest.mark.parametrize("name", ["links", "info"])
def test_truncated_file(files: dict[str, Path], name: str) -> None:
    noise = {"links": "9606.P7 9606.P%d 300\n", "info": "9606.Q%d\tX%d\t1\tnote\n"}[name]
    text = {"links": LINKS, "info": INFO}[name]
    lines = [noise.replace("%d", os.urandom(4).hex()) for _ in range(5000)]
    whole = packed(files[name], text + "".join(lines)).read_bytes()
    files[name].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="truncated or damaged") as caught:
        made(files)
    assert str(files[name]) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_of_another_vocabulary_or_no_network_is_refused(files: dict[str, Path]) -> None:
    made(files)
    with pytest.raises(UserError, match="another gene vocabulary"):
        GeneNetwork.read(files["out"], "0" * 64)
    with pytest.raises(UserError, match="not a gene network"):
        GeneNetwork.read(files["genes"], VOCABULARY.sha256)
    with pytest.raises(UserError, match="no such file"):
        GeneNetwork.read(files["out"].with_name("none.npz"), VOCABULARY.sha256)


def test_missing_proteins_and_links(files: dict[str, Path]) -> None:
    proteins = read_proteins(files["info"], SymbolMap.read(files["aliases"], VOCABULARY))
    assert proteins == {"9606.P1": 0, "9606.P2": 1, "9606.P3": 2, "9606.P4": 0, "9606.P5": 4}
    del proteins["9606.P2"]
    network = read_links(files["links"], proteins, 5, VOCABULARY.sha256, 950)
    assert list(zip(network.source, network.target, strict=True)) == [(2, 4)]


@pytest.mark.mirror
def test_real_links(mirror: Path, tmp_path: Path) -> None:
    """STRING's 50,674 links of 964 and more, on the genes that HGNC knows; the weak links are no edges."""
    genes, aliases, out = (tmp_path / name for name in ("genes.tsv", "aliases.tsv", "network.npz"))
    run_genes(mirror / "hgnc/hgnc_complete_set_2024-08-01.txt", genes, aliases)
    links, info = (mirror / f"string/9606.protein.{part}.v11.0.txt.gz" for part in ("links", "info"))
    run_network(links, info, aliases, genes, NetworkSettings(), out)
    network = GeneNetwork.read(out, Vocabulary.read(genes).sha256)
    assert network.facts["n_links"] == 221_348
    assert network.facts["n_links_above"] == 2 * 50_674
    assert network.n_genes == 19_283
    assert network.n_edges == 49_849
    assert network.facts["n_genes_with_edge"] == 8_340
    assert network.score.min() >= 964
    assert (network.source < network.target).all()
    assert len(set(zip(network.source.tolist(), network.target.tolist(), strict=True))) == network.n_edges
