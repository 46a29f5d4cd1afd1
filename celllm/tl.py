"""Tools for an AnnData, in scanpy's manner: they write their results into it."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from celllm.errors import UserError
from celllm.io import atomic, write_csv

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from celllm.model.embedder import Embedder

log = logging.getLogger(__name__)

How = Literal["mean", "cls"]


def embed(
    adata: "AnnData",
    model: "Embedder | str | Path",
    key_added: str = "X_celllm",
    **options: Any,
) -> None:
    """Write embeddings of all cells to ``adata.obsm[key_added]``, and how they were made to ``adata.uns``.

    Parameters
    ----------
    adata
        Cells x genes with raw counts somewhere; nothing else in it is changed.
    model
        What :func:`celllm.load` returns, or what it takes.
    key_added
        Key in ``obsm`` and ``uns``.
    options
        Of :meth:`celllm.model.embedder.Embedder.embed`: ``how``, ``layer``, ``gene_key``, ``token_budget``,
        ``progress``.
    """
    model = loaded(model)
    adata.obsm[key_added] = model.embed(adata, **options)
    adata.uns[key_added] = {"model": model.name, "how": options.get("how", "mean")}


def annotate(
    adata: "AnnData",
    reference: "AnnData",
    label_key: str,
    model: "Embedder | str | Path",
    how: How = "mean",
    layer: str | None = None,
    gene_key: str | None = None,
    progress: bool = True,
) -> None:
    """Label cells by labelled ones: ``adata.obs["celllm_label"]`` and ``adata.obs["celllm_confidence"]``.

    The confidence is the chance that the label is right, calibrated on reference cells that were held out and
    on labels that were left out; that of a cell whose expression is unlike the reference falls to 0.
    ``adata.uns["celllm_annotate"]`` names the method and says which share of the held-out reference cells was
    labelled right. See :mod:`celllm.methods.transfer`.

    Parameters
    ----------
    adata
        The cells to label.
    reference
        Labelled cells; those without a label take no part, and of more than 20,000 a random choice does.
    label_key
        Column of ``reference.obs``.
    model
        What :func:`celllm.load` returns, or what it takes.
    how, layer, gene_key, progress
        Of :meth:`celllm.model.embedder.Embedder.embed`, for both.

    Raises
    ------
    UserError
        For no such column, fewer than two labels, or cells that cannot be embedded.
    """
    options: dict[str, Any] = {"how": how, "layer": layer, "gene_key": gene_key, "progress": progress}
    made = _annotated(adata, reference, reference.obs, label_key, loaded(model), **options)
    adata.obs["celllm_label"], adata.obs["celllm_confidence"], adata.uns["celllm_annotate"] = made
    adata.obs["celllm_label"] = adata.obs["celllm_label"].astype("category")


def _annotated(
    cells: "AnnData | str | Path",
    reference: "AnnData | str | Path",
    obs: "pd.DataFrame",
    label_key: str,
    model: "Embedder",
    **options: Any,
) -> "tuple[NDArray[np.str_], NDArray[np.floating], dict[str, Any]]":
    """Labels, their confidence, and what is known of how they were made."""
    import pandas as pd
    from scipy.sparse import vstack

    from celllm.cells.raw import category_names, check_labels, warn_of_missing_words
    from celllm.methods import transfer

    if label_key not in obs:
        there = ", ".join(map(str, obs)) or "none"
        raise UserError(f"reference: obs has no column '{label_key}'; there are {there}")
    names = pd.Series(category_names(obs[label_key]), obs.index, dtype=object)
    known = np.flatnonzero(names.notna())
    where = f"reference: obs['{label_key}']"
    check_labels(names.iloc[known], where)
    warn_of_missing_words(names.iloc[known], where)
    labels = names.iloc[known].to_numpy(dtype=str)
    if (n_labels := len(np.unique(labels))) < 2:
        raise UserError(f"reference: obs['{label_key}'] has {n_labels} label(s); expected two or more")
    used = transfer.thinned(labels)
    taught = list(model.blocks(reference, rows=known[used], **options))
    x, counts = np.concatenate([x for _, x in taught]), vstack([counts for counts, _ in taught]).tocsr()
    fitted = transfer.fit(x, counts, labels[used])
    facts = {
        "method": transfer.METHOD,
        "model": model.name,
        "how": options["how"],
        "label_key": label_key,
        "n_reference": len(used),
        "held_out_accuracy": fitted.held_out_accuracy,
    }
    found = [fitted.predict(x, counts) for counts, x in model.blocks(cells, **options)]
    labels, confidence = map(np.concatenate, zip(*found, strict=True))
    return labels, confidence, facts


def loaded(model: "Embedder | str | Path") -> "Embedder":
    """A model, read if its place is given."""
    from celllm.model.folder import load

    return load(model) if isinstance(model, str | Path) else model


def run_embed(
    file: str | Path,
    /,
    model: str | Path,
    out: str | Path,
    how: How = "mean",
    layer: str | None = None,
    gene_key: str | None = None,
    device: str = "auto",
) -> None:
    """Cells of your own and a model -> one vector for each cell.

    Parameters
    ----------
    file
        ``.h5ad`` with raw counts somewhere.
    model
        Folder or file of a model, or the name of one from a hub that is on disk.
    out
        ``.h5ad`` with the cells' ``obs`` and the embeddings in ``obsm["X_celllm"]``, or ``.npy`` with the
        embeddings alone, in the order of the cells.
    how
        ``mean`` over a cell's genes, or ``cls``, the vector of [CLS].
    layer, gene_key
        Where the counts and the names of the genes stand; found when left out.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
    """
    from anndata import AnnData

    from celllm.cells.counts import read_obs
    from celllm.model.folder import load

    if (suffix := Path(out).suffix) not in (".h5ad", ".npy"):
        raise UserError(f"{out}: expected a name that ends in .h5ad or .npy")
    embedder = load(model, device)
    vectors = embedder.embed(file, how, layer, gene_key)
    with atomic(out) as partial:
        if suffix == ".npy":
            np.save(partial, vectors)
        else:
            facts = {"model": embedder.name, "how": how}
            made = AnnData(obs=read_obs(file), obsm={"X_celllm": vectors}, uns={"X_celllm": facts})
            made.write_h5ad(partial)
    log.info("%s: %d cells x %d", out, *vectors.shape)


def run_annotate(
    file: str | Path,
    /,
    reference: str | Path,
    label_key: str,
    model: str | Path,
    out: str | Path,
    layer: str | None = None,
    gene_key: str | None = None,
    device: str = "auto",
) -> None:
    """Cells of your own, labelled ones and a model -> a label and a confidence for each cell.

    Parameters
    ----------
    file, reference
        ``.h5ad`` with raw counts somewhere.
    label_key
        Column of the reference's ``obs`` with the labels.
    model
        Folder or file of a model, or the name of one from a hub that is on disk.
    out
        CSV with ``cell, label, confidence``, in the order of the cells.
    layer, gene_key
        Where the counts and the names of the genes stand, in both files; found when left out.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
    """
    from celllm.cells.counts import read_obs
    from celllm.model.folder import load

    embedder = load(model, device)
    obs, cells = read_obs(reference), read_obs(file).index
    options: dict[str, Any] = {"how": "mean", "layer": layer, "gene_key": gene_key, "progress": True}
    labels, confidence, facts = _annotated(file, reference, obs, label_key, embedder, **options)
    lines = zip(cells, labels, (f"{value:.4f}" for value in confidence), strict=True)
    write_csv(out, ("cell", "label", "confidence"), lines)
    log.info("%s: %s", out, ", ".join(f"{name} {value}" for name, value in facts.items()))
