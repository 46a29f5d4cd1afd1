"""Toy cell lines and their expression, in the layout of DepMap."""

from typing import NamedTuple

import numpy as np

from celllm.toy.biology import Biology, stream, vary
from celllm.toy.cell_types import RESPONSES
from celllm.toy.packing import ToyFile, csv_table
from celllm.toy.reference import Identifiers

# TCGA code, disease, site and what is active in lines of a cancer; the last of the cancers has no code.
_CANCERS = (
    ("LUAD", "Lung Cancer", "lung", {"alveolar": 0.4, "epithelial": 0.8}),
    ("PAAD", "Pancreatic Cancer", "pancreas", {"ductal": 0.6, "epithelial": 0.7}),
    ("BRCA", "Breast Cancer", "breast", {"luminal_breast": 0.8, "epithelial": 0.7}),
    ("SKCM", "Skin Cancer", "skin", {"melanocyte": 1.0}),
    ("DLBC", "Lymphoma", "haematopoietic_and_lymphoid_tissue", {"leukocyte": 0.9, "b_cell": 0.8}),
    ("COREAD", "Colon/Colorectal Cancer", "large_intestine", {"epithelial": 1.0, "oncofetal": 0.6}),
    ("GBM", "Brain Cancer", "central_nervous_system", {"schwann": 0.6, "mesenchymal_shift": 0.5}),
    ("", "Sarcoma", "soft_tissue", {"fibroblast": 0.7, "mesenchymal_shift": 0.6}),
)
SAMPLE_INFO_COLUMNS = """DepMap_ID cell_line_name stripped_cell_line_name CCLE_Name COSMICID sex
    primary_or_metastasis primary_disease Sanger_Model_ID lineage"""


class CellLine(NamedTuple):
    """A made-up line with ids in the formats of DepMap, COSMIC and CCLE."""

    ach: str
    cosmic: int
    name: str
    ccle: str
    cancer: str
    disease: str
    site: str
    levels: dict[str, float]


LINES = tuple(
    CellLine(f"ACH-{900000 + n}", 9000000 + n, f"Toy-{n:02d}", f"TOY{n:02d}_{cancer[2].upper()}", *cancer)
    for n in range(1, 67)
    for cancer in (_CANCERS[n % len(_CANCERS)],)
)


def line_activities(biology: Biology, seed: int) -> np.ndarray:
    """Activities of all lines, shape (lines, programmes)."""
    rng = stream(seed, "cell lines")
    levels = np.concatenate([biology.activities(line.levels) for line in LINES])
    drift = np.zeros_like(levels)
    responding = [biology.programmes.index(name) for name in (*RESPONSES, "proteasome")]
    drift[:, responding] = rng.normal(0.4, 0.9, (len(LINES), len(responding)))
    return vary(levels, biology, rng) + drift


def ccle_files(biology: Biology, ids: Identifiers, activities: np.ndarray, seed: int) -> list[ToyFile]:
    """Expression as log2(TPM + 1) and the table of lines."""
    rng = stream(seed, "ccle")
    # The last lines have drug response but no expression
    share = np.exp(biology.baseline + activities[:60] @ biology.loadings)
    share *= rng.lognormal(0.0, 0.35, share.shape)
    tpm = 1e6 * share / share.sum(axis=1, keepdims=True)
    # A bulk profile misses genes that are hardly expressed
    values = np.where(tpm < 20, 0.0, np.log2(tpm + 1))
    header = ["", *(f"{symbol} ({ids.number(symbol)})" for symbol in biology.symbols)]
    rows = ([line.ach, *row] for line, row in zip(LINES, values.round(4).tolist(), strict=False))
    about: list[list[object]] = [[*SAMPLE_INFO_COLUMNS.split()]]
    for i, line in enumerate(LINES):
        names = [line.ach, line.name, line.ccle.partition("_")[0], line.ccle, line.cosmic]
        about.append([*names, ("Male", "Female")[i % 2], "Primary", line.disease, "", line.site])
    return [
        ToyFile("ccle/CCLE_expression.csv", csv_table([header, *rows]), "DepMap: expression"),
        ToyFile("ccle/sample_info.csv", csv_table(about), "DepMap: lines"),
    ]
