"""What the numbers of an expression matrix are, judged by one rule from the values themselves.

Looked at, in this order, are the values other than zero (stored zeros say nothing): their sign; whether all
are whole; whether they become whole, or the sums of all cells become equal, or each cell becomes multiples of
one number, when a logarithm or a root is taken back; the share of whole ones; how near to one the others are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Kind = Literal["counts", "tpm", "log2_tpm"]
KINDS: tuple[str, ...] = get_args(Kind)
Nature = Literal[
    "empty", "counts", "corrected", "normalised", "estimated", "binary", "log", "root", "scaled", "unclear"
]
LINEAR: tuple[Nature, ...] = ("counts", "corrected", "normalised", "estimated")
"""Natures whose shares of a cell are those of its counts, the best first."""

TPM_ABOVE = 15.0
"""A million shared out over a genome makes some value of some cell larger than this."""
LOG_BELOW = 20.0
"""log2(10^6 + 1) = 19.93 is the largest that log2(TPM + 1) or a logarithm of counts per million can be."""
MANY_WHOLE = 0.1
"""Share of whole numbers: reads shared out between genes leave more in every sample seen, logarithms few."""
NEAR_WHOLE = 0.5
"""Share of values within 0.1 of a whole number: 0.2 by chance; counts less some ambient RNA have most."""
BINARY_FROM = 200
"""Values that are all 1 are no counts when there are this many."""

EXACT_BELOW = 2**24
"""From here on float32 leaves out whole numbers."""
LARGEST_OF_A_TYPE = (2**7 - 1, 2**8 - 1, 2**15 - 1, 2**16 - 1)
"""Where counts end that were written as 8- or 16-bit numbers, too small for them."""

_SAMPLED = 400
_BACK: dict[str, tuple[Callable[[NDArray[Any]], NDArray[Any]], float]] = {
    "log2(x + 1)": (lambda v: np.exp2(v) - 1, 24),
    "ln(x + 1)": (np.expm1, 17),
    "log10(x + 1)": (lambda v: 10.0**v - 1, 7.5),
    "the square root": (np.square, 4000),
    "": (lambda v: v, np.inf),
}
"""How a transformation (none for values that were only divided) is taken back, and the largest value that one
of counts, up to some ten million, can have."""
_BACK_OF_COUNTS = _BACK | {
    "the cube root": (lambda v: v**3, 10_000),
    "Anscombe's root": (lambda v: (v / 2) ** 2 - 0.375, 10_000),
    "the Freeman-Tukey root": (lambda v: ((v**2 - 1) / (2 * np.maximum(v, 1e-9))) ** 2, 10_000),
    "the Freeman-Tukey root less 1": (lambda v: (((v + 1) ** 2 - 1) / (2 * (v + 1))) ** 2, 10_000),
    "arcsinh": (np.sinh, 17),
}
"""With further ones, looked for in counts only."""


def linear(matrix: "csr_matrix", kind: str) -> "csr_matrix":
    """Expression of a :data:`Kind` on a linear scale: log2(TPM + 1) is taken back, all else is as it is."""
    if kind != "log2_tpm":
        return matrix
    taken_back = matrix.copy()
    taken_back.data = np.expm1(matrix.data.astype(np.float64) * np.log(2)).astype(np.float32)
    return taken_back


def tpm_of(matrix: "csr_matrix", kind: str) -> "csr_matrix":
    """Expression of a :data:`Kind` in TPM; counts as counts per million."""
    found = linear(matrix, kind)
    if kind == "counts":
        sums = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
        found = matrix.astype(np.float32)
        found.data *= np.repeat(1e6 / np.maximum(sums, 1), np.diff(matrix.indptr)).astype(np.float32)
    return found


@dataclass(frozen=True)
class Values:
    """The nature of the values of a matrix, and the evidence in words for a message."""

    nature: Nature
    words: str


def judge(matrix: "csr_matrix") -> Values:
    """Say what the values of a matrix of cells x genes are.

    Evidence that needs several values of a cell is taken from some hundred cells, evenly spaced.
    """
    values = matrix.data[matrix.data != 0]
    if not values.size:
        return Values("empty", "nothing but zeros")
    low, high = float(values.min()), float(values.max())
    is_whole = values == np.floor(values)
    if low < 0:
        what = "whole, some negative" if is_whole.all() else "scaled or centred"
        return Values("scaled", f"{what} (from {low:.4g} to {high:.4g})")
    n_cells = matrix.shape[0]
    rows = np.unique(np.linspace(0, n_cells - 1, min(n_cells, _SAMPLED)).astype(int))
    parts = [matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]] for row in rows]
    cells = [part[part != 0].astype(np.float64) for part in parts if part.any()]
    if is_whole.all():
        return _whole(values, cells, low, high)
    share = float(is_whole.mean())
    found = _transformed_counts(values[~is_whole], high) or _same_values(cells) or _equal_sums(cells, high)
    if found is None and share < MANY_WHOLE:
        found = _multiples(cells, high) or _unit_deviations(matrix)
    found = found or _mixed(matrix)
    if found is not None:
        return found
    if share >= MANY_WHOLE:
        return Values("corrected", f"counts with fractions ({share:.0%} whole)")
    if high > LOG_BELOW + 5:
        return Values("estimated", f"fractions up to {high:,.4g}, as estimated counts or TPM are")
    above = values[values > 0.5]
    if len(above) and np.mean(np.abs(above - np.rint(above)) < 0.1) >= NEAR_WHOLE:
        return Values("corrected", "counts with fractions (most of them near a whole number)")
    return Values(
        "unclear",
        f"log-transformed or otherwise not counts (fractions up to {high:.4g}, {share:.0%} whole; cells "
        "without a common sum or divisor)",
    )


def _whole(values: NDArray[Any], cells: list[NDArray[np.float64]], low: float, high: float) -> Values:
    """Whole numbers are counts, but for those that treated values become when they are rounded."""
    if values.size < BINARY_FROM:
        return Values("counts", "whole counts")
    if low == high:
        return Values("binary", f"nothing but zeros and {'ones' if high == 1 else f'{high:.4g}'}")
    if low > 1 and high <= LOG_BELOW:
        return Values("unclear", f"whole numbers from {low:.4g} to {high:.4g}, as rounded logarithms are")
    n_largest = np.count_nonzero(values == high)
    if high in LARGEST_OF_A_TYPE and n_largest > 2:
        return Values("unclear", f"counts cut off at {high:.0f}, where {n_largest} of them stand")
    if min(cell.min() for cell in cells) > 1:
        found = _equal_sums(cells, high)
        if found is not None and found.nature == "normalised":
            return Values("normalised", f"whole numbers, {found.words}")
    return _same_values(cells) or Values("counts", "whole counts")


def _same_values(cells: list[NDArray[np.float64]]) -> Values | None:
    """Cells that hold the same values in another order."""
    first = np.sort(cells[0])
    if len(cells) < 3 or len(np.unique(first)) < 10 or all(np.array_equal(cell, cells[0]) for cell in cells):
        return None  # one cell many times is no treatment of its values
    if all(len(cell) == len(first) and np.allclose(np.sort(cell), first) for cell in cells[1:]):
        return Values("unclear", "the same values in every cell, as ranks and quantile-normalised ones are")
    return None


def _unit_deviations(matrix: "csr_matrix") -> Values | None:
    """Genes divided by their standard deviations."""
    n_cells = matrix.shape[0]
    means = np.asarray(matrix.sum(axis=0, dtype=np.float64)).ravel() / n_cells
    squares = np.asarray(matrix.power(2).sum(axis=0, dtype=np.float64)).ravel() / n_cells
    deviations = np.sqrt(np.maximum(squares - means**2, 0))[means > 0]
    if len(deviations) < 10 or np.mean(np.abs(deviations - 1) < 0.02) < 0.9:
        return None
    return Values("scaled", "scaled: each gene has the standard deviation 1")


def _mixed(matrix: "csr_matrix") -> Values | None:
    """Cells without a fraction among cells that are logarithms or the like."""
    fractions = matrix.copy()
    fractions.data = (matrix.data % 1 != 0).astype(matrix.dtype)
    others = np.flatnonzero(np.asarray(fractions.sum(axis=1)).ravel())
    if not 3 <= len(others) < matrix.shape[0]:
        return None
    found = judge(matrix[others])
    if found.nature in ("corrected", "estimated", "normalised"):
        return None
    return Values(found.nature, f"whole in some cells, but in {len(others)} others {found.words}")


def value_problem(
    matrix: "csr_matrix", kind: str, fractions: bool, cells: Sequence[Any], genes: Sequence[Any]
) -> str | None:
    """Say in one line what is wrong with the values of cells x genes, or None.

    ``kind`` is ``counts``, ``tpm`` or ``log2_tpm``; ``fractions`` says whether counts may be fractions, as in
    sources that share multi-mapped reads out; ``cells`` and ``genes`` are names for the message.
    """
    values: NDArray[Any] = matrix.data
    for is_bad, what in ((~np.isfinite(values), "is not a finite number"), (values < 0, "is negative")):
        if is_bad.any():
            is_scaled = what == "is negative" and kind == "counts" and np.any(values % 1)
            note = " (scaled or centred?)" if is_scaled else ""
            return f"{_spell(matrix, is_bad, cells, genes)} {what}{note}; {_EXPECTED[kind]}"
    found = judge(matrix)
    if found.nature == "empty":
        return None
    high = float(values.max())
    if kind == "log2_tpm":
        if high > LOG_BELOW:
            return f"the largest value, {high:.4g}, is too large for log2(TPM + 1); are these TPM?"
        wrong_base = found.nature == "log" and "log2" not in found.words
        return f"the values are {found.words}; {_EXPECTED[kind]}" if wrong_base else None
    if kind == "tpm" and found.nature in LINEAR and high < TPM_ABOVE:
        return f"the largest value, {high:.4g}, is too small for TPM; are the values log-transformed?"
    if found.nature not in LINEAR:
        return f"the values are {found.words}; {_EXPECTED[kind]}"
    if kind == "counts" and high >= EXACT_BELOW and found.nature == "counts":
        spelled = _spell(matrix, values >= EXACT_BELOW, cells, genes)
        return f"{spelled} is too large for a count; float32 holds whole numbers up to {EXACT_BELOW}"
    if kind == "counts" and not fractions and found.nature != "counts":
        is_bad = values != np.floor(values)
        return f"{_spell(matrix, is_bad, cells, genes)} is a fraction; whole raw counts are expected"
    return None


_EXPECTED = {
    "counts": "raw counts are expected",
    "tpm": "TPM are expected",
    "log2_tpm": "log2(TPM + 1) is expected",
}


def _transformed_counts(fractions: NDArray[Any], high: float) -> Values | None:
    """Logarithms or roots of counts: values that are no whole numbers become some."""
    some = fractions[:: max(1, len(fractions) // 100_000)].astype(np.float64)
    for name, (back, most) in _BACK_OF_COUNTS.items():
        if not name or high > most:
            continue
        counts = back(some)
        counts = counts[counts < 1000]
        if len(counts) < min(3, len(some)) or not len(counts):
            continue
        near = np.rint(counts)
        # Where a zero is transformed to zero, a value other than zero stands for at least one.
        least = int(np.any(back(np.zeros(1)) == 0))
        if np.mean((near >= least) & (np.abs(counts - near) < 1e-3 + 2e-6 * counts)) > 0.99:
            nature: Nature = "root" if "root" in name else "log"
            return Values(nature, f"{name} of whole counts (largest {high:.4g})")
    return None


def _equal_sums(cells: list[NDArray[np.float64]], high: float) -> Values | None:
    """Values normalised to one sum per cell, or a transformation of such values."""
    if len(cells) < 3:
        return None
    spread = {}
    for name, (back, most) in _BACK.items():
        if high > most:
            continue
        sums = np.array([back(cell).sum() for cell in cells])
        spread[name] = (float(sums.std() / sums.mean()), float(sums.mean()))
    name, (variation, mean) = min(spread.items(), key=lambda item: item[1][0])
    if variation > 2e-4:  # deep cells have sums of logarithms that differ by half a per cent
        return None
    return _normalised(name, f"normalised to {f'{mean:,.0f}' if mean > 10 else f'{mean:.4g}'} per cell", high)


def _multiples(cells: list[NDArray[np.float64]], high: float) -> Values | None:
    """Values of a cell are multiples of its smallest one once the transformation is taken back."""
    off = {}
    for name, (back, most) in _BACK.items():
        if high > most:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):  # a smallest value of almost nothing
            ratios = [back(cell) / back(cell.min()) for cell in cells if len(cell) > 4]
        joined = np.concatenate([r[(r > 1.2) & (r < 12)] for r in ratios]) if ratios else np.empty(0)
        if len(joined) >= max(30, sum(map(len, ratios)) / 20):
            off[name] = float(np.abs(joined - np.rint(joined)).mean())
    if not off:
        return None
    name = min(off, key=lambda key: off[key])
    if off.get("", 1.0) <= min(0.05, 3 * off[name]):  # squares of multiples are nearly as good
        name = ""
    if off[name] > 0.05:
        return None
    return _normalised(name, "normalised, each cell by a factor of its own", high)


def _normalised(transformation: str, words: str, high: float) -> Values:
    if not transformation:
        return Values("normalised", words)
    nature: Nature = "root" if "root" in transformation else "log"
    return Values(nature, f"{transformation} of values {words} (largest {high:.4g})")


def _spell(
    matrix: "csr_matrix", is_bad: NDArray[np.bool_], cells: Sequence[Any], genes: Sequence[Any]
) -> str:
    entry = int(np.argmax(is_bad))
    cell = int(np.searchsorted(matrix.indptr, entry, side="right")) - 1
    gene = int(matrix.indices[entry])
    return f"the value {matrix.data[entry]:.4g} of cell '{cells[cell]}', gene '{genes[gene]}'"
