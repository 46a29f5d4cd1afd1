"""Logistic regression on log-normalised expression: the control that is hard to beat."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from celllm.methods.expression import log_normalised, variable_genes
from celllm.methods.method import Method, Part, Predict
from celllm.methods.settings import LogisticSettings, VariableGenesSettings


def fit_l2(train: Part, selection: Part | None, settings: LogisticSettings, seed: int) -> Predict:
    """Multinomial logistic regression with L2 penalty; it has one solution, the seed has no part in it."""
    return _fit(LogisticRegression(C=settings.c, max_iter=settings.max_iterations), train)


def fit_l2_variable(
    train: Part, selection: Part | None, settings: VariableGenesSettings, seed: int
) -> Predict:
    """The same on the genes that vary most among the training cells."""
    genes = variable_genes(log_normalised(train.counts), settings.n_top_genes)
    model = LogisticRegression(C=settings.c, max_iter=settings.max_iterations)
    return _fit(model, train, genes)


def fit_l1(train: Part, selection: Part | None, settings: LogisticSettings, seed: int) -> Predict:
    """One-against-rest logistic regressions with L1 penalty, by coordinate descent (liblinear)."""
    one = LogisticRegression(
        l1_ratio=1.0, C=settings.c, solver="liblinear", max_iter=settings.max_iterations, random_state=seed
    )
    return _fit(OneVsRestClassifier(one), train)


def _fit(
    model: LogisticRegression | OneVsRestClassifier,
    train: Part,
    genes: slice | NDArray[np.int64] = slice(None),
) -> Predict:
    """Fit on some genes; a cell is normalised by all of its counts."""
    model.fit(log_normalised(train.counts)[:, genes], train.known)
    return lambda part: model.predict(log_normalised(part.counts)[:, genes])


METHODS = {
    "logistic_regression": Method(fit_l2, LogisticSettings),
    "l1_logistic_regression": Method(fit_l1, LogisticSettings),
    "logistic_regression_2000": Method(fit_l2_variable, VariableGenesSettings),
}
