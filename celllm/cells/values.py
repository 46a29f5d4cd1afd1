"""What the numbers of an expression matrix are, and whether they are what they are said to be."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Kind = Literal["counts", "tpm", "log2_tpm"]
KINDS: tuple[str, ...] = get_args(Kind)

LOGGED_BELOW = 15.0
"""Raw counts and TPM of a sample pass this; ln(1 + 10^4 share) ends at 9.2, log2(TPM + 1) rarely passes."""
UNLOGGED_ABOVE = 30.0
"""log2(TPM + 1) cannot pass log2(10^6 + 1) = 20."""
MANY_WHOLE = 0.1
"""Share of whole numbers: reads shared out between genes leave more in every sample seen, logarithms few."""


def value_problem(
    matrix: "csr_matrix", kind: str, fractions: bool, cells: Sequence[Any], genes: Sequence[Any]
) -> str | None:
    """Say in one line what is wrong with the values, or None.

    Parameters
    ----------
    matrix
        Cells x genes.
    kind
        ``counts``, ``tpm`` or ``log2_tpm``.
    fractions
        Whether counts may be fractions, as in sources that share multi-mapped reads out.
    cells, genes
        Names, for the message.
    """
    values: NDArray[Any] = matrix.data
    if not values.size:
        return None
    for is_bad, what in ((~np.isfinite(values), "is not a finite number"), (values < 0, "is negative")):
        if is_bad.any():
            return f"{_spell(matrix, is_bad, cells, genes)} {what}; {_expected(kind)}"
    if kind == "log2_tpm":
        return _not_logged(values)
    if looks_logged(values, kind, fractions):
        return f"the values look already log-transformed (largest {values.max():.4g}); {_expected(kind)}"
    if kind == "counts" and not fractions:
        is_bad = values != np.floor(values)
        if is_bad.any():
            return f"{_spell(matrix, is_bad, cells, genes)} is a fraction; whole raw counts are expected"
    return None


def looks_logged(values: NDArray[Any], kind: str = "counts", fractions: bool = False) -> bool:
    """Whether non-negative values that are said to be counts or TPM look like logarithms of them."""
    if not values.size or values.max() >= LOGGED_BELOW:
        return False
    if kind == "tpm":  # a million shared out over a genome makes some value large
        return True
    return float(np.mean(values == np.floor(values))) < (MANY_WHOLE if fractions else 1.0)


def _not_logged(values: NDArray[Any]) -> str | None:
    largest = values.max()
    if largest <= UNLOGGED_ABOVE:
        return None
    return f"the largest value, {largest:.4g}, is too large for log2(TPM + 1); are these TPM?"


def _expected(kind: str) -> str:
    return {
        "counts": "raw counts are expected",
        "tpm": "TPM are expected",
        "log2_tpm": "log2(TPM + 1) is expected",
    }[kind]


def _spell(
    matrix: "csr_matrix", is_bad: NDArray[np.bool_], cells: Sequence[Any], genes: Sequence[Any]
) -> str:
    entry = int(np.argmax(is_bad))
    cell = int(np.searchsorted(matrix.indptr, entry, side="right")) - 1
    gene = int(matrix.indices[entry])
    return f"the value {matrix.data[entry]:.4g} of cell '{cells[cell]}', gene '{genes[gene]}'"
