"""CellTypist (Domínguez Conde et al. 2022, Science 376:eabl5197), trained on the fold."""

import logging

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import log_expit, softmax

from celllm.methods.expression import log_normalised
from celllm.methods.method import Method, NotApplicableError, Part, Predict, Probabilities
from celllm.methods.settings import CellTypistSettings


def fit_celltypist(cells: Part, settings: CellTypistSettings, seed: int) -> Predict:
    """Scaled expression, logistic regression by stochastic gradient descent, as in the library's own models.

    Its other solver asks scikit-learn for an argument that release 1.8 dropped.
    """
    try:
        from celltypist import logger, train
    except ImportError as error:
        raise NotApplicableError("CellTypist is not installed; pip install celltypist") from error
    logger.set_level(logging.WARNING)
    names = np.arange(cells.counts.shape[1]).astype(str)
    model = train(
        log_normalised(cells.counts),
        labels=cells.known,
        genes=names,
        check_expression=False,  # ours are normalised in float32, and a cell may be empty
        use_SGD=True,
        alpha=settings.alpha,
        max_iter=settings.max_iterations,
        random_state=seed,
    )
    genes = model.features.astype(int)

    def predict(part: Part) -> Probabilities:
        x = csr_matrix(log_normalised(part.counts)[:, genes]).toarray()
        scores = model.classifier.decision_function(np.minimum(model.scaler.transform(x), 10))
        scores = scores if scores.ndim == 2 else np.column_stack([-scores, scores])
        return Probabilities(shares(scores), model.classifier.classes_)

    return predict


def shares(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The classes' sigmoids as shares of 1, the class of the highest score on top, as in the library.

    scikit-learn's ``predict_proba`` gives every class the same where all sigmoids round to 0, and the first
    of those that round to 1: scores of thousands of scaled genes lie in the hundreds.
    """
    values = softmax(log_expit(scores), axis=1)
    values[np.arange(len(scores)), scores.argmax(axis=1)] += 1e-6
    return values / values.sum(axis=1, keepdims=True)


METHODS = {"celltypist": Method(fit_celltypist, CellTypistSettings)}
