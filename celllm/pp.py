"""Before a model sees the cells: what an AnnData holds, and whether it can be read."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anndata import AnnData

    from celllm.model.embedder import Embedder


def check(adata: "AnnData", model: "Embedder | str | Path | None" = None) -> list[str]:
    """Print what an AnnData holds, and return its problems, one line each; none: it can be embedded.

    Parameters
    ----------
    adata
        Cells x genes; never changed.
    model
        What :func:`celllm.load` returns, or what it takes; genes are matched with its gene list.

    Raises
    ------
    UserError
        When no raw counts are found.
    """
    from celllm.cells.check import describe_counts, find_counts
    from celllm.tl import loaded

    symbols = None if model is None else loaded(model).symbols
    lines, problems = describe_counts(adata, find_counts(adata, symbols, "the AnnData"), symbols)
    print(*lines, *(f"PROBLEM {line}" for line in problems), sep="\n")
    return problems
