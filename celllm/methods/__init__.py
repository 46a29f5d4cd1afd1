"""Methods that the encoders are compared with, looked up by the ``method`` key of a model's row."""

import importlib
from collections.abc import Mapping
from typing import Any

from celllm.errors import UserError
from celllm.methods.method import Method

# Method -> module of this package that holds it; the module is imported when the method is asked for.
_MODULES = {
    "majority": "controls",
    "random": "controls",
    "knn_pca": "neighbours",
    "logistic_regression": "linear",
    "l1_logistic_regression": "linear",
    "logistic_regression_2000": "linear",
    "scanpy_ingest": "ingest",
}
# The same for drug response.
_RESPONSE_MODULES = {
    "drug_mean": "response_controls",
    "drug_mean_line_mean": "response_controls",
    "ridge": "response_controls",
    "ridge_by_drug": "response_controls",
    "line_mean_ridge_by_drug": "response_controls",
    "shuffled_ridge_by_drug": "response_controls",
    "gradient_boosting": "response_controls",
    "deepcdr": "deepcdr",
}


def method(name: str) -> Method[Any, Any]:
    """Return the method of cell annotation of that name.

    Raises
    ------
    UserError
        When there is none.
    """
    return _look_up(name, _MODULES)


def response_method(name: str) -> Method[Any, Any]:
    """Return the method of drug response of that name.

    Raises
    ------
    UserError
        When there is none.
    """
    return _look_up(name, _RESPONSE_MODULES)


def _look_up(name: str, modules: Mapping[str, str]) -> Method[Any, Any]:
    if name not in modules:
        raise UserError(f"unknown method '{name}'; known are {', '.join(modules)}")
    found: Method[Any, Any] = importlib.import_module(f"{__name__}.{modules[name]}").METHODS[name]
    return found
