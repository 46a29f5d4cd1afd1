"""Logistic regression on log-normalised expression of all genes: the control that is hard to beat."""

from dataclasses import dataclass

from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from celllm.baselines.expression import log_normalised
from celllm.baselines.method import Method, Part, Predict


@dataclass(frozen=True)
class LogisticSettings:
    """Settings of the logistic regressions; nothing is scaled, nothing is chosen."""

    c: float = 1.0  # inverse strength of the penalty
    max_iterations: int = 1000


def fit_l2(train: Part, selection: Part | None, settings: LogisticSettings, seed: int) -> Predict:
    """Multinomial logistic regression with L2 penalty; it has one solution, the seed has no part in it."""
    return _fit(LogisticRegression(C=settings.c, max_iter=settings.max_iterations), train)


def fit_l1(train: Part, selection: Part | None, settings: LogisticSettings, seed: int) -> Predict:
    """One-against-rest logistic regressions with L1 penalty, by coordinate descent (liblinear)."""
    one = LogisticRegression(
        l1_ratio=1.0, C=settings.c, solver="liblinear", max_iter=settings.max_iterations, random_state=seed
    )
    return _fit(OneVsRestClassifier(one), train)


def _fit(model: LogisticRegression | OneVsRestClassifier, train: Part) -> Predict:
    model.fit(log_normalised(train.counts), train.known)
    return lambda part: model.predict(log_normalised(part.counts))


METHODS = {
    "logistic_regression": Method(fit_l2, LogisticSettings),
    "l1_logistic_regression": Method(fit_l1, LogisticSettings),
}
