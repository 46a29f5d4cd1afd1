"""Whether the contrast of each encoder was a task: its loss at the start and the end, beside the geometry."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celllm import tensors
from celllm.errors import UserError
from celllm.io import read_csv, write_csv
from celllm.model.settings import ENCODER_FILE
from celllm.scores.columns import CONTRAST, GEOMETRY

LAST_SHARE = 0.1  # of the steps: the loss at the end is the mean over so many


def run_contrast(
    encoders: Mapping[str, str | Path],
    metrics: Mapping[str, str | Path],
    geometry: str | Path,
    out: str | Path,
) -> None:
    """Encoders, their steps and geometry -> whether the contrast was a task, and what it left behind.

    Parameters
    ----------
    encoders, metrics
        Pre-trained encoders, and the tables of their steps, by the name of their row.
    geometry
        What ``celllm geometry`` wrote for them.
    out
        CSV with :data:`CONTRAST`, a row per encoder, data set and kind of embedding. ``ignorant`` is the loss
        of an encoder that knows nothing: the logarithm of the batch, of MoCo's queue and one for MoCo.
        ``start`` is the loss of the first batch, before the first update, ``end`` the mean over the last
        tenth of the steps.

    Raises
    ------
    UserError
        For files of other encoders, or a table without a step.
    """
    measured = read_csv(geometry)
    lines: list[list[Any]] = []
    for model, path in encoders.items():
        if model not in metrics:
            raise UserError(f"--metrics: no table of the steps of '{model}'")
        header = tensors.read_header(path, ENCODER_FILE, "encoder", verify=False)
        if "failed" in header:  # it was not trained
            continue
        of_row = contrast_of(header["meta"], metrics[model])
        of_model = measured[measured["model"] == model]
        if of_model.empty:
            raise UserError(
                f"{geometry}: nothing about '{model}'; expected the geometry of the same encoders"
            )
        lines += [[model, *of_row, *row] for row in of_model[list(GEOMETRY[1:])].itertuples(index=False)]
    write_csv(out, CONTRAST, lines)


def contrast_of(meta: Mapping[str, Any], metrics: str | Path) -> list[Any]:
    """What the file of an encoder and the table of its steps say of its contrast."""
    row, settings = meta["model"], meta["settings"]
    steps = read_csv(metrics)
    steps = steps[steps["loss"] != ""]  # the lines of some may have been lost
    if steps.empty:
        raise UserError(f"{metrics}: no step in it")
    views = row.get("views") or (2 if row["contrast"] in ("divide_and_conquer", "end_to_end") else 1)
    if row["contrast"] == "none":
        return ["none", "", "", views, "", "", "", len(steps)]
    losses = steps["contrast"].astype(float)
    last = losses.tail(max(1, round(LAST_SHARE * len(losses))))
    of_moco = row["contrast"] == "moco"
    ignorant = math.log(1 + settings["queue_length"] if of_moco else int(steps["n_cells"].iloc[0]))
    temperature = row.get("temperature") or settings["temperature"]
    numbers = [f"{value:.6g}" for value in (ignorant, losses.iloc[0], last.mean())]
    return [row["contrast"], row["contrast_on"], temperature, views, *numbers, len(steps)]
