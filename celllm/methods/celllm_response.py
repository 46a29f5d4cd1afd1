"""A pre-trained encoder as a method of drug response: its cell lines beside TGDRP's drugs."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from celllm.corpus.expressed import from_csr, not_normalised
from celllm.graph.drugs import Drugs, GinEncoder
from celllm.methods.method import Choice, Method
from celllm.methods.pairs import Pairs, Predict, Responses, Screen, chosen_epoch, known_pairs, selection_score
from celllm.training.finetune_response import ResponseTuner
from celllm.training.model_row import read_embedder
from celllm.training.settings import ResponseSettings, TgdrpSettings


def prepare(screen: Screen, settings: ResponseSettings, row: Mapping[str, Any]) -> ResponseTuner:
    """Read the row's encoder; the output of its frozen layers for a cell line is shared by all fits.

    How the expression of a line becomes bins is a setting, ``line_bins``; of more genes than ``max_length``
    the highest or the first stay, as in cells.

    Raises :class:`UserError` for an encoder that is missing, damaged or of another gene list.
    """
    assert screen.genes is not None
    embedder = read_embedder(row.get("encoder"), row, screen.genes.vocabulary)
    genes = screen.genes.ids
    if settings.line_bins == "log2_tpm":
        cells = not_normalised(screen.tpm, genes)
    else:
        cells = from_csr(screen.counts, genes)
    drug_encoder = partial(gin_encoder, Drugs(screen.molecules), settings)
    return ResponseTuner(embedder, cells, genes, drug_encoder, settings)


def gin_encoder(drugs: Drugs, settings: TgdrpSettings) -> GinEncoder:
    """An untrained drug encoder of TGDRP."""
    sizes = settings.drug_layers, settings.drug_width, settings.drug_size
    return GinEncoder(drugs, *sizes, settings.dropout)


def fit(train: Pairs, settings: ResponseSettings, seed: int, shared: ResponseTuner) -> Predict:
    """Train the upper layers and the drug encoder for ``settings.epochs`` epochs."""
    model = shared.fit(known_pairs(train), settings.epochs, seed)
    return lambda pairs: model.predict(pairs.lines, pairs.drugs)


def choose(
    train: Pairs, selection: Pairs, settings: ResponseSettings, seed: int, shared: ResponseTuner
) -> Choice[Pairs, Responses]:
    """The same, the number of epochs chosen on the selection part."""
    score = selection_score(settings.select_by)
    return chosen_epoch(shared.choose(known_pairs(train), known_pairs(selection), score, seed))


METHODS = {"encoder": Method(fit, ResponseSettings, choose, prepare)}
