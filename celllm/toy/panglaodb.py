"""Toy samples of PanglaoDB: R workspaces with unfiltered barcodes, cluster files, metadata tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from celllm.toy.biology import (
    Biology,
    barcodes,
    batch_effect,
    draw_counts,
    draw_depth,
    mixture,
    stream,
    tumour_activities,
    typed_activities,
)
from celllm.toy.cell_types import BLOOD, BREAST, CELL_TYPES, ISLETS, LUNG, SHARED_PROGRAMMES, SKIN
from celllm.toy.packing import ToyFile, gzipped, quoted_table, table
from celllm.toy.reference import Identifiers
from celllm.toy.rworkspace import SparseMatrix, workspace
from celllm.toy.symbols import NON_CODING, OLD_NAME, PROGRAMMES


@dataclass(frozen=True)
class PanglaoSample:
    """A row of PanglaoDB's ``metadata.txt`` and the cells behind it."""

    sra: str
    srs: str
    tissue: str
    cell_types: Mapping[str, float]
    n_cells: int
    tumour: str | None = "0"
    cell_line: str | None = "0"
    cancer: str | None = None

    @property
    def name(self) -> str:
        """Name of the sample in file names."""
        return f"{self.sra}_{self.srs}"


SAMPLES = (
    PanglaoSample("SRA900001", "SRS9000001", "Peripheral blood mononuclear cells", BLOOD, 290),
    PanglaoSample("SRA900001", "SRS9000002", "Pancreatic islets", ISLETS, 260),
    PanglaoSample("SRA900002", "SRS9000003", "Lung", LUNG, 240),
    PanglaoSample("SRA900003", "SRS9000004", "Breast", BREAST, 210, tumour=None, cell_line=None),
    # Flagged as tumour: PanglaoDB is called the normal side and holds such samples.
    PanglaoSample("SRA900004", "SRS9000005", "Melanoma", SKIN, 40, tumour="1", cancer="SKCM"),
)
MOUSE = "SRA900009_SRS9000009"


def panglaodb_files(biology: Biology, ids: Identifiers, seed: int) -> list[ToyFile]:
    """Matrices, cluster files and metadata tables of the toy samples, and one sample of mouse."""
    drawn = [_draw_panglao(biology, ids, sample, stream(seed, sample.name)) for sample in SAMPLES]
    files = [file for sample in drawn for file in sample.files()]
    mouse = _mouse_sample(biology, stream(seed, "panglaodb mouse"))
    tables: dict[str, Iterator[list[str | None]]] = {
        "metadata.txt": _metadata_rows(drawn),
        "clusters_to_number_of_cells.txt": _cluster_size_rows(drawn),
        "cell_type_annotations.txt": _cluster_type_rows(drawn),
    }
    for name, rows in tables.items():
        content = quoted_table(rows, r"\N")
        files.append(ToyFile(f"panglaodb/data/{name}", content, "generated", f"PanglaoDB repository: {name}"))
    return [*files, mouse, _markers()]


@dataclass(frozen=True)
class _DrawnSample:
    """A PanglaoDB sample with its barcodes: cells have a type, empty droplets have None."""

    sample: PanglaoSample
    matrix: SparseMatrix
    types: Sequence[str | None]

    def clusters(self) -> dict[str, int]:
        """Cell type -> cluster number, the largest first as Seurat numbers them."""
        names = [name for name in self.types if name]
        return {name: i for i, name in enumerate(sorted(set(names), key=lambda n: (-names.count(n), n)))}

    def files(self) -> list[ToyFile]:
        number = self.clusters()
        pairs = zip(self.matrix.column_names, self.types, strict=True)
        rows = [(barcode, number[kind]) for barcode, kind in sorted(pairs) if kind]
        name = self.sample.name
        return [
            ToyFile(
                f"panglaodb/{name}.sparse.RData",
                workspace(self.matrix),
                "generated",
                "PanglaoDB: read counts of one sample",
            ),
            ToyFile(
                f"panglaodb/data/sample_clusters/{name}.seurat_clusters.txt",
                table(rows, " "),
                "generated",
                "PanglaoDB repository: clusters of one sample",
            ),
        ]


def _draw_panglao(
    biology: Biology, ids: Identifiers, sample: PanglaoSample, rng: np.random.Generator
) -> _DrawnSample:
    types: list[str | None] = list(mixture(sample.n_cells, sample.cell_types, rng))
    if sample.cancer:
        types = ["Malignant cells" if name == "Melanocytes" else name for name in types]
        activities = tumour_activities(biology, sample.cancer, [str(name) for name in types], rng)
    else:
        activities = typed_activities(biology, [str(name) for name in types], rng)
    n_empty = sample.n_cells // 5
    soup = np.tile(activities.mean(axis=0), (n_empty, 1))
    depth = np.concatenate([draw_depth(len(types), 1150, rng), draw_depth(n_empty, 35, rng)])
    counts = draw_counts(biology, np.concatenate([activities, soup]), depth, batch_effect(biology, rng), rng)
    order = rng.permutation(counts.shape[0])
    types += [None] * n_empty
    matrix = _panglao_matrix(biology, ids, counts[order], rng)
    return _DrawnSample(sample, matrix, [types[i] for i in order])


