"""Methods that ignore the cell: the floor for every score."""

import numpy as np

from celllm.methods.method import Labels, Method, Part, Predict
from celllm.methods.settings import NoSettings


def fit_majority(train: Part, settings: NoSettings, seed: int) -> Predict:
    """Always predict the most frequent class of the training cells (ties: the first in the alphabet)."""
    classes, counts = np.unique(train.known, return_counts=True)
    most = classes[counts.argmax()]
    return lambda part: np.full(len(part), most)


def fit_random(train: Part, settings: NoSettings, seed: int) -> Predict:
    """Draw every label with the frequencies of the classes among the training cells."""
    classes, counts = np.unique(train.known, return_counts=True)

    def predict(part: Part) -> Labels:
        return np.random.default_rng(seed).choice(classes, size=len(part), p=counts / counts.sum())

    return predict


METHODS = {
    "majority": Method(fit_majority, NoSettings),
    "random": Method(fit_random, NoSettings),
}
