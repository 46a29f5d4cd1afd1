"""A pre-trained encoder as a method of drug response: its cell lines beside TGDRP's drugs."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from celllm.corpus.expressed import from_csr
from celllm.graph.drugs import Drugs, GinEncoder
from celllm.methods.method import Choice, Method
from celllm.methods.pairs import Pairs, Predict, Responses, Screen, chosen_epoch, known_pairs, selection_score
from celllm.training.finetune_response import ResponseSettings, ResponseTuner
from celllm.training.model_row import read_embedder


def prepare(screen: Screen, settings: ResponseSettings, row: Mapping[str, Any]) -> ResponseTuner:
    """Read the row's encoder; the output of its frozen layers for a cell line is shared by all fits.

    The expression of a cell line becomes tokens as the counts of a cell do: ``x = ln(1 + 10^4 n / sum n)``
    with TPM in place of counts, its bins, and of more genes than ``max_length`` the highest.

    Raises
    ------
    UserError
        For an encoder that is missing, damaged or of another gene list.
    """
    assert screen.genes is not None
    embedder = read_embedder(row.get("encoder"), row, screen.genes.vocabulary)
    drug_encoder = partial(
        GinEncoder,
        Drugs(screen.molecules),
        n_layers=settings.drug_layers,
        width=settings.drug_width,
        size=settings.drug_size,
        dropout=settings.dropout,
    )
    genes = screen.genes.ids
    return ResponseTuner(embedder, from_csr(screen.counts, genes), genes, drug_encoder, settings)


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
