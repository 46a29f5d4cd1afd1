"""Labels of reference cells handed on to others by their embeddings, with a confidence that means something.

A logistic regression on the standardised embeddings names the label. Its probability is not the chance of
being right, and says nothing of cells unlike any in the reference. The confidence is a second logistic
regression, on the log-odds of the label and on how far the cell's log-normalised expression lies off.
All genes of the encoder count there: an encoder may give a type that it has never seen the vector of another.

- angle to the nearest mean of a label, both seen from the mean of all cells;
- distance to the nearest mean of a label, each gene measured by its spread within labels;
- in 30 components, Mahalanobis distance to the nearest mean over that to the mean of all (Ren et al. 2021).

It learns from reference cells that were held out, fold by fold, and from cells for which no label is right:
those of labels that were left out, a fifth of the labels at a time, with a tenth of the weight. So it is the
chance of being right where one cell in eleven is of a type that the reference lacks.
A cell that lies further out than nearly all held-out cells in any of the three ways loses confidence in
proportion (conformal p-values as in Vovk et al. 2005, Bonferroni's correction for three).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix

from celllm.errors import UserError
from celllm.methods.expression import log_normalised

Floats = NDArray[np.floating]

METHOD = (
    "logistic regression on embeddings; confidence from its log-odds and distances in expression, "
    "calibrated on held-out reference cells and on cells of left-out labels"
)
FOLDS = 5
N_COMPONENTS = 30
FAMILIAR = 0.05
"""P-value below which a cell loses confidence."""
UNKNOWN_WEIGHT = 0.1
"""Of a cell whose label was left out, against a held-out one."""
MOST_CELLS = 20_000
"""Cells of a reference that are used; more cost time and decide nothing."""


def thinned(labels: NDArray[np.str_], seed: int = 0, most: int = MOST_CELLS) -> NDArray[np.int64]:
    """Rows, ascending, of at most about ``most`` cells; of a label 50 stay, or all if it has fewer."""
    if len(labels) <= most:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)
    for name in np.unique(labels):
        rows = order[labels[order] == name]
        rank[rows] = np.arange(len(rows))
    return np.union1d(order[:most], np.flatnonzero(rank < 50))


class Expression:
    """How unlike the log-normalised reference cells (n, genes) of labels 0, 1, 2 ... others are."""

    def __init__(self, x: csr_matrix, target: NDArray[np.int64]) -> None:
        from sklearn.decomposition import TruncatedSVD

        n_labels = target.max() + 1
        of_label = csr_matrix(
            (np.ones(len(target)), (target, np.arange(len(target)))), shape=(n_labels, len(target))
        )
        counts = np.bincount(target)
        self.means = np.asarray((of_label @ x).todense()) / counts[:, None]
        self.mean = np.asarray(x.mean(axis=0)).ravel()
        of_square = np.asarray(x.multiply(x).mean(axis=0)).ravel()
        within = of_square - counts @ np.square(self.means) / len(target)
        self.variance = np.maximum(within, 0) + 0.01  # a gene that is nowhere expressed still has a scale
        n_components = min(N_COMPONENTS, *(size - 1 for size in x.shape))
        self.components = TruncatedSVD(n_components, random_state=0).fit(x)
        z = self.components.transform(x)
        self.centres = np.stack([z[target == number].mean(0) for number in range(n_labels)])
        self.centre = z.mean(0)
        self.within, self.overall = _whitening(z - self.centres[target]), _whitening(z - self.centre)

    def __call__(self, x: csr_matrix) -> Floats:
        """(cells, 3), each the larger the more unlike: angle, distance gene by gene, in components."""
        from scipy.spatial.distance import cdist

        centred = self.means - self.mean
        dots = x @ centred.T - self.mean @ centred.T
        square = np.asarray(x.multiply(x).sum(axis=1)).ravel()
        length = square - 2 * (x @ self.mean) + np.square(self.mean).sum()
        cosine = dots / np.sqrt(np.maximum(length, 1e-12)[:, None] * np.square(centred).sum(1) + 1e-12)
        scaled = self.means / self.variance
        apart = np.asarray(x.multiply(x) @ (1 / self.variance))[:, None] - 2 * (x @ scaled.T)
        apart += (scaled * self.means).sum(1)
        z = self.components.transform(x)
        near = cdist(z @ self.within, self.centres @ self.within).min(1)
        far = np.linalg.norm((z - self.centre) @ self.overall, axis=1)
        return np.stack(
            [
                -np.arctanh(np.clip(cosine.max(1), -0.99, 0.99)),
                np.log(np.maximum(apart.min(1), 1e-6)) / 2,
                np.log((near + 1e-6) / (far + 1e-6)),
            ],
            axis=1,
        )


def _whitening(z: Floats) -> Floats:
    """Matrix after which the centred rows have the identity as their covariance."""
    from sklearn.covariance import LedoitWolf

    covariance = LedoitWolf(assume_centered=True).fit(z).covariance_
    covariance += 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance)) + 1e-9 * np.eye(
        len(z.T)
    )
    return np.linalg.cholesky(np.linalg.inv(covariance))


class Judge:
    """What labelled cells, as embeddings (n, dim) and log-normalised expression (n, genes), say of others."""

    def __init__(self, x: Floats, expression: csr_matrix, labels: NDArray[np.int64]) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        self.numbers, target = np.unique(labels, return_inverse=True)
        self.scale = StandardScaler().fit(x)
        self.classifier = LogisticRegression(max_iter=1000).fit(self.scale.transform(x), target)
        self.expression = Expression(expression, target)

    def __call__(self, x: Floats, expression: csr_matrix) -> tuple[NDArray[np.int64], Floats]:
        """Label of each cell, and its evidence (cells, 4): log-odds, then what :class:`Expression` says."""
        shares = self.classifier.predict_proba(self.scale.transform(x))
        top = np.clip(shares.max(1), 1e-6, 1 - 1e-6)
        odds = np.log(top / (1 - top))
        return self.numbers[shares.argmax(1)], np.column_stack([odds, self.expression(expression)])


@dataclass(frozen=True)
class Transfer:
    """A fitted transfer of labels; see the head of this module."""

    classes: NDArray[np.str_]  # labels, sorted
    judge: Judge  # of all reference cells
    calibration: Any  # what speaks for a label -> the chance that it is right
    unlike: Floats  # what Expression says of held-out reference cells (n, 3), each column ascending
    held_out_accuracy: float  # share of the reference cells that are labelled right when they are held out

    def predict(self, x: Floats, counts: csr_matrix) -> tuple[NDArray[np.str_], Floats]:
        """Labels and confidences, 0 to 1, of embeddings (n, dim) and raw counts (n, genes) of cells."""
        label, evidence = self.judge(x, log_normalised(counts))
        right = self.calibration.predict_proba(evidence)[:, 1]
        n = len(self.unlike)
        further = np.stack(
            [n - np.searchsorted(*pair) for pair in zip(self.unlike.T, evidence[:, 1:].T, strict=True)]
        )
        p_value = len(further) * (1 + further.min(axis=0)) / (1 + n)
        return self.classes[label], right * np.minimum(1, p_value / FAMILIAR)


def fit(x: Floats, counts: csr_matrix, labels: ArrayLike, seed: int = 0) -> Transfer:
    """Learn from the embeddings (n, dim) and raw counts (n, genes) of labelled cells.

    Raises :class:`UserError` when there are fewer than two labels, or a label has a single cell.
    """
    classes, target = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    sizes = np.bincount(target, minlength=1)
    if len(classes) < 2:
        raise UserError(f"reference: {len(classes)} label(s) ({', '.join(classes)}); expected two or more")
    if sizes.min() < 2:
        rare = ", ".join(classes[sizes < 2][:3])
        raise UserError(f"reference: a single cell of {rare}; expected two or more of each label, or none")
    expression = log_normalised(counts)
    cell_folds = np.empty(len(target), dtype=np.int64)  # the cells of each label dealt out in turn
    rng = np.random.default_rng(seed)
    n_folds = min(FOLDS, int(sizes.max()))
    order = rng.permutation(len(target))
    cell_folds[order[np.argsort(target[order], kind="stable")]] = np.arange(len(target)) % n_folds
    label_folds = (rng.permutation(len(classes)) % FOLDS)[target]
    label, known = _held_out(x, expression, target, cell_folds)
    right = label == target
    evidence, weight = known, np.ones(len(target))
    if len(classes) > 2:  # else nothing is left to choose from
        _, unknown = _held_out(x, expression, target, label_folds)
        evidence = np.concatenate([known, unknown])
        weight = np.repeat([1, UNKNOWN_WEIGHT], len(target))
    outcome = np.concatenate([right, np.zeros(len(evidence) - len(right), dtype=bool)])
    return Transfer(
        classes,
        Judge(x, expression, target),
        _calibrated(evidence, outcome, weight),
        np.sort(known[:, 1:], axis=0),
        float(right.mean()),
    )


def _held_out(
    x: Floats, expression: csr_matrix, target: NDArray[np.int64], folds: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Floats]:
    """What the cells of all other folds say of those of each."""
    label, evidence = np.empty(len(x), dtype=np.int64), np.empty((len(x), 4))
    for fold in np.unique(folds):
        out = folds == fold
        judge = Judge(x[~out], expression[~out], target[~out])
        label[out], evidence[out] = judge(x[out], expression[out])
    return label, evidence


def _calibrated(evidence: Floats, right: NDArray[np.bool_], weight: Floats) -> Any:
    """Platt scaling of all evidence; targets short of 0 and 1 keep it finite where all held-out are right."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    n_right, n_wrong = weight[right].sum(), weight[~right].sum()
    target = np.where(right, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    outcome = np.repeat([1, 0], len(right))
    weights = np.concatenate([weight * target, weight * (1 - target)])
    regression = make_pipeline(StandardScaler(), LogisticRegression())
    return regression.fit(np.tile(evidence, (2, 1)), outcome, logisticregression__sample_weight=weights)
