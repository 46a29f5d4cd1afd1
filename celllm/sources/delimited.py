"""Delimited texts: tables of strings, and big tables of numbers read row by row into a sparse matrix."""

import contextlib
import csv
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from celllm.errors import UserError
from celllm.sources.archives import damage, open_text

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

AGAIN = "delete the file and get it again"
MAX_WORKBOOK = 2**31
"""Bytes that a workbook may unpack to; the largest one among the sources has 21 MB packed."""


def rows(
    path: str | Path, columns: Sequence[str], delimiter: str = "\t", encoding: str = "utf-8-sig"
) -> Iterator[dict[str, str]]:
    """Iterate the rows of a table with a header line, as dictionaries of the named ``columns``.

    Cells may be double-quoted; the file may be gzip-compressed; columns not named are left out.

    Raises
    ------
    UserError
        For a web page in place of the table, a missing column, or a row that ends early.
    """
    with damage(path), open_text(path, encoding=encoding) as handle:
        reader = csv.DictReader(refuse_pages(handle, path), delimiter=delimiter)
        missing = [c for c in columns if c not in (reader.fieldnames or ())]
        if missing:
            raise UserError(
                f"{path}: the column '{missing[0]}' is missing; expected a table with the columns "
                f"{', '.join(columns)}"
            )
        for row in reader:
            if None in row.values():
                raise UserError(f"{path}: line {reader.line_num} ends early; {AGAIN}")
            yield {c: row[c].strip() for c in columns}


def records(
    path: str | Path, n_fields: int, delimiter: str | None = ",", encoding: str = "utf-8-sig"
) -> Iterator[list[str]]:
    """Iterate the rows of a table without a header line; ``delimiter`` None means any white space.

    Raises
    ------
    UserError
        For a web page in place of the table, or a row of another number of fields.
    """
    with damage(path), open_text(path, encoding=encoding) as handle:
        lines = refuse_pages(handle, path)
        parsed = csv.reader(lines, delimiter=delimiter) if delimiter else (line.split() for line in lines)
        for number, fields in enumerate(parsed, start=1):
            if len(fields) != n_fields:
                raise UserError(
                    f"{path}: line {number} has {len(fields)} fields, expected {n_fields}; {AGAIN}"
                )
            yield fields


def header(path: str | Path, delimiter: str = "\t", encoding: str = "utf-8-sig") -> list[str]:
    """Return the fields of the first line."""
    with damage(path), open_text(path, encoding=encoding) as handle:
        return next(csv.reader(refuse_pages(handle, path), delimiter=delimiter))


def refuse_pages(lines: IO[str] | Iterator[str], where: str | Path) -> Iterator[str]:
    """Pass lines on; an empty text or one that starts like a web page is a :class:`UserError`."""
    first = next(iter(lines), "")
    if not first.strip():
        raise UserError(f"{where}: the file is empty; {AGAIN}")
    if first.lstrip("\ufeff \t").startswith("<"):
        raise UserError(f"{where}: a web page (HTML) in place of the data; {AGAIN}")
    yield first
    yield from lines


