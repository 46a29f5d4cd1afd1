"""Methods that the encoders are compared with, looked up by the ``method`` key of a model's row."""

import importlib

from celllm.baselines.method import Method
from celllm.errors import UserError

# Method -> module of this package that holds it; the module is imported when the method is asked for.
_MODULES = {
    "majority": "controls",
    "random": "controls",
    "knn_pca": "neighbours",
    "logistic_regression": "linear",
    "l1_logistic_regression": "linear",
    "scanpy_ingest": "ingest",
}


def method(name: str) -> Method:
    """Return the method of that name.

    Raises
    ------
    UserError
        When there is none.
    """
    if name not in _MODULES:
        raise UserError(f"unknown method '{name}'; known are {', '.join(_MODULES)}")
    return importlib.import_module(f"{__name__}.{_MODULES[name]}").METHODS[name]
