"""A pre-trained encoder as a method of drug response: its cell lines beside TGDRP's drugs."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from celllm.cells.genes import Vocabulary
from celllm.corpus.expressed import from_csr
from celllm.graph.drugs import Drugs, GinEncoder
from celllm.methods.method import Method
from celllm.methods.pairs import Pairs, Predict, Responses, known_pairs, selection_score
from celllm.settings import fill
from celllm.tasks.screen import ScreenData
from celllm.training.finetune_response import ResponseSettings, ResponseTuner
from celllm.training.model_row import read_embedder


def response_encoder_method(
    file: str | Path | None,
    row: Mapping[str, Any],
    settings: Mapping[str, Any] | str | None,
    data: ScreenData,
    vocabulary: Vocabulary,
) -> tuple[Method[Pairs, Responses], ResponseSettings, bool]:
    """Make a method of an encoder; the output of its frozen layers is shared by all fits.

    The expression of a cell line becomes tokens as the counts of a cell do: ``x = ln(1 + 10^4 n / sum n)``
    with TPM in place of counts, its bins, and of more genes than ``max_length`` the highest.

    Parameters
    ----------
    file, row
        See :func:`celllm.training.model_row.read_embedder`.
    settings : mapping or JSON
        See :class:`ResponseSettings`.
    data : ScreenData
        All pairs, with the vocabulary indices of the genes.
    vocabulary : Vocabulary
        The genes of the run.

    Returns
    -------
    The method, its settings, and whether it runs on a GPU.

    Raises
    ------
    UserError
        For wrong settings, or an encoder that is missing, damaged or of another gene list.
    """
    chosen = fill(ResponseSettings, settings)
    embedder = read_embedder(file, row, vocabulary)
    screen = data.pairs.screen
    drug_encoder = partial(
        GinEncoder,
        Drugs(screen.molecules),
        n_layers=chosen.drug_layers,
        width=chosen.drug_width,
        size=chosen.drug_size,
        dropout=chosen.dropout,
    )
    cells = from_csr(screen.counts, data.genes)
    tuner = ResponseTuner(embedder, cells, data.genes, drug_encoder, chosen)
    score = selection_score(chosen.select_by)

    def fit(train: Pairs, selection: Pairs | None, settings: ResponseSettings, seed: int) -> Predict:
        if selection is None:
            raise ValueError("fine-tuning chooses its epoch on a selection part, and there is none")
        model = tuner.fit(known_pairs(train), known_pairs(selection), score, seed)
        return lambda pairs: model.predict(pairs.lines, pairs.drugs)

    return Method(fit, ResponseSettings, chooses=True), chosen, embedder.device.type == "cuda"