def sheet(path: str | Path, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Iterate the rows of an Excel workbook's first sheet: the cells under ``columns``, empty ones as ``""``.

    Raises
    ------
    UserError
        For a file that is no workbook, a damaged or a giant one, or a missing column.
    """
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        _check_unpacked(path)
        book = load_workbook(path, read_only=True, data_only=True)
        with contextlib.closing(book):
            yield from _columns(book.worksheets[0].iter_rows(values_only=True), columns, path)
    except (zipfile.BadZipFile, zlib.error, ParseError, InvalidFileException, KeyError, OSError) as error:
        detail = " ".join(str(error).split())
        raise UserError(f"{path}: not an Excel workbook, or a damaged one ({detail}); {AGAIN}") from error


def _check_unpacked(path: str | Path) -> None:
    """Refuse a giant before it is unpacked, and bytes that are not those of its checksums."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MAX_WORKBOOK:
            raise UserError(f"{path}: unpacks to more than {MAX_WORKBOOK} bytes; refused")
        if (name := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"bad checksum of {name}")


def _columns(cells: Iterator[Any], columns: Sequence[str], path: str | Path) -> Iterator[tuple[str, ...]]:
    """Rows of a sheet below its header, as far as ``columns`` name them."""
    header = list(next(cells, ()))
    missing = [c for c in columns if c not in header]
    if missing:
        raise UserError(f"{path}: the column '{missing[0]}' is missing; expected {', '.join(columns)}")
    places = [header.index(c) for c in columns]
    for row in cells:
        yield tuple("" if row[i] is None else str(row[i]).strip() for i in places)


@dataclass(frozen=True)
class NumberTable:
    """A table of numbers with names on both sides.

    Attributes
    ----------
    row_names, columns
        Names of the rows and of the number columns.
    text
        Columns of text that stand between the row names and the numbers, by their header.
    matrix
        Rows x columns, CSR float32.
    """

    row_names: list[str]
    columns: list[str]
    text: dict[str, list[str]]
    matrix: "csr_matrix"


def read_numbers(
    handle: IO[str],
    where: str | Path,
    delimiter: str,
    count_text: Callable[[list[str]], int] = lambda header: 0,
) -> NumberTable:
    """Read a table whose first column names the rows and whose other columns are numbers, mostly zeros.

    One row is held at a time; only values other than zero are kept. The header may lack the (empty) field
    above the row names, as R writes it.

    Parameters
    ----------
    handle
        Text of the table.
    where
        The file, for messages.
    delimiter
        ``","`` or a tab.
    count_text
        Tells from the fields of the header how many columns of text stand between row names and numbers.

    Raises
    ------
    UserError
        For an empty text, a web page, a row of another length than the header, or a field that is no number.
    """
    with damage(where):
        lines = refuse_pages(handle, where)
        header = next(csv.reader(lines, delimiter=delimiter))
        header[0] = header[0].lstrip("\ufeff")
        return _collect(lines, where, delimiter, header, count_text(header))


def _collect(
    lines: Iterator[str], where: str | Path, delimiter: str, header: list[str], n_text: int
) -> NumberTable:
    names: list[str] = []
    text: list[list[str]] = []
    columns, values = [], []
    for number, line in enumerate(tqdm(lines, desc=str(where), unit=" rows", disable=None), start=2):
        *labels, numbers = line.rstrip("\r\n").split(delimiter, n_text + 1)
        row = _numbers(numbers, delimiter, f"{where}: line {number}")
        if number == 2 and len(header) == len(row) and not n_text:
            header = ["", *header]
        if len(labels) != n_text + 1 or len(row) != len(header) - n_text - 1:
            n_expected = len(header) - n_text - 1
            raise UserError(f"{where}: line {number} has {len(row)} values, expected {n_expected}; {AGAIN}")
        names.append(labels[0].strip('"'))
        text.append([label.strip('"') for label in labels[1:]])
        columns.append(np.flatnonzero(row).astype(np.int32))
        values.append(row[columns[-1]])
    if not names:
        raise UserError(f"{where}: a header and no rows; {AGAIN}")
    labels_of = {name: [t[i] for t in text] for i, name in enumerate(header[1 : n_text + 1])}
    return NumberTable(
        names, header[n_text + 1 :], labels_of, _matrix(columns, values, len(header) - n_text - 1)
    )


def _numbers(text: str, delimiter: str, where: str) -> NDArray[np.float32]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text, dtype=np.float32, sep=delimiter)
        except (DeprecationWarning, ValueError) as error:
            field = next((f for f in text.split(delimiter) if not _is_number(f)), "")
            raise UserError(f"{where}: {field!r} is not a number") from error


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _matrix(
    columns: list[NDArray[np.int32]], values: list[NDArray[np.float32]], n_columns: int
) -> "csr_matrix":
    from scipy.sparse import csr_matrix

    pointers = np.concatenate([[0], np.cumsum([len(c) for c in columns])])
    return csr_matrix(
        (np.concatenate(values), np.concatenate(columns), pointers), shape=(len(columns), n_columns)
    )


def first_repeat(names: Collection[str]) -> str | None:
    """Return the first name that has been there before, or None."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
