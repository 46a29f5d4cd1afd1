"""Settings of the methods without an encoder of ours."""

from typing import Literal

from celllm.graph.settings import DrugPooling
from celllm.settings import Count, Settings, setting
from celllm.training.settings import FinetuneSettings, RegressionSettings, ResponseSettings, TgdrpSettings


class NoSettings(Settings):
    """Of a method that has none."""


class LinearSettings(Settings):
    """Of the linear classifiers; nothing is scaled, the penalty is chosen by accuracy."""

    c: float = setting(1.0, "inverse strength of the penalty, where none is chosen", gt=0)
    grid: tuple[float, ...] = setting((0.01, 0.1, 1.0, 10.0), "values of `c` to choose from", min_length=1)
    max_iterations: int = setting(1000, "iterations of the solver at most", ge=1)


class LogisticSettings(LinearSettings):
    """Of the logistic regressions."""


class VariableGenesSettings(LogisticSettings):
    """Of the logistic regression on variable genes."""

    n_top_genes: int = setting(2000, "most variable genes among the training cells; 0: all", ge=0)


class CellTypistSettings(Settings):
    """Of CellTypist: the library's defaults."""

    alpha: float = setting(1e-4, "strength of the penalty", gt=0)
    max_iterations: int = setting(1000, "passes over the cells at most", ge=1)


class NearestSettings(Settings):
    """Of k-NN; the number shrinks where there are fewer training cells."""

    k: int = setting(15, "neighbours", ge=1)


class NeighbourSettings(NearestSettings):
    """Of k-NN on PCA; components shrink too where there are fewer training cells or genes."""

    n_components: int = setting(50, "principal components", ge=1)


class IngestSettings(Settings):
    """Of the label transfer: Scanpy's defaults; the paper gives none."""

    n_top_genes: int = setting(2000, "most variable genes among the training cells; 0: all", ge=0)
    n_components: int = setting(50, "principal components", ge=1)
    n_neighbors: int = setting(15, "neighbours", ge=1)


class ScanviSettings(Settings):
    """Of scANVI: those of the library's tutorial on label transfer."""

    n_top_genes: int = setting(2000, "most variable genes among the training cells; 0: all", ge=0)
    n_latent: int = setting(30, "latent dimensions", ge=1)
    n_layers: int = setting(2, "hidden layers of encoder and decoder", ge=1)
    epochs: int | None = setting(
        None, "passes over the cells without labels; null: the library's, 400 for up to 20,000 cells", ge=1
    )
    label_epochs: int = setting(20, "passes over the cells with labels", ge=1)


class RidgeSettings(Settings):
    """Of the ridge regressions on expression."""

    penalty: float = setting(5.0, "of squared weights, where a training line has mean square length 1", gt=0)


class BoostingSettings(Settings):
    """Of the gradient-boosted trees."""

    n_components: int = setting(50, "components of the expression, fitted to the training lines", ge=1)
    n_trees: int = setting(300, "trees", ge=1)
    learning_rate: float = setting(0.1, "shrinkage of a tree", gt=0)
    max_leaves: int = setting(31, "leaves of a tree at most", ge=2)


class DeepCdrSettings(TgdrpSettings):
    """Of DeepCDR as the authors of CellLM ran it: its expression layers in TGDRP."""

    expression_layers: tuple[Count, Count] = setting(
        (256, 100), "two widths between log2(TPM + 1) and the cell layers (released)"
    )
    expression_dropout: float = setting(0.1, "after the first of them (released)", ge=0, lt=1)


class DeepCdrOriginalSettings(RegressionSettings):
    """Of DeepCDR; the defaults are those of its released code, but for the epochs."""

    epochs: int = setting(500, "epochs at most (released: 100)", ge=1)
    select_by: Literal["rmse", "pearson"] = setting("pearson", "metric that chooses the epoch")
    batch_size: int = setting(64, "pairs of one optimiser step", ge=2)
    learning_rate: float = setting(1e-3, "of Adam, constant", gt=0)
    drug_layers: tuple[Count, ...] = setting(
        (256, 256, 256, 100), "widths of the graph convolutions; the last is the drug vector", min_length=1
    )
    drug_pooling: DrugPooling = setting(
        "max", "over the atoms: max (its paper) or mean (its script, run without options)"
    )
    cell_layers: tuple[Count, Count] = setting((256, 100), "two widths; the last is the cell vector")
    dropout: float = setting(0.1, "of all layers", ge=0, lt=1)


# Method, as in :data:`celllm.methods.CELLS` and :data:`celllm.methods.PAIRS`, -> its settings.
CELL_SETTINGS: dict[str, type[Settings]] = {
    "majority": NoSettings,
    "random": NoSettings,
    "knn_pca": NeighbourSettings,
    "logistic_regression": LogisticSettings,
    "l1_logistic_regression": LogisticSettings,
    "logistic_regression_2000": VariableGenesSettings,
    "linear_svm": LinearSettings,
    "permuted": LogisticSettings,
    "celltypist": CellTypistSettings,
    "scanvi": ScanviSettings,
    "scanpy_ingest": IngestSettings,
    "encoder": FinetuneSettings,
}
# Head on an embedding made elsewhere -> its settings; those of the paper's head are the task's `finetuning`.
HEAD_SETTINGS: dict[str, type[Settings]] = {
    "knn": NearestSettings,
    "linear": LinearSettings,
    "paper": FinetuneSettings,
}
PAIR_SETTINGS: dict[str, type[Settings]] = {
    "drug_mean": NoSettings,
    "drug_mean_line_mean": NoSettings,
    "ridge": RidgeSettings,
    "ridge_by_drug": RidgeSettings,
    "line_mean_ridge_by_drug": RidgeSettings,
    "shuffled_ridge_by_drug": RidgeSettings,
    "gradient_boosting": BoostingSettings,
    "permuted": RidgeSettings,
    "deepcdr": DeepCdrSettings,
    "deepcdr_original": DeepCdrOriginalSettings,
    "encoder": ResponseSettings,
}
