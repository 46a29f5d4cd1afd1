"""Labels of reference cells handed on to others by their embeddings, with a confidence that means something.

A logistic regression on the standardised embeddings names the label. Its probability is not the chance of
being right, and says nothing of cells unlike any in the reference; both are learned from reference cells held
out of the fit, fold by fold:

- calibration: how often a label of such a probability is right (Platt 1999, with his smoothed targets);
- familiarity: the share of held-out cells that lie at least as far from the nearest mean of a label, in the
  metric of the covariance within labels (Mahalanobis distance as in Lee et al. 2018, conformal p-value as in
  Vovk et al. 2005). A cell further out than 95 % of them loses confidence in proportion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celllm.errors import UserError

Floats = NDArray[np.floating]

METHOD = "logistic regression; Platt scaling and conformal Mahalanobis distance, on held-out reference cells"
FAMILIAR = 0.05
"""P-value of the distance below which a cell loses confidence."""
FOLDS = 5


class Judge:
    """What reference cells (n, dim) with labels 0, 1, 2 ... say of others."""

    def __init__(self, x: Floats, target: NDArray[np.int64]) -> None:
        from sklearn.covariance import LedoitWolf
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        self.scale = StandardScaler().fit(x)
        z = self.scale.transform(x)
        self.classifier = LogisticRegression(max_iter=1000).fit(z, target)
        self.means = np.stack([z[target == number].mean(0) for number in range(target.max() + 1)])
        within = LedoitWolf(assume_centered=True).fit(z - self.means[target]).covariance_
        within += 1e-3 * np.eye(len(within))  # of the variance of all cells: none is left where all are alike
        self.whiten = np.linalg.cholesky(np.linalg.inv(within))

    def __call__(self, x: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Of each cell (n, dim): its label, the log-odds of that, and the distance to the nearest mean."""
        from scipy.spatial.distance import cdist

        z = self.scale.transform(x)
        shares = self.classifier.predict_proba(z)
        top = np.clip(shares.max(1), 1e-6, 1 - 1e-6)
        distance = cdist(z @ self.whiten, self.means @ self.whiten).min(1)
        return shares.argmax(1), np.log(top / (1 - top)), distance


@dataclass(frozen=True)
class Transfer:
    """A fitted transfer of labels; see the head of this module.

    Attributes
    ----------
    classes
        Labels, sorted.
    judge
        Of all reference cells.
    calibration
        Logistic regression: log-odds -> whether the label is right.
    distances
        Of held-out reference cells, ascending.
    held_out_accuracy
        Share of the reference cells that are labelled right when they are held out.
    """

    classes: NDArray[np.str_]
    judge: Judge
    calibration: Any
    distances: Floats
    held_out_accuracy: float

    def predict(self, x: Floats) -> tuple[NDArray[np.str_], Floats]:
        """Labels and confidences, 0 to 1, of embeddings (n, dim)."""
        label, odds, distance = self.judge(x)
        right = self.calibration.predict_proba(odds[:, None])[:, 1]
        n = len(self.distances)
        p_value = (1 + n - np.searchsorted(self.distances, distance)) / (1 + n)
        return self.classes[label], right * np.minimum(1, p_value / FAMILIAR)


def fit(x: Floats, labels: Sequence[str] | NDArray[np.str_], seed: int = 0) -> Transfer:
    """Learn from the embeddings (n, dim) of labelled cells.

    Raises
    ------
    UserError
        When there are fewer than two labels, or a label has a single cell.
    """
    from sklearn.model_selection import StratifiedKFold

    classes, target = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    counts = np.bincount(target, minlength=1)
    if len(classes) < 2:
        raise UserError(f"reference: {len(classes)} label(s) ({', '.join(classes)}); expected two or more")
    if counts.min() < 2:
        rare = ", ".join(classes[counts < 2][:3])
        raise UserError(f"reference: a single cell of {rare}; expected two or more of each label, or none")
    label, odds, distance = np.empty(len(x), dtype=np.int64), np.empty(len(x)), np.empty(len(x))
    folds = StratifiedKFold(min(FOLDS, int(counts.min())), shuffle=True, random_state=seed)
    for train, held_out in folds.split(x, target):
        judged = Judge(x[train], target[train])(x[held_out])
        label[held_out], odds[held_out], distance[held_out] = judged
    right = label == target
    return Transfer(
        classes, Judge(x, target), _calibrated(odds, right), np.sort(distance), float(right.mean())
    )


def _calibrated(odds: Floats, right: NDArray[np.bool_]) -> Any:
    """Platt scaling; targets short of 0 and 1 keep it finite where all held-out cells are right."""
    from sklearn.linear_model import LogisticRegression

    target = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))
    outcome = np.repeat([1, 0], len(odds))
    weights = np.concatenate([target, 1 - target])
    return LogisticRegression(C=np.inf).fit(np.tile(odds, 2)[:, None], outcome, sample_weight=weights)
