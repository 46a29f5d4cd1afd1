"""The numbers behind figures: tables that a command wrote and another one draws."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from celllm.errors import UserError
from celllm.io import write_text


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


def write_numbers(out: str | Path, frame: pd.DataFrame) -> None:
    """Write ``<out>.csv``."""
    write_text(f"{out}.csv", frame.to_csv(index=False, lineterminator="\n"))
