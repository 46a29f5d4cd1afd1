"""One rule for what numbers are: the same counts, treated in every way, are told apart."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from celllm.cells.values import judge, value_problem


def _counts(seed: int, n_cells: int = 60, n_genes: int = 150, depth: float = 400.0) -> np.ndarray:
    """Counts with the skew of genes and the unequal depth of cells that droplets have."""
    random = np.random.default_rng(seed)
    genes = random.lognormal(0, 1.5, n_genes)
    depths = random.lognormal(np.log(depth), 0.4, n_cells)
    return random.poisson(np.outer(depths, genes / genes.sum())).astype(np.float64)


def _to(total: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda c: c / np.maximum(c.sum(1, keepdims=True), 1) * total


def _soup(c: np.ndarray) -> np.ndarray:
    """Counts less the ambient share of each gene, as SoupX leaves them when it does not round."""
    ambient = c.sum(0) / c.sum()
    return np.clip(c - 0.02 * c.sum(1, keepdims=True) * ambient, 0, None)


def _shallow(c: np.ndarray) -> np.ndarray:
    """One count in many, so that no value passes 7."""
    random = np.random.default_rng(2)
    return np.minimum(random.binomial(c.astype(int), min(1, 60 / c.sum(1).mean())), 7)


def _shared_out(c: np.ndarray) -> np.ndarray:
    """A tenth of the counts with fractions, as alevin and PanglaoDB have them."""
    random = np.random.default_rng(1)
    return np.where(random.random(c.shape) < 0.1, c * random.random(c.shape), c)


def _scaled(c: np.ndarray) -> np.ndarray:
    logs = np.log1p(_to(1e4)(c))
    return (logs - logs.mean(0)) / (logs.std(0) + 1e-6)


WAYS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str, str]] = {
    "counts": (lambda c: c, "counts", "whole counts"),
    "shallow counts": (lambda c: np.minimum(c, 3), "counts", "whole counts"),
    "ambient RNA taken off shallow counts": (
        lambda c: _soup(_shallow(c)),
        "corrected",
        "near a whole number",
    ),
    "ambient RNA taken off": (lambda c: _soup(c * 30), "estimated", "fractions up to"),
    "shared-out reads": (_shared_out, "corrected", "% whole"),
    "halves": (lambda c: c / 2, "corrected", "% whole"),
    "counts per ten thousand": (_to(1e4), "normalised", "to 10,000 per cell"),
    "counts per million": (_to(1e6), "normalised", "to 1,000,000 per cell"),
    "shares": (_to(1), "normalised", "to 1 per cell"),
    "part of the genes of CP10k": (lambda c: _to(1e4)(c)[:, ::2], "normalised", "factor of its own"),
    "CPM": (lambda c: np.log2(1 + _to(1e6)(c)), "log", "log2(x + 1) of values normalised to 1,000,000"),
    "ln CP10k": (lambda c: np.log1p(_to(1e4)(c)), "log", "ln(x + 1) of values normalised to 10,000"),
    "log10 CP10k": (
        lambda c: np.log10(1 + _to(1e4)(c)),
        "log",
        "log10(x + 1) of values normalised to 10,000",
    ),
    "ln CP10k, part of the genes": (lambda c: np.log1p(_to(1e4)(c))[:, ::3], "log", "ln(x + 1) of values"),
    "log2 CPM, part of the genes": (
        lambda c: np.log2(1 + _to(1e6)(c))[:, 1::3],
        "log",
        "log2(x + 1) of values",
    ),
    "ln of counts": (np.log1p, "log", "ln(x + 1) of whole counts"),
    "log2 of counts": (lambda c: np.log2(1 + c), "log", "log2(x + 1) of whole counts"),
    "roots of counts": (np.sqrt, "root", "square root of whole counts"),
    "roots of CP10k": (lambda c: np.sqrt(_to(1e4)(c)), "root", "square root of values normalised to 10,000"),
    "binary": (lambda c: c > 0, "binary", "zeros and ones"),
    "scaled": (_scaled, "scaled", "scaled or centred"),
    "negative counts": (lambda c: np.where(c == 2, -2, c), "scaled", "whole, some negative"),
    "cube roots": (np.cbrt, "root", "cube root of whole counts"),
    "Anscombe": (lambda c: 2 * np.sqrt(c + 3 / 8), "root", "Anscombe's root of whole counts"),
    "Freeman-Tukey": (lambda c: np.sqrt(c) + np.sqrt(c + 1), "root", "Freeman-Tukey root of whole counts"),
    "arcsinh": (np.arcsinh, "log", "arcsinh of whole counts"),
    "rounded CPM": (lambda c: np.rint(_to(1e6)(c)), "normalised", "whole numbers, normalised to "),
    "rounded logarithms": (
        lambda c: np.rint(np.log2(1 + _to(1e6)(c))),
        "unclear",
        "as rounded logarithms are",
    ),
    "8-bit numbers that were too small": (
        lambda c: np.minimum(c * 100 + (c > 0), 255),
        "unclear",
        "counts cut off at 255",
    ),
    "zeros and twos": (lambda c: (c > 0) * 2.0, "binary", "zeros and 2"),
    "ranks": (lambda c: c.argsort(1).argsort(1), "unclear", "the same values in every cell"),
    "shares of ranks": (
        lambda c: c.argsort(1).argsort(1) / c.shape[1],
        "unclear",
        "the same values in every cell",
    ),
    "scaled, not centred": (
        lambda c: (lambda x: x / (x.std(0) + 1e-9))(np.log1p(_to(1e4)(c))),
        "scaled",
        "standard deviation 1",
    ),
    "some cells in logarithms": (
        lambda c: np.vstack([c[:20], np.log1p(_to(1e4)(c[20:]))]),
        "log",
        "whole in some cells, but in",
    ),
    "between 0 and 1": (
        lambda c: np.log1p(_to(1e4)(c)) / 9.3 * np.linspace(0.4, 1, c.shape[1]),
        "unclear",
        "log",
    ),
}


@pytest.mark.parametrize("depth", [60.0, 400.0, 5000.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("way", WAYS)
def test_what_numbers_are(way: str, dtype: Any, depth: float) -> None:
    change, nature, words = WAYS[way]
    found = judge(csr_matrix(change(_counts(3, depth=depth)).astype(dtype)))
    assert (found.nature, words in found.words) == (nature, True), found


def test_whole_numbers_that_float32_leaves_out_are_refused() -> None:
    counts = csr_matrix(_counts(1))
    counts.data[3] = 2**24
    message = value_problem(counts, "counts", True, range(60), range(150))
    assert message is not None and "the value 1.678e+07 of cell '0'" in message and "too large" in message


def test_stored_zeros_say_nothing() -> None:
    matrix = csr_matrix(np.log1p(_to(1e4)(_counts(0))).astype(np.float32))
    with_zeros = csr_matrix(matrix.toarray() + 1)
    with_zeros.data -= 1
    assert with_zeros.nnz > matrix.nnz
    assert judge(with_zeros) == judge(matrix)
    assert judge(csr_matrix((np.zeros(3), ([0, 1, 2], [0, 1, 2])))).nature == "empty"


_REFUSED = [
    way for way, (_, nature, _) in WAYS.items() if nature in ("log", "root", "binary", "scaled", "unclear")
]


@given(seed=st.integers(0, 10**6), way=st.sampled_from(sorted(WAYS)), depth=st.floats(50, 20_000))
def test_no_seed_makes_logarithms_counts_or_counts_logarithms(seed: int, way: str, depth: float) -> None:
    matrix = csr_matrix(WAYS[way][0](_counts(seed, 30, 120, depth)).astype(np.float32))
    cells, genes = range(matrix.shape[0]), range(matrix.shape[1])
    problem = value_problem(matrix, "counts", True, cells, genes)
    assert (problem is not None) == (way in _REFUSED), (way, problem)
    whole = value_problem(matrix, "counts", False, cells, genes)
    assert (whole is None) == (WAYS[way][1] == "counts"), (way, whole)
