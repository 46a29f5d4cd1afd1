"""scANVI (Xu et al. 2021, Mol. Syst. Biol. 17:e9620), trained on the fold; scvi-tools is an extra."""

import logging
from typing import Any

import numpy as np
from anndata import AnnData

from celllm.methods.expression import log_normalised, variable_genes
from celllm.methods.method import Method, NotApplicableError, Part, Predict, Probabilities
from celllm.methods.settings import ScanviSettings

_LABEL, _UNKNOWN = "label", "unlabelled"


def fit_scanvi(cells: Part, settings: ScanviSettings, seed: int) -> Predict:
    """SCVI on the counts of the training cells' variable genes, then scANVI with their labels.

    Test cells take no part in the training. Classes are numbered, so that no label can be the library's word
    for a cell without one.
    """
    try:
        import scvi
    except ImportError as error:
        raise NotApplicableError("scvi-tools is not installed; pip install 'celllm[scvi]'") from error
    scvi.settings.seed = seed
    for name in ("scvi", "lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    genes = variable_genes(log_normalised(cells.counts), settings.n_top_genes)
    classes, numbers = np.unique(cells.known, return_inverse=True)

    def data(part: Part, labels: Any) -> AnnData:
        made = AnnData(part.counts[:, genes].astype(np.float32))
        made.obs_names, made.var_names = part.ids.astype(str), genes.astype(str)
        made.obs[_LABEL] = labels
        return made

    reference = data(cells, [f"class {number}" for number in numbers])
    scvi.model.SCVI.setup_anndata(reference, labels_key=_LABEL)
    unsupervised = scvi.model.SCVI(reference, n_latent=settings.n_latent, n_layers=settings.n_layers)
    quiet = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False}
    unsupervised.train(max_epochs=settings.epochs, **quiet)
    model = scvi.model.SCANVI.from_scvi_model(unsupervised, _UNKNOWN, labels_key=_LABEL)
    model.train(max_epochs=settings.label_epochs, n_samples_per_label=100, **quiet)

    def predict(part: Part) -> Probabilities:
        found = model.predict(data(part, _UNKNOWN), soft=True)
        order = [f"class {number}" for number in range(len(classes))]
        values = found[order].to_numpy(dtype=float)
        return Probabilities(values / values.sum(axis=1, keepdims=True), classes)

    return predict


METHODS = {"scanvi": Method(fit_scanvi, ScanviSettings)}
