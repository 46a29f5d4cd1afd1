import gzip
import hashlib
import io
import itertools
import re
import tarfile
import time
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
import rdata
from scipy import io as scipy_io
from scipy import sparse

from celllm.cells import h5ad
from celllm.cells.genes import run_genes
from celllm.cells.prepare import run_prepare
from celllm.corpus.splits import read_splits, rows_of
from celllm.errors import UserError
from celllm.tasks.score import run_splits
from celllm.toy import run_toy_mirror, toy_files, write_toy_mirror
from celllm.toy.baron import CLASSES
from celllm.toy.biology import build_biology, stream
from celllm.toy.cancerscem import SAMPLES as CANCER_SAMPLES
from celllm.toy.drugs import DRUGS
from celllm.toy.packing import ToyFile
from celllm.toy.panglaodb import SAMPLES as PANGLAO_SAMPLES
from celllm.toy.reference import string_network
from celllm.toy.symbols import ALIASES, FORMER, NON_CODING, OLD_NAME, PROGRAMMES
from celllm.toy.zheng68k import recover_counts


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A toy mirror and the processor seconds it took."""
    folder = tmp_path_factory.mktemp("toy") / "mirror"
    start = time.process_time()
    write_toy_mirror(folder)
    return folder, time.process_time() - start


@pytest.fixture(scope="module")
def toy(written: tuple[Path, float]) -> Path:
    return written[0]


@pytest.fixture
def one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror of one file, for what is done with the folder."""
    file = ToyFile("a/b.txt", b"x", "made up", "nothing")
    monkeypatch.setattr("celllm.toy.toy_files", lambda seed: [file])


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- the whole ---------------------------------------------------------------------------------------------


def test_small_and_quick(written: tuple[Path, float]) -> None:
    folder, seconds = written
    assert seconds < 20
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 8e6


def test_same_seed_same_bytes(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 2e9)
    write_toy_mirror(tmp_path / "again")
    assert digests(tmp_path / "again") == digests(toy)


def test_another_seed_keeps_the_files_and_the_real_cells(toy: Path) -> None:
    first = {str(path): digest for path, digest in digests(toy).items()}
    second = {file.path: hashlib.sha256(file.content).hexdigest() for file in toy_files(1)}
    assert second.keys() | {"README.md", "MANIFEST.tsv", "SHA256SUMS"} == first.keys()
    same = {path for path in second if second[path] == first[path]}
    assert {path.split("/")[0] for path in same} >= {"zheng68k", "hgnc"}
    assert not {path for path in same if "RData" in path or "counts" in path or path.startswith("baron")}


def test_sums_and_manifest_cover_everything(toy: Path) -> None:
    sums = dict(reversed(line.split("  ")) for line in (toy / "SHA256SUMS").read_text().splitlines())
    found = digests(toy)
    assert sums == {path: digest for path, digest in found.items() if path != "SHA256SUMS"}
    manifest = pd.read_csv(toy / "MANIFEST.tsv", sep="\t")
    assert list(manifest.columns) == ["path", "bytes", "sha256", "kind", "stands_for"]
    assert set(manifest["path"]) == found.keys() - {"SHA256SUMS", "MANIFEST.tsv", "README.md"}
    assert manifest["bytes"].tolist() == [(toy / path).stat().st_size for path in manifest["path"]]
    assert set(manifest["path"].str.split("/").str[0]) == {
        *("hgnc", "string", "panglaodb", "cancerscem", "zheng68k", "baron", "gse149383", "gse117872", "ccle"),
        "gdsc",
    }


@pytest.mark.usefixtures("one_file")
def test_replaces_a_toy_mirror_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m").mkdir()
    run_toy_mirror(tmp_path / "m", seed=3)
    assert re.search(r"toy mirror, seed 3, 4 files, 0\.0 MB", capsys.readouterr().out)
    (tmp_path / "m" / "a" / "stale.txt").write_text("x")
    run_toy_mirror(tmp_path / "m", seed=3)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"m/a/b.txt", "m/README.md", "m/MANIFEST.tsv", "m/SHA256SUMS"}


