"""Toy samples of PanglaoDB: R workspaces with unfiltered barcodes, cluster files, metadata tables."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from celllm.toy.biology import Biology, barcodes, cell_activities, draw_counts, mixture, stream
from celllm.toy.cell_types import BLOOD, BREAST, CELL_TYPES, ISLETS, LUNG, SHARED_PROGRAMMES, SKIN
from celllm.toy.packing import ToyFile, by_column, gzipped, quoted_table, table
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

MARKER_COLUMNS = """species;official gene symbol;cell type;nicknames;ubiquitousness index;product description;
gene type;canonical marker;germ layer;organ;
sensitivity_human;sensitivity_mouse;specificity_human;specificity_mouse""".replace("\n", "").split(";")


def panglaodb_files(biology: Biology, ids: Identifiers, seed: int) -> list[ToyFile]:
    """Matrices, cluster files and metadata tables of the toy samples, and one sample of mouse."""
    files: list[ToyFile] = []
    metadata: list[list[object]] = []
    sizes: list[list[object]] = []
    cell_types: list[list[object]] = []
    for sample in SAMPLES:
        matrix, types = _drawn(biology, ids, sample, stream(seed, sample.name))
        names = [kind for kind in types if kind]
        # The largest cluster first, as Seurat numbers them
        ordered = sorted(set(names), key=lambda kind: (-names.count(kind), kind))
        clusters = {kind: number for number, kind in enumerate(ordered)}
        pairs = zip(matrix.column_names, types, strict=True)
        rows = [(barcode, clusters[kind]) for barcode, kind in sorted(pairs) if kind]
        path, stands_for = f"panglaodb/{sample.name}.sparse.RData", "PanglaoDB: read counts of one sample"
        files.append(ToyFile(path, workspace(matrix), stands_for))
        path = f"panglaodb/data/sample_clusters/{sample.name}.seurat_clusters.txt"
        files.append(ToyFile(path, table(rows, " "), "PanglaoDB repository: clusters of one sample"))
        cells = matrix.values[:, [kind is not None for kind in types]]
        median = int(np.median(np.diff(cells.indptr)))
        shape = [len(np.unique(cells.indices)), median, len(clusters)]
        head = [sample.sra, sample.srs, sample.tissue, "10x chromium", "Homo sapiens", "Illumina HiSeq 4000"]
        metadata.append([*head, *shape, sample.tumour, 1, sample.cell_line])
        for kind, number in clusters.items():
            sizes.append([sample.sra, sample.srs, number, names.count(kind)])
            cell_types.append([sample.sra, sample.srs, number, kind, "0.0001", "0.001", "40.5"])
    head = ["SRA900005", "notused", "Unknown", "10x chromium", "Homo sapiens", "Illumina HiSeq 4000"]
    metadata.append([*head, 15000, 900, 4, None, None, None])
    # A sample of another species: the reader has to pass it over
    sra, srs = "SRA900009", "SRS9000009"
    head = [sra, srs, "Lung", "drop-seq", "Mus musculus", "NextSeq 500"]
    metadata.append([*head, 200, 173, 1, 0, 1, 0])
    rng = stream(seed, "panglaodb mouse")
    genes = [f"{s.capitalize()}_ENSMUSG{900001 + i:011d}.1" for i, s in enumerate(biology.symbols[:200])]
    values = sparse.csc_matrix(rng.poisson(2.0, (len(genes), 10)).astype(np.float64))
    mouse = workspace(SparseMatrix(values, genes, barcodes(10, 16, rng)))
    files.append(ToyFile(f"panglaodb/{sra}_{srs}.sparse.RData", mouse, "PanglaoDB: a mouse sample"))
    tables = {
        "metadata.txt": metadata,
        "clusters_to_number_of_cells.txt": sizes,
        "cell_type_annotations.txt": cell_types,
    }
    for name, lines in tables.items():
        content = quoted_table(lines, r"\N")
        files.append(ToyFile(f"panglaodb/data/{name}", content, f"PanglaoDB repository: {name}"))
    return [*files, _markers()]


def _drawn(
    biology: Biology, ids: Identifiers, sample: PanglaoSample, rng: np.random.Generator
) -> tuple[SparseMatrix, list[str | None]]:
    """Genes x barcodes, with rows that are not coding genes and fractional counts; types of the barcodes.

    Empty droplets have no type.
    """
    types = mixture(sample.n_cells, sample.cell_types, rng)
    if sample.cancer:
        types = ["Malignant cells" if name == "Melanocytes" else name for name in types]
    activities = cell_activities(biology, types, rng, sample.cancer)
    n_empty = sample.n_cells // 5
    soup = np.tile(activities.mean(axis=0), (n_empty, 1))
    depth = np.repeat([1150, 35], [len(types), n_empty])
    counts = draw_counts(biology, np.concatenate([activities, soup]), depth, rng)
    shuffled = rng.permutation(counts.shape[0])
    noise = sparse.csr_matrix(rng.poisson(0.15, (counts.shape[0], len(NON_CODING) + 3)))
    rows = [f"{OLD_NAME.get(s, s)}_{ids.ensembl(s)}.{1 + i % 14}" for i, s in enumerate(biology.symbols)]
    rows += [f"{symbol}_{ids.ensembl(symbol)}.2" for symbol in NON_CODING]
    # Two genes of one name, and the copy of a gene on the Y chromosome
    rows += ["Y_RNA_ENSG00000990001.1", "Y_RNA_ENSG00000990002.1", f"CD9_{ids.ensembl('CD9')}.9_PAR_Y"]
    order = np.argsort(rows, kind="stable")
    matrix = sparse.csc_matrix(sparse.hstack([counts[shuffled], noise]).tocsr()[:, order].T).astype(
        np.float64
    )
    matrix.sort_indices()
    shared = np.flatnonzero(rng.random(matrix.nnz) < 0.2)
    matrix.data[shared] -= rng.integers(1, 9999, len(shared)) / 10000
    matrix.data = matrix.data.round(4)
    named = SparseMatrix(matrix, [rows[i] for i in order], barcodes(matrix.shape[1], 16, rng))
    droplets = [*types, *[None] * n_empty]
    return named, [droplets[i] for i in shuffled]


def _markers() -> ToyFile:
    """Genes of the programme that distinguishes each toy cell type."""
    rows = []
    for cell_type, levels in CELL_TYPES.items():
        own = max(levels.keys() - SHARED_PROGRAMMES, key=lambda name: (levels[name], name))
        for symbol in PROGRAMMES[own]:
            known = {"species": "Hs", "official gene symbol": symbol, "cell type": cell_type}
            rows.append(known | {"gene type": "protein-coding gene", "canonical marker": "1"})
    path = "panglaodb/markers/PanglaoDB_markers_27_Mar_2020.tsv.gz"
    content = gzipped(table(by_column(MARKER_COLUMNS, rows)))
    return ToyFile(path, content, "PanglaoDB: marker genes", "real symbols; assignment made up")
