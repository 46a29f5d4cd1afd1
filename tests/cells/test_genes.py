import hashlib
import logging
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix, random_array

from celllm.cells.genes import SymbolMap, Vocabulary, harmonise, run_genes
from celllm.errors import UserError

HGNC = "hgnc_id\tsymbol\tlocus_group\tstatus\talias_symbol\tprev_symbol\tensembl_gene_id\n"
ROW = "HGNC:1\tA1BG\tprotein-coding gene\tApproved\t\t\tENSG1\n"


def test_the_vocabulary_holds_the_approved_coding_symbols_in_order(gene_files):
    vocabulary = gene_files.vocabulary
    assert vocabulary.symbols == (
        "ACTB", "C1orf112", "CCL3L1", "CCL3L3", "CD4", "CD8A", "CD8B", "GATA1", "MARCHF1", "MTARC1",
        "SEPTIN2",
    )  # fmt: skip
    assert vocabulary.index_of["GATA1"] == 7
    assert vocabulary.ensembl_ids[0] == "ENSG00000075624"
    assert vocabulary.sha256 == hashlib.sha256("\n".join(vocabulary.symbols).encode()).hexdigest()
    assert gene_files.genes.read_text().splitlines()[:2] == [
        "index\tsymbol\tensembl_id",
        "0\tACTB\tENSG00000075624",
    ]


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("GATA1", "GATA1"),
        ("GF1", "GATA1"),  # previous symbol
        ("NFE1", "GATA1"),  # second alias of a quoted cell
        ("OLDNAME", "CD8A"),  # previous symbol of CD8A before alias of CD4
        ("SHARED", None),  # alias of two genes
        ("TWICE", None),  # previous symbol of two genes
        ("XIST", None),  # the symbol of a non-coding gene is no alias
        ("NCALIAS", None),
        ("NCPREV", None),
        ("Actb", "ACTB"),  # an approved symbol but for its case, not the alias of CD4
        ("gata1", "GATA1"),
        ("C1ORF112", "C1orf112"),
        ("c1orf112", "C1orf112"),
        ("lower1", "CD8B"),  # as it stands
        ("LOWER1", "CCL3L3"),
        ("Lower1", None),  # two genes when case is ignored
        ("ENSG00000102145", "GATA1"),
        ("ENSG00000102145.17", "GATA1"),
        ("ENSG00000102145.17_PAR_Y", "GATA1"),
        ("ENSG00000276085", None),  # shared by two genes
        ("2-Sep", "SEPTIN2"),
        ("Sep-02", "SEPTIN2"),
        ("1-Mar", None),  # MARCH1 or MARC1
        ("5-Apr", None),
        ("GONE1", None),
        ("", None),
    ],
)
def test_what_a_name_means(gene_files, name, symbol):
    gene = gene_files.symbol_map.gene(name)
    assert (gene_files.vocabulary.symbols[gene] if gene >= 0 else None) == symbol


def test_the_table_of_aliases_names_the_kind(gene_files):
    rows = [line.split("\t") for line in gene_files.aliases.read_text().splitlines()]
    assert rows[0] == ["name", "symbol", "kind"]
    kinds = {name: (symbol, kind) for name, symbol, kind in rows[1:]}
    assert kinds["GF1"] == ("GATA1", "previous")
    assert kinds["NFE1"] == ("GATA1", "alias")
    assert kinds["ACTB"] == ("ACTB", "approved")
    assert not {"SHARED", "TWICE", "XIST", "Actb", "NCPREV"} & set(kinds)
    assert Counter(kind for _, kind in kinds.values()) == {"approved": 11, "previous": 6, "alias": 7}


def test_columns_of_one_gene_are_summed_in_the_order_of_the_vocabulary(gene_files):
    names = ["GF1", "unknown", "ACTB", "GATA1", "ENSG00000075624.3", "CD4"]
    matrix = csr_matrix(np.array([[1, 9, 2, 4, 0, 0], [0, 9, 0.5, 0, 0.25, 0]], dtype=np.float32))
    result, symbols, report = harmonise(matrix, names, gene_files.symbol_map)
    assert symbols == ["ACTB", "CD4", "GATA1"]
    np.testing.assert_array_equal(result.toarray(), [[2, 0, 5], [0.75, 0, 0]])
    assert result.dtype == np.float32
    assert result.nnz == 3
    assert (report.n_in, report.n_out, report.n_unmapped, report.n_renamed) == (6, 3, 1, 2)
    assert report.merged == ("ACTB", "GATA1")
    assert report.unmapped == ("unknown",)
    np.testing.assert_array_equal(matrix.toarray()[0], [1, 9, 2, 4, 0, 0])  # the input stays as it was


