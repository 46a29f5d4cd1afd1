"""One command for all figures: the module ``celllm.figures.<kind>`` draws the figures of a kind.

Such a module has a function ``draw(settings, **inputs)``, which gives the numbers of the figure and a
function that draws them. What a figure shows stands in :mod:`celllm.report.captions`, what it is made from in
``figure_files`` of :mod:`celllm.plan`.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from celllm.errors import UserError
from celllm.figures.settings import FigureSettings
from celllm.figures.theme import save, theme
from celllm.io import read_csv, write_text
from celllm.report.captions import CAPTIONS, kind_of

Drawing = tuple[pd.DataFrame, Callable[[], Figure]]
"""The numbers of a figure, and what draws them."""


def run_figure(
    name: str, /, inputs: Mapping[str, str | Path], out: str | Path, settings: FigureSettings
) -> None:
    """Numbers that other commands wrote -> one figure as PNG and SVG, and the numbers behind it.

    Parameters
    ----------
    name
        A kind of figure, ``fig4``, with the data set behind it where there is one for each: ``fig3_baron``.
    inputs
        Files by the names that ``draw`` of the figure's module gives them; of ``loss_curves`` by model.

    Raises
    ------
    UserError
        For an unknown figure, other inputs than it takes, and files of another kind.
    """
    kind, data_set = kind_of(name)
    if kind is None:
        known = (f"{key}_DATA_SET" if caption.by_data_set else key for key, caption in CAPTIONS.items())
        raise UserError(f"figure '{name}': no such figure; known are {', '.join(known)}")
    chosen = settings.changed(data_set=data_set)
    draw = importlib.import_module(f"celllm.figures.{kind}").draw
    try:
        inspect.signature(draw).bind(chosen, **inputs)
    except TypeError as error:
        wanted = ", ".join(f"{key}=FILE" for key in list(inspect.signature(draw).parameters)[1:])
        raise UserError(f"figure {name}: inputs: {error}; expected {wanted}") from error
    numbers, drawn = draw(chosen, **inputs)
    write_text(f"{out}.csv", numbers.to_csv(index=False, lineterminator="\n"))
    with theme():
        save(drawn(), out)


def read_numbers(
    path: str | Path, columns: Sequence[str], verb: str, text: Sequence[str] = ()
) -> pd.DataFrame:
    """Read the table that ``celllm <verb>`` wrote; the columns ``text`` stay as they are written.

    A file that is missing, no CSV or without one of the columns is a :class:`UserError`.
    """
    try:
        frame = read_csv(path, text)
    except UserError as error:
        raise UserError(f"{error}; make it with `celllm {verb}`") from error
    missing = [name for name in columns if name not in frame]
    if missing:
        raise UserError(f"{path}: no column '{missing[0]}'; make it with `celllm {verb}`")
    return frame[list(columns)]
