"""The CellLM benchmark: from raw public data to every table and figure of one paper.

Its models for cells of your own::

    import celllm, scanpy as sc

    adata = sc.read_h5ad("cells.h5ad")
    model = celllm.load("results/toy/checkpoints/celllm")
    adata.obsm["X_celllm"] = model.embed(adata)
    celllm.tl.annotate(adata, reference=labelled, label_key="cell_type", model=model)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celllm import pl as pl
    from celllm import pp as pp
    from celllm import tl as tl
    from celllm.model.embedder import Embedder as Embedder
    from celllm.model.folder import load as load

__version__ = "0.1.0"

# Imported when they are asked for: the encoder needs torch, which takes seconds.
_LAZY = {"load": "celllm.model.folder", "Embedder": "celllm.model.embedder", "pl": "", "pp": "", "tl": ""}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'celllm' has no attribute {name!r}")
    if not _LAZY[name]:
        return importlib.import_module(f"celllm.{name}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
