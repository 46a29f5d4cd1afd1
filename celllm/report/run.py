"""How a run is described wherever its numbers are shown: its name, its size, its models."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celllm.errors import UserError
from celllm.io import read_yaml

TOY_NOTE = "toy size: the numbers show that the code runs, not that the claims hold"


@dataclass(frozen=True)
class Model:
    """A row of the models' table."""

    name: str
    title: str  # as printed
    group: str  # paper, control (no encoder of ours), ablation (ours: frozen, untrained), added or any other
    paper_row: str | None  # the paper's row that it stands for, where its name does not say so
    seeds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # of several pre-trainings, by task


def labelled(title: str, toy: bool) -> str:
    """``title``, followed by the word toy in a toy run."""
    return f"{title} (toy)" if toy else title


def read_document(source: str | Path | Mapping[str, Any], what: str) -> Any:
    """What a YAML or JSON file, JSON text or a mapping says; ``what`` is the text called in a message."""
    if isinstance(source, Mapping):
        return source
    if not isinstance(source, str) or not source.lstrip().startswith("{"):
        return read_yaml(source)
    try:
        return json.loads(source)
    except json.JSONDecodeError as error:
        raise UserError(f"{what}: not valid JSON ({error})") from error


def read_models(source: str | Path | Mapping[str, Any]) -> dict[str, Model]:
    """Models from config/models.yaml (a path), JSON text or a mapping: name -> title, or name -> row.

    Of a row the keys ``title``, ``group``, ``paper_row`` and ``seeds`` are read, all optional. A document
    with the key ``models`` is taken to hold them there; what is no mapping of models is a :class:`UserError`.
    """
    document = read_document(source, "models")
    rows = document.get("models", document) if isinstance(document, Mapping) else document
    if not isinstance(rows, Mapping):
        raise UserError(
            f"models: expected a mapping of model name to title or row, got {type(rows).__name__}"
        )
    models = {}
    for name, row in rows.items():
        row = {"title": row} if isinstance(row, str) else row
        if not isinstance(row, Mapping):
            raise UserError(f"models: '{name}': expected a title or a row, got {row!r}")
        title, group = str(row.get("title", name)), str(row.get("group", "paper"))
        seeds = row.get("seeds", {})
        if not isinstance(seeds, Mapping):
            raise UserError(f"models: '{name}': seeds: expected a list for each task by name, got {seeds!r}")
        seeds = {task: tuple(of_task) for task, of_task in seeds.items()}
        models[str(name)] = Model(str(name), title, group, row.get("paper_row"), seeds)
    return models