def test_summing_agrees_with_a_loop_over_columns(gene_files):
    generator = np.random.default_rng(0)
    names = generator.choice(
        ["GF1", "GATA1", "NFE1", "ACTB", "CD4", "?", "SEPT2", "SEPTIN2"], size=40
    ).tolist()
    matrix = csr_matrix(random_array((30, 40), density=0.3, rng=generator, dtype=np.float32))
    matrix.data = np.ceil(matrix.data * 20)
    result, symbols, _ = harmonise(matrix, names, gene_files.symbol_map)
    dense = matrix.toarray()
    means = {"GF1": "GATA1", "NFE1": "GATA1", "SEPT2": "SEPTIN2"}
    for column, symbol in enumerate(symbols):
        wanted = dense[:, [means.get(name, name) == symbol for name in names]].sum(axis=1)
        np.testing.assert_array_equal(result.toarray()[:, column], wanted)


def test_no_gene_in_common_is_refused(gene_files):
    with pytest.raises(
        UserError, match=r"^cells\.csv: no gene in common with the vocabulary \(names here: 'x1', 'x2'"
    ):
        harmonise(csr_matrix((1, 2), dtype=np.float32), ["x1", "x2"], gene_files.symbol_map, "cells.csv")


def test_few_genes_in_common_are_a_warning(gene_files, caplog):
    names = ["ACTB", *(f"x{i}" for i in range(30))]
    with caplog.at_level(logging.WARNING):
        harmonise(csr_matrix((1, 31), dtype=np.float32), names, gene_files.symbol_map, "cells.csv")
    assert caplog.messages[1:] == ["cells.csv: only 1 of 31 genes are in the vocabulary"]


def test_names_that_match_only_without_case_are_a_warning(gene_files, caplog):
    with caplog.at_level(logging.WARNING):
        harmonise(
            csr_matrix((1, 3), dtype=np.float32), ["Gata1", "Cd4", "ACTB"], gene_files.symbol_map, "mouse.csv"
        )
    assert (
        "most genes match only when case is ignored ('Gata1', 'Cd4', 'ACTB'): are they human?" in caplog.text
    )


def test_the_vocabulary_survives_writing_and_reading(gene_files, tmp_path):
    gene_files.vocabulary.write(tmp_path / "again.tsv")
    assert Vocabulary.read(tmp_path / "again.tsv") == gene_files.vocabulary


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("index\tsymbol\tensembl_id\n0\tA\t\n2\tB\t\n", "the column 'index' must count 0, 1, 2"),
        ("index\tsymbol\tensembl_id\n0\tA\t\n1\tA\t\n", "a symbol occurs twice"),
        ("index\tsymbol\tensembl_id\n", "the column 'index' must count 0, 1, 2"),
        ("gene\tsymbol\nx\ty\n", "the column 'index' is missing"),
    ],
)
def test_a_damaged_vocabulary_is_refused(tmp_path, content, message):
    path = tmp_path / "genes.tsv"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        Vocabulary.read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("<!DOCTYPE html><html>moved</html>", r"a web page \(HTML\) instead of the data"),
        (HGNC.replace("locus_group", "group") + ROW, "the column 'locus_group' is missing"),
        (HGNC + ROW[:20], "line 2 has 3 fields, expected 7"),
        (HGNC + ROW.replace("protein-coding gene", "pseudogene"), "no approved entry of the locus group"),
        (HGNC + ROW + ROW, "the symbol 'A1BG' is approved 2 times"),
    ],
)
def test_a_file_that_is_not_hgnc_s_table_is_refused(tmp_path, content, message):
    hgnc = tmp_path / "hgnc.txt"
    hgnc.write_text(content)
    with pytest.raises(UserError, match=message) as raised:
        run_genes(hgnc, tmp_path / "genes.tsv", tmp_path / "aliases.tsv")
    assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hgnc.txt"]


def test_a_map_without_aliases_still_knows_symbols_and_ensembl_ids(gene_files):
    symbol_map = SymbolMap(gene_files.vocabulary, ())
    assert symbol_map.genes(["GATA1", "GF1", "ENSG00000102145"]).tolist() == [7, -1, 7]


@pytest.mark.mirror
def test_the_august_2024_release(real_genes):
    kinds = Counter(line.rsplit("\t", 1)[1] for line in real_genes.aliases.read_text().splitlines()[1:])
    assert kinds == {"approved": 19283, "previous": 8679, "alias": 33182}
    assert sum(bool(ensembl) for ensembl in real_genes.vocabulary.ensembl_ids) == 19065


@pytest.mark.mirror
def test_names_of_the_zheng68k_subset(mirror: Path, real_genes):
    archive = mirror / "zheng68k_resampled" / "fresh_68k_pbmc_donor_a_filtered_gene_bc_matrices.tar.gz"
    with tarfile.open(archive) as opened:
        text = opened.extractfile("filtered_matrices_mex/hg19/genes.tsv").read().decode()
    names = [line.split("\t")[1] for line in text.splitlines()]
    _, symbols, report = harmonise(
        csr_matrix((1, len(names)), dtype=np.float32), names, real_genes.symbol_map
    )
    assert (len(names), report.n_in - report.n_unmapped, len(symbols)) == (9621, 8882, 8877)
    assert report.merged == ("EPRS1", "HNRNPU", "NAA38", "RPS17", "SRSF10")