def _panglao_matrix(
    biology: Biology, ids: Identifiers, counts: sparse.csr_matrix, rng: np.random.Generator
) -> SparseMatrix:
    """Genes x barcodes with rows that are not coding genes, and fractional counts."""
    noise = sparse.csr_matrix(rng.poisson(0.15, (counts.shape[0], len(NON_CODING) + 3)))
    rows = [f"{OLD_NAME.get(s, s)}_{ids.ensembl(s)}.{1 + i % 14}" for i, s in enumerate(biology.symbols)]
    rows += [f"{symbol}_{ids.ensembl(symbol)}.2" for symbol in NON_CODING]
    # Two genes of one name, and the copy of a gene on the Y chromosome.
    rows += ["Y_RNA_ENSG00000990001.1", "Y_RNA_ENSG00000990002.1", f"CD9_{ids.ensembl('CD9')}.9_PAR_Y"]
    order = np.argsort(rows, kind="stable")
    matrix = sparse.csc_matrix(sparse.hstack([counts, noise]).tocsr()[:, order].T).astype(np.float64)
    matrix.sort_indices()
    shared = np.flatnonzero(rng.random(matrix.nnz) < 0.2)
    matrix.data[shared] -= rng.integers(1, 9999, len(shared)) / 10000
    matrix.data = matrix.data.round(4)
    return SparseMatrix(matrix, [rows[i] for i in order], barcodes(matrix.shape[1], 16, rng))


def _mouse_sample(biology: Biology, rng: np.random.Generator) -> ToyFile:
    """A sample of another species: the reader has to pass it over."""
    symbols = biology.symbols[:200]
    rows = [f"{s.capitalize()}_ENSMUSG{900001 + i:011d}.1" for i, s in enumerate(symbols)]
    values = sparse.csc_matrix(rng.poisson(2.0, (len(rows), 10)).astype(np.float64))
    content = workspace(SparseMatrix(values, rows, barcodes(10, 16, rng)))
    return ToyFile(f"panglaodb/{MOUSE}.sparse.RData", content, "generated", "PanglaoDB: a mouse sample")


def _metadata_rows(drawn: Sequence[_DrawnSample]) -> Iterator[list[str | None]]:
    for one in drawn:
        cells = one.matrix.values[:, [kind is not None for kind in one.types]]
        expressed = str(len(np.unique(cells.indices)))
        median = str(int(np.median(np.diff(cells.indptr))))
        head = [one.sample.sra, one.sample.srs, one.sample.tissue, "10x chromium", "Homo sapiens"]
        flags = [one.sample.tumour, "1", one.sample.cell_line]
        yield [*head, "Illumina HiSeq 4000", expressed, median, str(len(one.clusters())), *flags]
    rest = ["10x chromium", "Homo sapiens", "Illumina HiSeq 4000", "15000", "900", "4", None, None, None]
    yield ["SRA900005", "notused", "Unknown", *rest]
    sra, srs = MOUSE.split("_")
    yield [sra, srs, "Lung", "drop-seq", "Mus musculus", "NextSeq 500", "200", "173", "1", "0", "1", "0"]


def _cluster_size_rows(drawn: Sequence[_DrawnSample]) -> Iterator[list[str | None]]:
    for one in drawn:
        for kind, number in one.clusters().items():
            yield [one.sample.sra, one.sample.srs, str(number), str(list(one.types).count(kind))]


def _cluster_type_rows(drawn: Sequence[_DrawnSample]) -> Iterator[list[str | None]]:
    for one in drawn:
        for kind, number in one.clusters().items():
            yield [one.sample.sra, one.sample.srs, str(number), kind, "0.0001", "0.001", "40.5"]


_MARKERS = """species;official gene symbol;cell type;nicknames;ubiquitousness index;product description;
gene type;canonical marker;germ layer;organ;
sensitivity_human;sensitivity_mouse;specificity_human;specificity_mouse"""
MARKER_COLUMNS = _MARKERS.replace("\n", "").split(";")


def _markers() -> ToyFile:
    """Genes of the programme that distinguishes each toy cell type."""
    rows = [MARKER_COLUMNS]
    for cell_type, levels in CELL_TYPES.items():
        own = max(levels.keys() - SHARED_PROGRAMMES, key=lambda name: (levels[name], name))
        for symbol in PROGRAMMES[own]:
            known = {"species": "Hs", "official gene symbol": symbol, "cell type": cell_type}
            known |= {"gene type": "protein-coding gene", "canonical marker": "1"}
            rows.append([known.get(column, "NA") for column in MARKER_COLUMNS])
    path = "panglaodb/markers/PanglaoDB_markers_27_Mar_2020.tsv.gz"
    return ToyFile(path, gzipped(table(rows)), "real symbols; assignment made up", "PanglaoDB: marker genes")
