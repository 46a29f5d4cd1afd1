"""Logistic regression on principal components: a method for the tables, outside the package."""

from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from celllm.methods.expression import log_normalised
from celllm.methods.method import Method, Part, Predict, Probabilities


def fit(train: Part, settings: object, seed: int) -> Predict:
    """Components of the training cells and a classifier on them."""
    x = log_normalised(train.counts)
    components = PCA(min(20, min(x.shape) - 1), svd_solver="arpack", random_state=seed)
    model = make_pipeline(components, LogisticRegression(max_iter=1000)).fit(x, train.known)
    return lambda cells: Probabilities(model.predict_proba(log_normalised(cells.counts)), model.classes_)


METHOD = Method(fit)
