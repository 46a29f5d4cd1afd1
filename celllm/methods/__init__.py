"""All methods, by what they predict and the ``method`` key of a model's row."""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celllm.methods import outside

if TYPE_CHECKING:
    from celllm.methods.method import Method

# Name -> module of this package that declares the method in its METHODS; imported when it is asked for.
# CELLS predict the label of a cell, PAIRS the response of a cell line to a drug.
CELLS = {
    **dict.fromkeys(("majority", "random"), "controls"),
    "knn_pca": "neighbours",
    **dict.fromkeys(("logistic_regression", "l1_logistic_regression", "logistic_regression_2000"), "linear"),
    **dict.fromkeys(("linear_svm", "permuted"), "linear"),
    "celltypist": "celltypist_fold",
    "scanvi": "scanvi",
    "scanpy_ingest": "ingest",
    "encoder": "celllm_labels",
}
# Heads on embeddings made elsewhere: the key ``head`` of a row of kind ``embedding``.
HEADS = dict.fromkeys(("knn", "linear", "paper"), "embedded")
PAIRS = {
    **dict.fromkeys(("drug_mean", "drug_mean_line_mean"), "response_controls"),
    **dict.fromkeys(("ridge", "ridge_by_drug", "line_mean_ridge_by_drug"), "response_controls"),
    **dict.fromkeys(("shuffled_ridge_by_drug", "gradient_boosting", "permuted"), "response_controls"),
    "deepcdr": "deepcdr",
    "deepcdr_original": "deepcdr_original",
    "encoder": "celllm_response",
}


def look_up(name: str, modules: Mapping[str, str]) -> "Method[Any, Any]":
    """The method of a name in :data:`CELLS` or :data:`PAIRS`, or one from :mod:`.outside` the package."""
    if name not in modules:
        return outside.load(name, modules)
    found: Method[Any, Any] = importlib.import_module(f"{__name__}.{modules[name]}").METHODS[name]
    return found
