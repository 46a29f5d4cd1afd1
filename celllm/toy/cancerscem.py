"""Toy samples of CancerSCEM: dense count tables, cell types, the workbook of samples."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

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
from celllm.toy.cell_types import LUNG, NEIGHBOURS
from celllm.toy.packing import ToyFile, count_table, gzipped, table, workbook

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

_COLUMNS = """Project ID;Sample ID;Sample Type;Data source;BioProject;GEO;SRA;SRS;SRX;SRR;
Original sample name;Gender;Age;Cancer type;Abbreviation of cancer type;Primary site;
Sampling site;Tumor grade;Tumor status;Clinical treatment;Other metadata;Project hold country;
Country abbreviation;Project title;Project abstract;Construction protocol;Protocol;Instrument;
Strategy;Library Layout;Cell count;Publication;PMID;DOI"""
SAMPLE_COLUMNS = _COLUMNS.replace("\n", "").split(";")


def cancerscem_files(biology: Biology, seed: int) -> list[ToyFile]:
    """Count matrices, cell types and the sample table."""
    samples = [
        file for sample in SAMPLES for file in _cancer_sample(biology, sample, stream(seed, sample.name))
    ]
    sheet = workbook([SAMPLE_COLUMNS, *(_sample_row(sample) for sample in SAMPLES)])
    name = "CancerSCEM.metadata.xlsx"
    return [*samples, ToyFile(f"cancerscem/{name}", sheet, "generated", "CancerSCEM: sample table")]


def _cancer_sample(biology: Biology, sample: CancerSample, rng: np.random.Generator) -> list[ToyFile]:
    n_malignant = round(sample.n_cells * sample.malignant_share)
    types = ["Malignant cells"] * n_malignant
    types += mixture(sample.n_cells - n_malignant, sample.others, rng)
    types = list(rng.permutation(types))
    if sample.malignant_share:
        activities = tumour_activities(biology, sample.cancer, types, rng)
    else:
        activities = typed_activities(biology, types, rng)
    depth = draw_depth(len(types), 1250, rng)
    counts = draw_counts(biology, activities, depth, batch_effect(biology, rng), rng)
    names = barcodes(len(types), 16, rng, suffix="-1")
    header = "\t".join(names if sample.short_header else ["", *names]) + "\n"
    body = count_table(biology.symbols, counts.T.toarray(), "\t")
    # The two tables of CancerSCEM differ in how they write a barcode.
    kinds = [("barcode", "cell_type"), *((n.replace("-", "."), k) for n, k in zip(names, types, strict=True))]
    return [
        ToyFile(
            f"cancerscem/{sample.name}.counts.matrix.tsv.gz",
            gzipped(header.encode() + body),
            "generated",
            "CancerSCEM: counts of one sample",
        ),
        ToyFile(
            f"cancerscem/cell_annotation/{sample.name}.cell.type.txt",
            table(kinds),
            "generated",
            "CancerSCEM: cell types of one sample",
        ),
    ]


def _sample_row(sample: CancerSample) -> list[str | int | None]:
    values: dict[str, str | int] = {
        "Project ID": sample.name[:8],
        "Sample ID": sample.name,
        "Sample Type": "Tumour" if sample.malignant_share else "Normal",
        "Cancer type": CANCERS[sample.cancer][0],
        "Abbreviation of cancer type": sample.cancer,
        "Primary site": CANCERS[sample.cancer][1],
        "Sampling site": CANCERS[sample.cancer][1],
        "Other metadata": "Generated for the toy mirror; not a CancerSCEM record",
        "Protocol": "10x Genomics",
        "Strategy": "RNA-Seq",
        "Cell count": sample.n_cells,
    }
    return [values.get(column) for column in SAMPLE_COLUMNS]
