"""Columns of the tables that probes write and figures read, protocols of scores; no PyTorch is needed."""

from typing import Literal, get_args

from celllm.model.settings import MEASURES

Protocol = Literal["strict", "no_refit", "paper"]  # see celllm.tasks.protocols
PROTOCOLS: tuple[str, ...] = get_args(Protocol)

# Tasks whose test parts are whole groups (Table S3) -> the same task with groups mixed, the title.
HELD_OUT = {
    "annotation_donor": ("annotation", "donors held out"),
    "drug_patient": ("drug_full", "patients held out"),
    "response_tissue": ("response_cold", "tissues held out"),
    "response_drug": ("response_warm", "drugs held out"),
}

# Geometry of embeddings (celllm geometry).
GEOMETRY = ("model", "data_set", "embedding", "dim", "n_cells", *MEASURES)

# The contrast of each encoder: what it compared, its loss before the first step and at the end, and the
# geometry that came of it (celllm contrast). Without contrast its fields are empty.
CONTRAST = (
    *("model", "contrast", "contrast_on", "temperature", "views", "ignorant", "start", "end", "steps"),
    *GEOMETRY[1:],
)

# Cells laid out by their embedding (celllm embedding-map).
EMBEDDING_MAP = ("cell", "label", "predicted", "x", "y")

# Genes and cells of the study of attention (celllm interpret): kinds of cells, sets of genes.
KINDS = ("normal", "tumour")
SETS = ("expressed", "attended")
GENES = (
    "gene", "attention_rank", "expression_rank",
    "attention", "attention_normal", "attention_tumour", "cells_normal", "cells_tumour",
    "expression", "expression_normal", "expression_tumour",
)  # fmt: skip
CELLS = ("row", "sample", "kind", "genes", "cluster", "x", "y")

# Peak memory by length (celllm memory), and the lengths that section 4.3 names.
# Columns of Table S5 that hold what a row cost.
COSTS = ("seconds", "peak GiB")
MEMORY = ("what", "attention", "contrast", "n_cells", "length", "peak_mib", "fitted_mib")
PAPER_LENGTHS = {"end_to_end": 50, "divide_and_conquer": 13_000}
