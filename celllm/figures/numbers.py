"""The numbers behind figures: tables that a command wrote, and figures beside what they show."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from celllm.errors import UserError
from celllm.figures.theme import save, theme
from celllm.io import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def read_numbers(
    path: str | Path, columns: Sequence[str], verb: str, text: Sequence[str] = ()
) -> pd.DataFrame:
    """Read the table that ``celllm <verb>`` wrote; the columns ``text`` stay as they are written.

    Raises
    ------
    UserError
        For a file that is missing, no CSV or without one of the columns.
    """
    again = f"make it with `celllm {verb}`"
    try:
        frame = pd.read_csv(path, converters=dict.fromkeys(text, str))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {again}") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a CSV file; {again}") from error
    missing = [name for name in columns if name not in frame]
    if missing:
        raise UserError(f"{path}: no column '{missing[0]}'; {again}")
    return frame[list(columns)]


def write_figure(out: str | Path, numbers: pd.DataFrame, draw: Callable[[], "Figure"]) -> None:
    """Write ``<out>.csv`` and what ``draw`` makes of it in the theme, ``<out>.png`` and ``<out>.svg``."""
    write_text(f"{out}.csv", numbers.to_csv(index=False, lineterminator="\n"))
    with theme():
        save(draw(), out)
