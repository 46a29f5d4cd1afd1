"""Toy cell lines and their expression, in the layout of DepMap."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from celllm.toy.biology import Biology, stream, vary
from celllm.toy.cell_types import RESPONSES
from celllm.toy.packing import ToyFile, csv_table
from celllm.toy.reference import Identifiers


@dataclass(frozen=True)
class _Cancer:
    code: str
    disease: str
    site: str
    levels: dict[str, float]


_CANCERS = (
    _Cancer("LUAD", "Lung Cancer", "lung", {"alveolar": 0.4, "epithelial": 0.8}),
    _Cancer("PAAD", "Pancreatic Cancer", "pancreas", {"ductal": 0.6, "epithelial": 0.7}),
    _Cancer("BRCA", "Breast Cancer", "breast", {"luminal_breast": 0.8, "epithelial": 0.7}),
    _Cancer("SKCM", "Skin Cancer", "skin", {"melanocyte": 1.0}),
    _Cancer("DLBC", "Lymphoma", "haematopoietic_and_lymphoid_tissue", {"leukocyte": 0.9, "b_cell": 0.8}),
    _Cancer("COREAD", "Colon/Colorectal Cancer", "large_intestine", {"epithelial": 1.0, "oncofetal": 0.6}),
    _Cancer("GBM", "Brain Cancer", "central_nervous_system", {"schwann": 0.6, "mesenchymal_shift": 0.5}),
    _Cancer("", "Sarcoma", "soft_tissue", {"fibroblast": 0.7, "mesenchymal_shift": 0.6}),
)
_SAMPLE_INFO = """DepMap_ID cell_line_name stripped_cell_line_name CCLE_Name COSMICID sex
    primary_or_metastasis primary_disease Sanger_Model_ID lineage"""
SAMPLE_INFO_COLUMNS = tuple(_SAMPLE_INFO.split())

N_LINES = 66
# The last lines have drug response but no expression.
N_EXPRESSED = 60


@dataclass(frozen=True)
class CellLine:
    """A made-up line with ids in the formats of DepMap and COSMIC."""

    number: int

    @property
    def ach(self) -> str:
        """DepMap id."""
        return f"ACH-{900000 + self.number}"

    @property
    def cosmic(self) -> int:
        """COSMIC id."""
        return 9000000 + self.number

    @property
    def name(self) -> str:
        """Name as usually written."""
        return f"Toy-{self.number:02d}"

    @property
    def bare_name(self) -> str:
        """Name without its punctuation."""
        return self.name.replace("-", "").upper()

    @property
    def cancer(self) -> _Cancer:
        """What the line was taken from; the last of the cancers has no TCGA code."""
        return _CANCERS[self.number % len(_CANCERS)]


LINES = tuple(CellLine(number + 1) for number in range(N_LINES))


def line_activities(biology: Biology, seed: int) -> np.ndarray:
    """Activities of all lines, shape (lines, programmes)."""
    rng = stream(seed, "cell lines")
    levels = np.concatenate([biology.activities(line.cancer.levels) for line in LINES])
    drift = np.zeros_like(levels)
    responding = [biology.programmes.index(name) for name in (*RESPONSES, "proteasome")]
    drift[:, responding] = rng.normal(0.4, 0.9, (len(LINES), len(responding)))
    return vary(levels, biology, rng) + drift


def ccle_files(biology: Biology, ids: Identifiers, activities: np.ndarray, seed: int) -> list[ToyFile]:
    """Expression as log2(TPM + 1) and the table of lines."""
    rng = stream(seed, "ccle")
    share = np.exp(biology.baseline + activities[:N_EXPRESSED] @ biology.loadings)
    share *= rng.lognormal(0.0, 0.35, share.shape)
    tpm = 1e6 * share / share.sum(axis=1, keepdims=True)
    # A bulk profile misses genes that are hardly expressed.
    values = np.where(tpm < 20, 0.0, np.log2(tpm + 1))
    header = ["", *(f"{symbol} ({ids.number(symbol)})" for symbol in biology.symbols)]
    rows = ([line.ach, *row] for line, row in zip(LINES, values.round(4).tolist(), strict=False))
    return [
        ToyFile("ccle/CCLE_expression.csv", csv_table([header, *rows]), "generated", "DepMap: expression"),
        ToyFile("ccle/sample_info.csv", csv_table(_line_rows()), "generated", "DepMap: lines"),
    ]


def _line_rows() -> Iterator[Sequence[object]]:
    yield SAMPLE_INFO_COLUMNS
    for line in LINES:
        ccle = f"{line.bare_name}_{line.cancer.site.upper()}"
        sex = ("Female", "Male")[line.number % 2]
        names = [line.ach, line.name, line.bare_name, ccle, line.cosmic]
        yield [*names, sex, "Primary", line.cancer.disease, "", line.cancer.site]
