"""CellTypist (Domínguez Conde et al. 2022, Science 376:eabl5197), trained on the fold."""

import logging

import numpy as np
from scipy.sparse import csr_matrix

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
        scaled = np.minimum(model.scaler.transform(x), 10)
        return Probabilities(model.classifier.predict_proba(scaled), model.classifier.classes_)

    return predict


METHODS = {"celltypist": Method(fit_celltypist, CellTypistSettings)}
