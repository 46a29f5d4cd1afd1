"""Linear classifiers on log-normalised expression: the controls that are hard to beat."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from celllm.methods.expression import log_normalised, variable_genes
from celllm.methods.method import Announce, Choice, Labels, Method, Part, Predict, Probabilities
from celllm.methods.settings import LinearSettings, LogisticSettings, VariableGenesSettings
from celllm.scores import metrics


def fit_l2(train: Part, settings: LogisticSettings, seed: int) -> Predict:
    """Multinomial logistic regression with L2 penalty; it has one solution, the seed has no part in it."""
    return _fit(LogisticRegression(C=settings.c, max_iter=settings.max_iterations), train)


def fit_l2_variable(train: Part, settings: VariableGenesSettings, seed: int) -> Predict:
    """The same on the genes that vary most among the training cells; all counts normalise a cell."""
    genes = variable_genes(log_normalised(train.counts), settings.n_top_genes)
    model = LogisticRegression(C=settings.c, max_iter=settings.max_iterations)
    model.fit(log_normalised(train.counts)[:, genes], train.known)
    return lambda part: Probabilities(
        model.predict_proba(log_normalised(part.counts)[:, genes]), model.classes_
    )


def fit_l1(train: Part, settings: LogisticSettings, seed: int) -> Predict:
    """One-against-rest logistic regressions with L1 penalty, by coordinate descent (liblinear)."""
    one = LogisticRegression(
        l1_ratio=1.0, C=settings.c, solver="liblinear", max_iter=settings.max_iterations, random_state=seed
    )
    return _fit(OneVsRestClassifier(one), train)


def fit_svm(train: Part, settings: LinearSettings, seed: int) -> Predict:
    """Linear support vector machine, one against the rest; it gives no probabilities."""
    model = LinearSVC(C=settings.c, max_iter=settings.max_iterations, random_state=seed)
    model.fit(log_normalised(train.counts), train.known)
    return lambda part: model.predict(log_normalised(part.counts))


def fit_permuted(train: Part, settings: LogisticSettings, seed: int) -> Predict:
    """Logistic regression on labels dealt out anew: what it has above chance comes from a leak.

    The classes exchange their names at random, too. Without that the larger class wins wherever a cell lies
    between the others, whatever the draw, and where such cells are mostly of one class the row is off chance
    on average with no leak at all.
    """
    draw = np.random.default_rng(seed)
    classes, dealt = np.unique(draw.permutation(train.known), return_inverse=True)
    return fit_l2(replace(train, labels=draw.permutation(classes)[dealt]), settings, seed)


def _fit(model: LogisticRegression | OneVsRestClassifier, train: Part) -> Predict:
    model.fit(log_normalised(train.counts), train.known)
    return lambda part: Probabilities(model.predict_proba(log_normalised(part.counts)), model.classes_)


def choose_c(
    train: Part,
    selection: Part,
    settings: LinearSettings,
    seed: int,
    announce: Announce | None = None,
    *,
    fit: Callable[[Part, Any, int], Predict],
) -> Choice[Part, Labels | Probabilities]:
    """Choose the penalty by accuracy on the selection part; of equals the strongest."""
    unlabelled = replace(selection, labels=None)
    tried = {}
    for c in sorted(settings.grid):
        start = time.perf_counter()
        tried[c] = fit(train, settings.changed(c=c), seed)
        if announce is not None:
            announce({"c": c}, tried[c], time.perf_counter() - start)

    def accuracy(c: float) -> float:
        predicted = tried[c](unlabelled)
        labels = predicted.labels if isinstance(predicted, Probabilities) else predicted
        return metrics.accuracy(selection.known, labels)

    best = max(tried, key=accuracy)
    return Choice({"c": best}, tried[best])


METHODS = {
    "permuted": Method(fit_permuted, LogisticSettings),
} | {
    name: Method(fit, settings, partial(choose_c, fit=fit), announces=True)
    for name, fit, settings in (
        ("logistic_regression", fit_l2, LogisticSettings),
        ("l1_logistic_regression", fit_l1, LogisticSettings),
        ("logistic_regression_2000", fit_l2_variable, VariableGenesSettings),
        ("linear_svm", fit_svm, LinearSettings),
    )
}
