"""Toy samples of CancerSCEM: dense count tables, cell types, the workbook of samples."""

from collections.abc import Mapping
from dataclasses import dataclass

from celllm.toy.biology import Biology, barcodes, cell_activities, draw_counts, mixture, stream
from celllm.toy.cell_types import LUNG, NEIGHBOURS
from celllm.toy.packing import ToyFile, by_column, count_table, gzipped, table, workbook

CANCERS = {
    "LUAD": ("Lung adenocarcinoma", "Lung"),
    "PAAD": ("Pancreatic adenocarcinoma", "Pancreas"),
    "BRCA": ("Breast carcinoma", "Breast"),
}


@dataclass(frozen=True)
class CancerSample:
    """A row of the sample table; ``others`` are the cells that are not tumour cells."""

    name: str
    others: Mapping[str, float]
    n_cells: int
    malignant_share: float = 0.0
    short_header: bool = False

    @property
    def cancer(self) -> str:
        """Abbreviation of the cancer type."""
        return self.name.split("-")[0]


SAMPLES = (
    CancerSample("LUAD-001-01-1A", NEIGHBOURS, 260, malignant_share=0.6),
    CancerSample("LUAD-001-02-1A", LUNG, 240, short_header=True),
    CancerSample("PAAD-002-01-1A", NEIGHBOURS | {"Ductal cells": 8}, 250, 0.5, short_header=True),
    CancerSample("BRCA-003-01-1A", NEIGHBOURS, 250, malignant_share=0.65),
)

SAMPLE_COLUMNS = """Project ID;Sample ID;Sample Type;Data source;BioProject;GEO;SRA;SRS;SRX;SRR;
Original sample name;Gender;Age;Cancer type;Abbreviation of cancer type;Primary site;
Sampling site;Tumor grade;Tumor status;Clinical treatment;Other metadata;Project hold country;
Country abbreviation;Project title;Project abstract;Construction protocol;Protocol;Instrument;
Strategy;Library Layout;Cell count;Publication;PMID;DOI""".replace("\n", "").split(";")


def cancerscem_files(biology: Biology, seed: int) -> list[ToyFile]:
    """Count matrices, cell types and the sample table."""
    files, rows = [], []
    for sample in SAMPLES:
        rng = stream(seed, sample.name)
        n_malignant = round(sample.n_cells * sample.malignant_share)
        types = ["Malignant cells"] * n_malignant
        types += mixture(sample.n_cells - n_malignant, sample.others, rng)
        types = list(rng.permutation(types))
        cancer, place = CANCERS[sample.cancer]
        activities = cell_activities(biology, types, rng, sample.cancer if n_malignant else None)
        counts = draw_counts(biology, activities, 1250, rng)
        names = barcodes(len(types), 16, rng, suffix="-1")
        header = "\t".join(names if sample.short_header else ["", *names]) + "\n"
        body = count_table(biology.symbols, counts.T.toarray(), "\t")
        # The two tables of CancerSCEM differ in how they write a barcode
        kinds = [(name.replace("-", "."), kind) for name, kind in zip(names, types, strict=True)]
        path, stands_for = (
            f"cancerscem/{sample.name}.counts.matrix.tsv.gz",
            "CancerSCEM: counts of one sample",
        )
        files.append(ToyFile(path, gzipped(header.encode() + body), stands_for))
        path = f"cancerscem/cell_annotation/{sample.name}.cell.type.txt"
        content = table([("barcode", "cell_type"), *kinds])
        files.append(ToyFile(path, content, "CancerSCEM: cell types of one sample"))
        rows.append(
            {
                "Project ID": sample.name[:8],
                "Sample ID": sample.name,
                "Sample Type": "Tumour" if n_malignant else "Normal",
                "Cancer type": cancer,
                "Abbreviation of cancer type": sample.cancer,
                "Primary site": place,
                "Sampling site": place,
                "Other metadata": "Generated for the toy mirror; not a CancerSCEM record",
                "Protocol": "10x Genomics",
                "Strategy": "RNA-Seq",
                "Cell count": sample.n_cells,
            }
        )
    sheet = workbook(by_column(SAMPLE_COLUMNS, rows, missing=None))
    return [*files, ToyFile("cancerscem/CancerSCEM.metadata.xlsx", sheet, "CancerSCEM: sample table")]