def test_leaves_other_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Mirror: small files in the layout of the original downloads\n")
    with pytest.raises(UserError, match="exists and is not a toy mirror"):
        write_toy_mirror(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="exists and is not a toy mirror"):
        write_toy_mirror(tmp_path / "file")


@pytest.mark.usefixtures("one_file")
def test_a_failure_leaves_the_old_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_toy_mirror(tmp_path / "m", seed=3)
    before = digests(tmp_path)

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="disk full"):
        write_toy_mirror(tmp_path / "m", seed=4)
    assert digests(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


# --- genes and network -------------------------------------------------------------------------------------


def hgnc(folder: Path) -> pd.DataFrame:
    path = folder / "hgnc" / "hgnc_complete_set_2024-08-01.txt"
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def test_gene_list(toy: Path) -> None:
    genes = hgnc(toy)
    assert genes.shape == (1383 + len(NON_CODING), 54) and genes["symbol"].is_unique
    assert genes["symbol"].is_monotonic_increasing
    assert (genes["locus_group"] == "protein-coding gene").sum() == 1383
    row = genes.set_index("symbol").loc["SEPTIN9"]
    assert row["prev_symbol"] == "SEPT9|MSF" and row["ensembl_gene_id"].startswith("ENSG0000090")
    assert '\t"SEPT9|MSF"\t' in (toy / "hgnc" / "hgnc_complete_set_2024-08-01.txt").read_text()


def test_gene_names_have_their_traps(toy: Path) -> None:
    symbols = set(hgnc(toy)["symbol"])
    aliases = Counter(itertools.chain(*ALIASES.values()))
    former = set(itertools.chain(*FORMER.values()))
    assert {name for name, n in aliases.items() if n > 1} == {"NAP1", "COX2", "MSF"}
    assert aliases.keys() & symbols == {"MIF", "IMP3"} and former & symbols == {"MCM2", "LGALS2"}
    assert aliases.keys() & former == {"MSF"}
    assert ALIASES.keys() | FORMER.keys() <= symbols


def test_every_symbol_is_a_gene_of_the_real_list(mirror: Path) -> None:
    real = hgnc(mirror).set_index("symbol")
    real = real[real["locus_group"] == "protein-coding gene"]
    assert set(build_biology(0).symbols) <= set(real.index)
    assert not set(NON_CODING) & set(real.index)
    for column, names in (("prev_symbol", FORMER), ("alias_symbol", ALIASES)):
        for symbol, listed in names.items():
            assert set(listed) <= set(real.loc[symbol, column].split("|")), symbol


def test_header_of_the_gene_list_is_the_real_one(toy: Path, mirror: Path) -> None:
    assert list(hgnc(toy).columns) == list(hgnc(mirror).columns)


def test_network_files(toy: Path) -> None:
    links = pd.read_csv(toy / "string" / "9606.protein.links.v11.0.txt.gz", sep=" ")
    info = pd.read_csv(toy / "string" / "9606.protein.info.v11.0.txt.gz", sep="\t")
    pairs = links.set_index(["protein1", "protein2"])["combined_score"]
    assert pairs.index.is_unique and pairs.to_dict() == pairs.swaplevel().to_dict()
    assert set(links["protein1"]) <= set(info["protein_external_id"])
    assert (
        links["combined_score"].between(150, 999).all()
        and not links["combined_score"].between(401, 699).any()
    )
    assert set(info["preferred_name"]) & set(OLD_NAME.values())
    assert info["preferred_name"].str.startswith("ENSP").sum() == 5


def test_network_follows_the_programmes() -> None:
    biology = build_biology(0)
    sure = [pair for pair, score in string_network(biology, stream(0, "string")).items() if score > 950]
    inside = sum(any(biology.loadings[:, list(pair)].all(axis=1)) for pair in sure)
    assert 0.9 < inside / len(sure) < 1.0
    degree = np.bincount(np.array(sure).ravel(), minlength=len(biology.symbols))
    alone = ~biology.loadings.any(axis=0)
    assert 100 < alone.sum() < 200 and degree[alone].max() == 0
    assert np.median(degree[~alone]) >= 5


# --- PanglaoDB and CancerSCEM ------------------------------------------------------------------------------


def workspace(path: Path) -> tuple[sparse.csc_matrix, list[str], list[str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        objects = rdata.read_rda(path)
    assert list(objects) == ["sm"]
    found = objects["sm"]
    assert getattr(found, "class").tolist() == ["dgCMatrix"]
    matrix = sparse.csc_matrix((found.x, found.i, found.p), shape=tuple(found.Dim))
    matrix.check_format(full_check=True)
    return matrix, *(list(map(str, names)) for names in found.Dimnames)


@pytest.mark.parametrize("sample", PANGLAO_SAMPLES, ids=lambda sample: sample.name)
def test_panglaodb_sample(toy: Path, sample) -> None:
    matrix, genes, barcodes = workspace(toy / "panglaodb" / f"{sample.name}.sparse.RData")
    text = (toy / "panglaodb/data/sample_clusters" / f"{sample.name}.seurat_clusters.txt").read_text()
    clusters = dict(line.split(" ") for line in text.splitlines())
    assert len(clusters) == sample.n_cells and set(clusters) < set(barcodes)
    assert matrix.shape == (len(genes), sample.n_cells + sample.n_cells // 5)
    assert 0.15 < np.mean(matrix.data % 1 > 0) < 0.25 and matrix.data.min() > 0
    assert all(re.fullmatch(r".+_ENSG\d{11}\.\d+(_PAR_Y)?", gene) for gene in genes)
    assert sum(gene.startswith("Y_RNA_") for gene in genes) == 2
    is_cell = np.array([barcode in clusters for barcode in barcodes])
    genes_per_barcode = np.diff(matrix.indptr)
    assert genes_per_barcode[~is_cell].max() < 200 < np.median(genes_per_barcode[is_cell])


def test_panglaodb_workspace_has_the_structure_of_a_real_one(toy: Path, mirror: Path) -> None:
    name = "SRA900001_SRS9000001.sparse.RData"
    ours = rdata.parser.parse_file(toy / "panglaodb" / name)
    real = rdata.parser.parse_file(mirror / "panglaodb" / "SRA705190_SRS4139632.sparse.RData")

    def skeleton(obj, depth: int = 0):
        info = obj.info
        head = (info.type, info.object, info.attributes, info.tag, info.gp)
        tag = obj.tag.value.value if obj.tag and obj.tag.value else None
        if info.type.name in ("VEC", "LIST"):
            inner = [skeleton(item) for item in obj.value]
        else:
            inner = skeleton(obj.value[0]) if info.type.name == "STR" else None
        return head, tag, inner, skeleton(obj.attributes) if obj.attributes else None

    assert skeleton(ours.object) == skeleton(real.object)
    assert (ours.versions.format, ours.extra.encoding) == (real.versions.format, real.extra.encoding)


def test_panglaodb_tables(toy: Path) -> None:
    text = (toy / "panglaodb/data/metadata.txt").read_text()
    assert r",\N," in text and "r'\\N'" not in text
    names = [
        "sra",
        "srs",
        "tissue",
        "protocol",
        "species",
        "i",
        "genes",
        "median",
        "clusters",
        "tumour",
        "a",
        "c",
    ]
    table = pd.read_csv(io.StringIO(text), names=names, dtype=str, na_values=r"\N", keep_default_na=False)
    human = table[table["species"] == "Homo sapiens"]
    assert human["tumour"].tolist()[:4] == ["0", "0", "0", np.nan] and human["tumour"].iloc[4] == "1"
    assert "notused" in set(table["srs"]) and "Mus musculus" in set(table["species"])
    sizes = pd.read_csv(toy / "panglaodb/data/clusters_to_number_of_cells.txt", header=None)
    assert sizes.groupby([0, 1])[3].sum().tolist() == [sample.n_cells for sample in PANGLAO_SAMPLES]
    assert sizes.groupby([0, 1])[3].apply(lambda n: n.is_monotonic_decreasing).all()


@pytest.mark.parametrize("sample", CANCER_SAMPLES, ids=lambda sample: sample.name)
def test_cancerscem_sample(toy: Path, sample) -> None:
    text = gzip.decompress((toy / "cancerscem" / f"{sample.name}.counts.matrix.tsv.gz").read_bytes()).decode()
    header, first = (line.split("\t") for line in text.splitlines()[:2])
    assert len(first) - len(header) == (1 if sample.short_header else 0)
    table = pd.read_csv(io.StringIO(text), sep="\t", index_col=None if sample.short_header else 0)
    assert table.shape == (1383, sample.n_cells) and all(table.dtypes == np.int64)
    kinds = pd.read_csv(toy / "cancerscem/cell_annotation" / f"{sample.name}.cell.type.txt", sep="\t")
    assert list(kinds["barcode"].str.replace(".", "-")) == list(table.columns)
    malignant = (kinds["cell_type"] == "Malignant cells").mean()
    assert malignant == pytest.approx(sample.malignant_share, abs=0.01)


def test_cancerscem_sample_table(toy: Path, mirror: Path) -> None:
    def sheet(folder: Path) -> list[tuple]:
        book = openpyxl.load_workbook(folder / "cancerscem" / "CancerSCEM.metadata.xlsx")
        return list(book.active.iter_rows(values_only=True))

    rows = sheet(toy)
    assert rows[0] == sheet(mirror)[0]
    assert [row[2] for row in rows[1:]] == ["Tumour", "Normal", "Tumour", "Tumour"]


def test_workbook_has_no_clock(toy: Path) -> None:
    with zipfile.ZipFile(toy / "cancerscem" / "CancerSCEM.metadata.xlsx") as book:
        assert {member.date_time for member in book.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        core = book.read("docProps/core.xml").decode()
    assert core.count("1980-01-01T00:00:00Z") == 2 and not re.search(r"20\d\d-", core)


def test_pretraining_cells(toy: Path) -> None:
    assert sum(sample.n_cells for sample in PANGLAO_SAMPLES) == 1040
    assert sum(sample.n_cells for sample in CANCER_SAMPLES) == 1000
    assert len(list((toy / "panglaodb").glob("*.sparse.RData"))) == len(PANGLAO_SAMPLES) + 1


# --- annotation --------------------------------------------------------------------------------------------


def zheng(folder: Path) -> tuple[sparse.csr_matrix, list[str], pd.DataFrame]:
    archive = folder / "zheng68k" / "fresh_68k_pbmc_donor_a_filtered_gene_bc_matrices.tar.gz"
    with tarfile.open(archive) as members:
        name = "filtered_matrices_mex/hg19/{}"
        matrix = scipy_io.mmread(io.BytesIO(members.extractfile(name.format("matrix.mtx")).read()))
        genes = members.extractfile(name.format("genes.tsv")).read().decode().splitlines()
        barcodes = members.extractfile(name.format("barcodes.tsv")).read().decode().splitlines()
    labels = pd.read_csv(folder / "zheng68k" / "68k_pbmc_barcodes_annotation.tsv", sep="\t")
    assert barcodes == labels["barcodes"].tolist()
    return sparse.csr_matrix(matrix.T), [line.split("\t")[1] for line in genes], labels


def test_zheng68k_are_measured_counts(toy: Path) -> None:
    counts, genes, labels = zheng(toy)
    assert counts.shape == (700, 765) and counts.nnz == 174_400
    assert counts.data.min() == 1 and np.all(counts.data == counts.data.astype(int))
    assert labels["celltype"].value_counts().to_dict() == {
        "Dendritic": 240,
        "CD14+ Monocyte": 129,
        "CD19+ B": 95,
        "CD4+/CD25 T Reg": 68,
        "CD8+ Cytotoxic T": 54,
        "CD8+/CD45RA+ Naive Cytotoxic": 43,
        "CD56+ NK": 31,
        "CD4+/CD45RO+ Memory": 19,
        "CD34+": 13,
        "CD4+/CD45RA+/CD25- Naive T": 8,
    }
    b_cells = labels["celltype"] == "CD19+ B"
    cd79a = counts[:, genes.index("CD79A")].toarray().ravel()
    assert cd79a[b_cells].mean() > 20 * cd79a[~b_cells & (labels["celltype"] != "CD34+")].mean()


def test_zheng68k_equals_an_independent_recovery(toy: Path, mirror: Path) -> None:
    (counts, genes, labels), (other, other_genes, other_labels) = zheng(toy), zheng(mirror)
    order = [other_labels["barcodes"].tolist().index(barcode) for barcode in labels["barcodes"]]
    place = [other_genes.index(gene) for gene in genes]
    assert (counts != other[order][:, place]).nnz == 0
    assert labels["celltype"].tolist() == other_labels["celltype"].iloc[order].tolist()


def test_recovery_finds_counts_and_refuses_other_values() -> None:
    counts = np.array([[3, 0, 1], [0, 259, 2]])
    totals = np.array([400.0, 3000.0])
    logged = np.log1p(counts * (1e4 / totals)[:, None])
    assert np.array_equal(recover_counts(sparse.csr_matrix(logged), totals).toarray(), counts)
    with pytest.raises(ValueError, match=r"0\.\d\d from a whole number"):
        recover_counts(sparse.csr_matrix(logged), totals * 1.1)


def test_baron(toy: Path) -> None:
    with tarfile.open(toy / "baron" / "GSE84133_RAW.tar") as archive:
        names = archive.getnames()
        members = {
            name: pd.read_csv(io.BytesIO(gzip.decompress(archive.extractfile(name).read())), index_col=0)
            for name in names
        }
    assert [name.split("_")[1] for name in names] == [
        "human1",
        "human2",
        "human3",
        "human4",
        "mouse1",
        "mouse2",
    ]
    human = [table for name, table in members.items() if "human" in name]
    assert all(list(table.columns) == list(human[0].columns) for table in human)
    assert list(human[0].columns[:2]) == ["barcode", "assigned_cluster"]
    cells = pd.concat(human)
    assert cells.index.is_unique and re.fullmatch(r"human1_lib1\.final_cell_\d{4}", cells.index[0])
    assert cells["assigned_cluster"].value_counts().to_dict() == {
        **{label: n for label, (_, n) in CLASSES.items()},
        "t_cell": 2,
    }
    assert {"PKM", "PKM2", "SEPT7", "CDC10"} <= set(cells.columns)
    assert cells.iloc[:, 2:].dtypes.eq(np.int64).all()
    assert cells.loc[cells["assigned_cluster"] == "beta", "INS"].mean() > 5 * cells["INS"].mean() / 3


# --- drugs -------------------------------------------------------------------------------------------------


def test_erlotinib(toy: Path) -> None:
    counts = pd.read_csv(toy / "gse149383" / "erl_total_data_2K.csv", index_col=0)
    meta = pd.read_csv(toy / "gse149383" / "erl_total_2K_meta.csv", header=None)
    assert counts.shape == (1383, 240) and list(counts.columns) == meta[0].tolist()
    assert counts.sum().tolist() == meta[2].tolist()
    assert meta.groupby(3, sort=False)[2].apply(lambda n: n.is_monotonic_decreasing).all()
    assert meta[3].value_counts().to_dict() == {"sensitive": 130, "resistant": 110}
    assert (meta[1] == np.where(meta[3] == "sensitive", "erl", "erlres")).all()


def test_cisplatin(toy: Path) -> None:
    text = gzip.decompress((toy / "gse117872" / "GSE117872_good_Data_TPM.txt.gz").read_bytes()).decode()
    header, first = (line.split("\t") for line in text.splitlines()[:2])
    assert len(first) == len(header) + 1
    tpm = pd.read_csv(io.StringIO(text), sep="\t")
    assert tpm.shape == (1383, 240)
    np.testing.assert_allclose(tpm.sum(), 1e6, rtol=1e-5)
    text = gzip.decompress((toy / "gse117872" / "GSE117872_good_Data_cellinfo.txt.gz").read_bytes()).decode()
    assert text.splitlines()[0].endswith("\tpagoda_clusters\t")
    info = pd.read_csv(io.StringIO(text), sep="\t")
    assert info["groups"].tolist() == list(tpm.columns)
    states = Counter(zip(info["origin"], info["cluster"], strict=True))
    assert {state for _, state in states} == {"Sensitive", "Resistant", "Holiday"}
    assert [state for patient, state in states if patient == "HN148"] == ["Sensitive"]
    assert Counter(info["cluster"]) == {"Sensitive": 124, "Resistant": 90, "Holiday": 26}


def test_lines_and_expression(toy: Path) -> None:
    expression = pd.read_csv(toy / "ccle" / "CCLE_expression.csv", index_col=0)
    lines = pd.read_csv(toy / "ccle" / "sample_info.csv")
    assert expression.shape == (60, 1383) and lines["DepMap_ID"].is_unique
    assert set(expression.index) < set(lines["DepMap_ID"]) and len(lines) == 66
    assert all(re.fullmatch(r"\S+ \(\d+\)", column) for column in expression.columns)
    assert expression.to_numpy().min() == 0 and 8 < expression.to_numpy().max() < 18


def test_drug_screen(toy: Path) -> None:
    data = toy / "gdsc" / "deepcdr" / "data"
    matrix = pd.read_csv(data / "CCLE" / "GDSC_IC50.csv", index_col=0)
    drugs = pd.read_csv(data / "GDSC" / "1.Drug_listMon Jun 24 09_00_55 2019.csv")
    smiles = pd.read_csv(data / "223drugs_pubchem_smiles.txt", sep="\t", header=None, dtype=str)
    assert matrix.shape == (25, 66) and 0.05 < matrix.isna().mean().mean() < 0.2
    assert set(matrix.index) == {f"GDSC:{number}" for number in drugs["drug_id"]}
    assert set(drugs["PubCHEM"]) - set(smiles[0]) == {"several", "none"}
    assert drugs.loc[drugs["PubCHEM"].isin(smiles[0]), "PubCHEM"].nunique() == len(smiles) == 21
    assert b"\r\n" in (data / "GDSC" / "1.Drug_listMon Jun 24 09_00_55 2019.csv").read_bytes()
    annotation = pd.read_csv(data / "CCLE/Cell_lines_annotations_20181226.txt", sep="\t", encoding="latin-1")
    assert set(annotation["depMapID"]) == set(matrix.columns) and "Köln" in annotation.to_csv()
    # Drugs differ far more than lines do, as in the real screen.
    assert matrix.mean(axis=1).std() > 2 * matrix.mean(axis=0).std()


def test_release_agrees_with_the_matrix(toy: Path) -> None:
    matrix = pd.read_csv(toy / "gdsc/deepcdr/data/CCLE/GDSC_IC50.csv", index_col=0)
    lines = pd.read_csv(toy / "ccle" / "sample_info.csv").set_index("COSMICID")["DepMap_ID"]
    fitted = pd.read_csv(toy / "gdsc/GDSC_release8.5/GDSC2_fitted_dose_response_27Oct23.csv")
    assert fitted["DRUG_ID"].min() == 1005 and fitted["AUC"].between(0, 1).all()
    for row in fitted.sample(50, random_state=0).itertuples():
        assert matrix.loc[f"GDSC:{row.DRUG_ID}", lines[row.COSMIC_ID]] == row.LN_IC50
    z = fitted.groupby("DRUG_ID")["Z_SCORE"]
    assert abs(z.mean()).max() < 1e-5 and abs(z.std(ddof=0) - 1).max() < 1e-5
    assert fitted["LN_IC50"].rank().corr(fitted["AUC"].rank()) > 0.999


def test_structures_are_molecules() -> None:
    chem = pytest.importorskip("rdkit.Chem")
    molecules = [chem.MolFromSmiles(drug.smiles) for drug in DRUGS if drug.smiles]
    assert all(molecules) and len({chem.MolToSmiles(m) for m in molecules}) == 21


def test_drugs_are_the_real_ones(mirror: Path) -> None:
    data = mirror / "gdsc" / "deepcdr" / "data"
    smiles = dict(
        line.split("\t") for line in (data / "223drugs_pubchem_smiles.txt").read_text().splitlines()
    )
    table = pd.read_csv(data / "GDSC" / "1.Drug_listMon Jun 24 09_00_55 2019.csv").set_index("drug_id")
    for drug in DRUGS:
        assert smiles.get(drug.cid, "") == drug.smiles
        for number in drug.gdsc_ids:
            row = table.loc[number]
            assert (row["Name"], row["PubCHEM"], row["Targets"]) == (drug.name, drug.cid, drug.target)


# --- what can be learnt ------------------------------------------------------------------------------------


def logged(counts: np.ndarray) -> np.ndarray:
    return np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))


def test_genes_of_a_programme_move_together_within_a_cell_type(toy: Path) -> None:
    matrix, genes, barcodes = workspace(toy / "panglaodb" / "SRA900001_SRS9000001.sparse.RData")
    text = (toy / "panglaodb/data/sample_clusters/SRA900001_SRS9000001.seurat_clusters.txt").read_text()
    clusters = dict(line.split(" ") for line in text.splitlines())
    largest = [i for i, barcode in enumerate(barcodes) if clusters.get(barcode) == "0"]
    values = pd.DataFrame(logged(matrix[:, largest].toarray().T), columns=[g.split("_ENS")[0] for g in genes])
    values = values.loc[:, ~values.columns.duplicated()]
    ribosome = values[values.columns.intersection(PROGRAMMES["ribosome"])].corr().to_numpy()
    rng = np.random.default_rng(0)
    others = values.iloc[:, rng.choice(values.shape[1], 80, replace=False)].corr().to_numpy()
    upper = np.triu_indices(len(ribosome), 1)
    assert ribosome[upper].mean() > 0.05 > 5 * abs(np.nanmean(others[np.triu_indices(80, 1)]))


@pytest.mark.parametrize(("folder", "low", "high"), [("gse149383", 0.65, 0.9), ("gse117872", 0.65, 0.95)])
def test_drug_labels_are_learnable_but_not_trivial(toy: Path, folder: str, low: float, high: float) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.model_selection import cross_val_predict

    if folder == "gse149383":
        values = pd.read_csv(toy / folder / "erl_total_data_2K.csv", index_col=0).to_numpy(float).T
        labels = pd.read_csv(toy / folder / "erl_total_2K_meta.csv", header=None)[3] == "sensitive"
    else:
        values = pd.read_csv(toy / folder / "GSE117872_good_Data_TPM.txt.gz", sep="\t").to_numpy(float).T
        labels = (
            pd.read_csv(toy / folder / "GSE117872_good_Data_cellinfo.txt.gz", sep="\t")["cluster"]
            == "Resistant"
        )
    predicted = cross_val_predict(LogisticRegression(max_iter=300), logged(values), labels, cv=5)
    assert low < f1_score(labels, predicted, average="macro") < high


def test_splits_of_prepared_toy_cells(toy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Raw archive -> reader -> prepared cells -> saved folds, as the workflow does it."""
    genes, aliases, cells = tmp_path / "genes.tsv", tmp_path / "aliases.tsv", tmp_path / "baron.h5ad"
    run_genes(toy / "hgnc" / "hgnc_complete_set_2024-08-01.txt", genes, aliases)
    run_prepare("baron", {"matrix": toy / "baron" / "GSE84133_RAW.tar"}, genes, aliases, None, cells)
    run_splits("annotation", cells, "baron", tmp_path / "baron.json", settings={"n_folds": 7})
    adata = h5ad.read(cells)
    assert adata.shape == (388, 1383) and adata.uns["celllm"]["n_merged_symbols"] == 2
    splits = read_splits(tmp_path / "baron.json", adata.obs_names)
    assert [len(fold.test) for fold in splits.folds] == [56, 56, 56, 55, 55, 55, 55]
    assert "baron: classes with fewer cells than the 7 folds: schwann (6)" in caplog.text
    fold = rows_of(splits.folds[0], adata.obs_names)
    assert set(adata.obs["label"].iloc[fold.test]) <= set(adata.obs["label"].iloc[fold.train])
