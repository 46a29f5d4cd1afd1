"""Controls of drug response: means, ridge regressions and gradient-boosted trees.

All but the trees predict from a table of cell lines x drugs that is filled when they are fitted. None looks
at the structure of a drug, and none chooses anything: they learn from the training and validation part.
"""

import dataclasses
from functools import partial

import numpy as np
from numpy.typing import NDArray

from celllm.methods.expression import centred
from celllm.methods.method import Method, NotApplicableError
from celllm.methods.pairs import Pairs, Predict, Responses
from celllm.methods.settings import BoostingSettings, NoSettings, RidgeSettings

Floats = NDArray[np.float64]


def _from_table(table: Floats, averaged: Pairs | None = None) -> Predict:
    """Read predictions from a table; where means of lines went into it, the pairs that they were taken from.

    Predicting raises :class:`NotApplicableError` when none of the lines has such a mean.
    """

    def predict(pairs: Pairs) -> Responses:
        if averaged is not None and not np.isin(pairs.lines, averaged.lines).any():
            raise NotApplicableError("no tested cell line has a response that a mean could be taken of")
        return table[pairs.lines, pairs.drugs]

    return predict


# --- means -----------------------------------------------------------------------------------------------


def drug_means(pairs: Pairs) -> Floats:
    """Mean response to each drug (n_drugs,); to a drug without a pair, that to all."""
    overall = float(pairs.known.mean())
    return overall + _means(pairs.known - overall, pairs.drugs, len(pairs.screen.drugs))


def _means(values: Floats, groups: NDArray[np.int64], n_groups: int) -> Floats:
    counts = np.bincount(groups, minlength=n_groups)
    return np.bincount(groups, values, n_groups) / np.maximum(counts, 1)


def additive(pairs: Pairs, with_lines: bool) -> Floats:
    """Table (n_lines, n_drugs) of the drugs' means, and on them the lines' mean residuals."""
    drugs = drug_means(pairs)
    lines = np.zeros(len(pairs.screen.lines))
    if with_lines:
        lines = _means(pairs.known - drugs[pairs.drugs], pairs.lines, len(lines))
    return lines[:, None] + drugs


def fit_means(train: Pairs, settings: NoSettings, seed: int, with_lines: bool) -> Predict:
    """Predict the drug's mean, or the drug's mean and the line's mean residual."""
    return _from_table(additive(train, with_lines), train if with_lines else None)


# --- ridge -----------------------------------------------------------------------------------------------


def line_kernel(train: Pairs) -> Floats:
    """Products of the lines' expressions (n_lines, n_lines), centred on the training lines."""
    x = centred(train.screen.expression, np.unique(train.lines))
    return x @ x.T


def ridge_by_drug(kernel: Floats, pairs: Pairs, residual: Floats, penalty: float) -> Floats:
    """Table (n_lines, n_drugs): for each drug a ridge regression of its residuals on expression."""
    table = np.zeros((len(pairs.screen.lines), len(pairs.screen.drugs)))
    for drug in np.unique(pairs.drugs):
        mine = pairs.drugs == drug
        lines = pairs.lines[mine]
        inner = kernel[np.ix_(lines, lines)] + penalty * np.eye(len(lines))
        table[:, drug] = kernel[:, lines] @ np.linalg.solve(inner, residual[mine])
    return table


def fit_ridge_by_drug(
    train: Pairs,
    settings: RidgeSettings,
    seed: int,
    with_lines: bool = False,
    shuffled: bool = False,
) -> Predict:
    """Means, and for each drug a ridge regression of what they leave on expression.

    With ``shuffled``, every line has the expression of another: what is still better than the means then
    comes from a leak.
    """
    kernel = line_kernel(train)
    if shuffled:
        order = np.random.default_rng(seed).permutation(len(kernel))
        kernel = kernel[np.ix_(order, order)]
    table = additive(train, with_lines)
    residual = train.known - table[train.lines, train.drugs]
    table += ridge_by_drug(kernel, train, residual, settings.penalty)
    return _from_table(table, train if with_lines else None)


def fit_permuted(train: Pairs, settings: RidgeSettings, seed: int) -> Predict:
    """Means and ridge regressions of responses dealt out anew: what they foretell comes from a leak."""
    dealt = np.random.default_rng(seed).permutation(train.known)
    return fit_ridge_by_drug(dataclasses.replace(train, responses=dealt), settings, seed)


def fit_ridge(train: Pairs, settings: RidgeSettings, seed: int) -> Predict:
    """One ridge regression on expression and one-hot drug: a line does well or badly against all drugs.

    The normal equations need only the number and the sum of the responses to each drug on each line, and the
    expression only in as many dimensions as there are lines.
    """
    values, vectors = np.linalg.eigh(line_kernel(train))
    lines = vectors * np.sqrt(np.maximum(values, 0.0))
    shape = len(train.screen.lines), len(train.screen.drugs)
    cell = train.lines * shape[1] + train.drugs
    overall = float(train.known.mean())
    counts = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    sums = np.bincount(cell, train.known - overall, shape[0] * shape[1]).reshape(shape)
    mixed = lines.T @ counts
    normal = np.block([
        [(lines.T * counts.sum(axis=1)) @ lines, mixed],
        [mixed.T, np.diag(counts.sum(axis=0))],
    ]) + settings.penalty * np.eye(sum(shape))  # fmt: skip
    weights = np.linalg.solve(normal, np.concatenate([lines.T @ sums.sum(axis=1), sums.sum(axis=0)]))
    of_line, of_drug = np.split(weights, [lines.shape[1]])
    return _from_table(overall + (lines @ of_line)[:, None] + of_drug)


# --- trees -----------------------------------------------------------------------------------------------


def fit_boosting(train: Pairs, settings: BoostingSettings, seed: int) -> Predict:
    """Gradient-boosted trees on the drug's mean and the components of the line's expression."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import HistGradientBoostingRegressor

    means = drug_means(train)
    seen = np.unique(train.lines)
    x = centred(train.screen.expression, seen)
    n_components = min(settings.n_components, len(seen) - 1, x.shape[1])
    components = PCA(n_components, svd_solver="full").fit(x[seen]).transform(x)

    def features(pairs: Pairs) -> Floats:
        return np.column_stack([means[pairs.drugs], components[pairs.lines]])

    trees = HistGradientBoostingRegressor(
        max_iter=settings.n_trees,
        learning_rate=settings.learning_rate,
        max_leaf_nodes=settings.max_leaves,
        early_stopping=False,
        random_state=seed,
    ).fit(features(train), train.known - means[train.drugs])
    return lambda pairs: means[pairs.drugs] + trees.predict(features(pairs))


METHODS: dict[str, Method[Pairs, Responses]] = {
    "drug_mean": Method(partial(fit_means, with_lines=False), NoSettings),
    "drug_mean_line_mean": Method(partial(fit_means, with_lines=True), NoSettings),
    "ridge": Method(fit_ridge, RidgeSettings),
    "ridge_by_drug": Method(fit_ridge_by_drug, RidgeSettings),
    "line_mean_ridge_by_drug": Method(partial(fit_ridge_by_drug, with_lines=True), RidgeSettings),
    "shuffled_ridge_by_drug": Method(partial(fit_ridge_by_drug, shuffled=True), RidgeSettings),
    "permuted": Method(fit_permuted, RidgeSettings),
    "gradient_boosting": Method(fit_boosting, BoostingSettings),
}
