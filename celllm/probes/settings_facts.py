"""The settings that a run really uses, defaults spelled out, as facts beside the paper's Table F.1.

The facts come from what the other verbs are given: the model's row and the settings of its training, each
filled into the dataclass that its verb fills. What no setting decides stands in ``FIXED``, and a test holds
it to the code.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from celllm.cells.genes import Vocabulary
from celllm.errors import UserError
from celllm.io import write_json
from celllm.model.encoder import Encoder, count_parameters
from celllm.model.heads import Activation, feed_forward
from celllm.model.settings import EncoderConfig
from celllm.scores.facts import find, read_facts
from celllm.settings import as_settings
from celllm.training.finetune import FinetuneSettings
from celllm.training.finetune_response import ResponseSettings
from celllm.training.settings import ModelRow, PretrainSettings
from celllm.training.trainer import CONTRAST_SIZE

Json = Mapping[str, Any] | str

FIXED = {"optimiser": "Adam"}
"""What the code does whatever the settings say, in all training."""

FIXED_IN_PRETRAINING = {
    "similarity": "Cosine similarity",
    "accumulation": 1,  # a step is one logical batch
}


def run_settings_facts(
    model: ModelRow,
    genes: str | Path,
    pretraining: PretrainSettings,
    out: str | Path,
    annotation: FinetuneSettings | None = None,
    drug_sensitivity: FinetuneSettings | None = None,
    drug_response: ResponseSettings | None = None,
    sizes: Json | None = None,
    splits: Json | None = None,
    facts: Sequence[str | Path] = (),
    data_sets: Sequence[str] = (),
) -> None:
    """The settings of a run with all defaults, and the parameters of its encoder, as facts for Table F.1.

    Parameters
    ----------
    model
        The row of the encoder, its size spelled out.
    genes
        Vocabulary, ``genes.tsv``.
    pretraining, annotation, drug_sensitivity, drug_response
        Settings of its training; a task that is not given has no facts.
    out
        The JSON file.
    sizes
        Named sizes of encoders; their parameters are counted.
    splits
        Settings of splits with a ``train_fraction``, by task.
    facts, data_sets
        Facts that count the classes of the annotated ``data_sets``.

    Raises
    ------
    UserError
        For wrong settings, and a data set whose classes are not counted.
    """
    n_genes = len(Vocabulary.read(genes))
    config = model.encoder_config(n_genes)
    shape = ("n_tokens", "dim", "depth", "heads", "dropout")
    settings: dict[str, Any] = {
        "model": {name: getattr(config, name) for name in shape},
        "tokens": {"max_length": model.tokens.max_length},
        "pretraining": of_pretraining(pretraining, config),
    }
    if annotation is not None:
        counted = read_facts(facts)
        found = [find(counted, ("data_sets", name, "n_classes")) for name in data_sets]
        for name, number in zip(data_sets, found, strict=True):
            if number is None:
                missing = f"no data_sets.{name}.n_classes; give the file that `celllm counts` wrote"
                raise UserError(f"facts: {missing}")
        classes = "/".join(map(str, found))
        settings["annotation"] = of_classifier(annotation, config, classes)
    if drug_sensitivity is not None:
        settings["drug"] = of_classifier(drug_sensitivity, config, "2")
    if drug_response is not None:
        settings["response"] = of_response(drug_response, config)
    settings["splits"] = {
        task: round(100 * chosen["train_fraction"], 6) for task, chosen in _mapping(splits).items()
    }
    by_size = {
        name: n_parameters(as_settings(EncoderConfig, {"n_genes": n_genes, **size}, f"sizes.{name}"))
        for name, size in _mapping(sizes).items()
    }
    parameters = {"n_parameters": n_parameters(config), "n_parameters_by_size": by_size}
    write_json(out, {"settings": settings, "model": parameters})


def _mapping(values: Json | None) -> Mapping[str, Any]:
    return json.loads(values) if isinstance(values, str) else values or {}


def n_parameters(config: EncoderConfig) -> int:
    """All parameters of an encoder, frozen gene embeddings included, counted in one that is built."""
    return count_parameters(Encoder(config))[0]


def of_pretraining(chosen: PretrainSettings, config: EncoderConfig) -> dict[str, Any]:
    """The part "Pre-training"."""
    names = ("learning_rate", "weight_decay", "batch_size")
    return {
        **{name: getattr(chosen, name) for name in names},
        "dropout": config.dropout,
        "pooling_convolution": pooling(config),
        "pooling_dim": CONTRAST_SIZE,
        **FIXED,
        "schedule": {"cosine": "Cosine annealing"}.get(chosen.schedule, "Cosine annealing with restarts"),
        **FIXED_IN_PRETRAINING,
    }


def of_classifier(chosen: FinetuneSettings, config: EncoderConfig, classes: str) -> dict[str, Any]:
    """The parts of cell annotation and single-cell drug sensitivity; ``classes``: size of the last layer."""
    names = ("learning_rate", "weight_decay", "dropout", "batch_size", "accumulation")
    return {
        **{name: getattr(chosen, name) for name in names},
        "pooling_convolution": pooling(config),
        "n_layers": len(chosen.head) + 1,
        "layer_sizes": ", ".join([*map(str, chosen.head), classes]),
        "activation": activation_name(chosen.activation),
        **FIXED,
    }


def of_response(chosen: ResponseSettings, config: EncoderConfig) -> dict[str, Any]:
    """The part "Cell line drug sensitivity prediction"."""
    regression = (*chosen.regression_layers, 1)
    names = ("learning_rate", "weight_decay", "dropout", "batch_size")
    return {
        **{name: getattr(chosen, name) for name in names},
        "pooling_convolution": pooling(config),
        "n_cell_layers": len(chosen.cell_layers),
        "cell_layer_sizes": ", ".join(map(str, chosen.cell_layers)),
        "cell_activation": activation_name(FinetuneSettings().activation),  # the tower is that of fine-tuning
        "cell_dim": chosen.cell_layers[-1],
        "drug_dim": chosen.drug_size,
        "n_layers": len(regression),
        "layer_sizes": ", ".join(map(str, regression)),
        "activation": activation_name(chosen.activation),
        "accumulation": 1,  # a step is one batch
        **FIXED,
    }


def pooling(config: EncoderConfig) -> str:
    """Kernel of the convolution that maps a gene's vector to one number."""
    return f"(1, {config.dim})"


def activation_name(activation: Activation) -> str:
    """PyTorch's name of an activation, which is the paper's."""
    return type(feed_forward((1, 1, 1), activation)[1]).__name__
