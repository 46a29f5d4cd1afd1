"""Toy cells under a drug: erlotinib (GSE149383, counts) and cisplatin (GSE117872, TPM)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from celllm.toy.biology import Biology, barcodes, batch_effect, draw_counts, malignant_activities, stream
from celllm.toy.packing import ToyFile, count_table, gzipped, table

ERLOTINIB_SHIFT = {  # of cells that the drug kills, relative to those that survive it
    "growth_signal": 0.5,
    "s_phase": 0.4,
    "g2m_phase": 0.4,
    "oxidative_stress": -0.4,
    "mesenchymal_shift": -0.4,
}
CISPLATIN_SHIFT = {  # of cells that became resistant
    "oxidative_stress": 0.7,
    "hypoxia": 0.3,
    "damage_response": -0.6,
    "tumour_suppression": -0.3,
}


def shifted_activities(
    biology: Biology, cancer: str, shift: Mapping[str, float], strength: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Tumour cells moved by ``strength`` (one number per cell) times ``shift``."""
    activities = malignant_activities(biology, cancer, len(strength), rng)
    return activities + strength[:, None] * biology.activities(shift)


def erlotinib_files(biology: Biology, seed: int) -> list[ToyFile]:
    """Count table and headerless label table, sensitive cells first, cells by falling UMI total."""
    rng = stream(seed, "gse149383")
    sensitive = np.arange(240) < 130
    strength = np.where(sensitive, 2.5 * rng.beta(2.0, 2.0, len(sensitive)), 0.0)
    activities = shifted_activities(biology, "LUAD", ERLOTINIB_SHIFT, strength, rng)
    counts = draw_counts(biology, activities, 1900, rng).toarray()
    order = np.lexsort((-counts.sum(axis=1), ~sensitive))
    counts, sensitive = counts[order], sensitive[order]
    prefix = np.where(sensitive, "sens_", "resis_")
    names = [p + barcode for p, barcode in zip(prefix, barcodes(len(prefix), 12, rng), strict=True)]
    drug = np.where(sensitive, "erl", "erlres")
    labels = np.where(sensitive, "sensitive", "resistant")
    meta = zip(names, drug, counts.sum(axis=1).tolist(), labels, strict=True)
    header = ",".join(["", *names]) + "\n"
    content = header.encode() + count_table(biology.symbols, counts.T, ",")
    stands_for = "GSE149383 as scDEAL prepared it"
    return [
        ToyFile("gse149383/erl_total_data_2K.csv", content, f"{stands_for}: counts"),
        ToyFile("gse149383/erl_total_2K_meta.csv", table(meta, ","), f"{stands_for}: labels"),
    ]


class _Group(NamedTuple):
    """Cells of one patient, site and state, and their code in GSE117872."""

    code: str
    patient: str
    site: str
    state: str
    n_cells: int


_GROUPS = (
    _Group("HN120P", "HN120", "Primary", "Sensitive", 32),
    _Group("HN120M", "HN120", "Metastatic", "Sensitive", 28),
    _Group("HN120PCR", "HN120", "Primary", "Resistant", 28),
    _Group("HN120MCR", "HN120", "Metastatic", "Resistant", 22),
    _Group("HN120PCRDH", "HN120", "Primary", "Holiday", 14),
    _Group("HN137P", "HN137", "Primary", "Sensitive", 22),
    _Group("HN137M", "HN137", "Metastatic", "Sensitive", 20),
    _Group("HN137PCR", "HN137", "Primary", "Resistant", 22),
    _Group("HN137MCR", "HN137", "Metastatic", "Resistant", 18),
    _Group("HN137PCRDH", "HN137", "Primary", "Holiday", 12),
    _Group("HN148M", "HN148", "Metastatic", "Sensitive", 22),
)
_COLOURS = ("steelblue", "bisque", "firebrick", "brown", "plum", "olivedrab")


def cisplatin_files(biology: Biology, seed: int) -> list[ToyFile]:
    """TPM table, header one field short, and cell table, header shifted by one and too long by one."""
    rng = stream(seed, "gse117872")
    patient_batch = {name: batch_effect(biology, rng, 0.5) for name in ("HN120", "HN137", "HN148")}
    tpm, cells = [], []
    for number, group in enumerate(_GROUPS):
        strength = {"Sensitive": 0.0, "Resistant": 2.4, "Holiday": 0.6}[group.state]
        strengths = strength * rng.beta(2.0, 2.0, group.n_cells)
        activities = shifted_activities(biology, "PAAD", CISPLATIN_SHIFT, strengths, rng)
        if group.site == "Metastatic":
            activities = activities + biology.activities({"mesenchymal_shift": 0.5})
        counts = draw_counts(biology, activities, 2500, rng, patient_batch[group.patient]).toarray()
        tpm.append(counts * (1e6 / counts.sum(axis=1, keepdims=True)))
        known = [group.code, _COLOURS[number % len(_COLOURS)], group.patient, group.site, group.state]
        cells += [[*known, *[1 + number % 3] * 3]] * group.n_cells
    order = rng.permutation(len(cells))
    names = [f"RH{'CH'[i % 2]}{9001 + i}" for i in range(len(cells))]
    by_gene = zip(biology.symbols, np.concatenate(tpm)[order].T, strict=True)
    body = table([gene, *(f"{value:.3f}".rstrip("0").rstrip(".") for value in row)] for gene, row in by_gene)
    # Every named column holds what the next name says; the column called `cluster` is the drug status
    header = "groups cell_color patient_id origin drug_status cluster pca_clusters pagoda_clusters"
    rows = [[*header.split(), ""], *([name, *cells[i]] for name, i in zip(names, order, strict=True))]
    path = "gse117872/GSE117872_good_Data"
    return [
        ToyFile(f"{path}_TPM.txt.gz", gzipped(table([names]) + body), "GEO GSE117872: TPM"),
        ToyFile(f"{path}_cellinfo.txt.gz", gzipped(table(rows)), "GEO GSE117872: cells"),
    ]
