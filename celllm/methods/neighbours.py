"""The nearest training cells in the space of the first principal components."""

from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from celllm.methods.expression import log_normalised
from celllm.methods.method import Method, Part, Predict, Probabilities
from celllm.methods.settings import NeighbourSettings


def fit_knn_pca(train: Part, settings: NeighbourSettings, seed: int) -> Predict:
    """Majority of the k nearest training cells; components and neighbours are of training cells only."""
    x = log_normalised(train.counts)
    model = make_pipeline(
        PCA(min(settings.n_components, min(x.shape) - 1), svd_solver="arpack", random_state=seed),
        KNeighborsClassifier(min(settings.k, len(train))),
    ).fit(x, train.known)
    return lambda part: Probabilities(model.predict_proba(log_normalised(part.counts)), model.classes_)


METHODS = {"knn_pca": Method(fit_knn_pca, NeighbourSettings)}
