"""Delimited texts and workbooks: the one place where a line becomes fields.

A row of another number of fields than its header is never shifted or padded: it is a :class:`UserError` with
file, line and both numbers. What is harmless is accepted everywhere: blank last lines, a separator behind
every row, a byte order mark, CRLF, a missing last newline, quoted fields, a header that lacks the field above
the row names as R writes it, a semicolon or a tab in place of the comma.
"""

import contextlib
import csv
import itertools
import logging
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from celllm.errors import UserError, one_line
from celllm.sources.archives import damage, open_bytes, open_text

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

AGAIN = "delete the file and download it again"
MAX_WORKBOOK = 2**31
"""Bytes that a workbook may unpack to; the largest one among the sources has 21 MB packed."""
MISSING = frozenset(("", "na", "n/a", "#n/a", "nan", "null", "none", "-", "\\n"))
"""What stands for a missing value, in lower case."""

_INVISIBLE = " \t\r\n\ufeff\u200b\u00a0"
_LONE_BYTE = re.compile("[\udc80-\udcff]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FLOATED = re.compile(r"\d+\.0*")
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+(\.0*)?")
_ROUNDED = re.compile(r"\d+(\.\d+)?[eE]\+?\d+")


class Row(dict[str, str]):
    """Fields of a row by column, stripped; ``where`` is its file and line, for messages."""

    def __init__(self, fields: Iterable[tuple[str, str]], where: str) -> None:
        super().__init__(fields)
        self.where = where


def rows(
    source: str | Path | IO[bytes],
    columns: Sequence[str] | None,
    delimiter: str | None = "\t",
    encoding: str | None = None,
    header: bool = True,
    where: str | Path | None = None,
) -> Iterator[Row]:
    """Iterate the rows of a table: plain or gzip-compressed text, or an Excel workbook.

    ``source`` is a path or a stream of an archive's member, named in messages by ``where``. ``columns`` are
    those wanted, None for all that the header names; without a header, the names of all columns.
    ``delimiter`` None means any white space; a first line without it may be separated by a tab, comma or
    semicolon instead. The text is UTF-8 or UTF-16 unless ``encoding`` is given. :class:`UserError` for a file
    of another kind, a missing or doubled column, or a row of another number of fields.
    """
    where = where or str(source)
    is_text = True
    if isinstance(source, str | Path):
        with open_bytes(source) as stream:
            is_text = stream.peek(4)[:4] != b"PK\x03\x04"
    if is_text:
        records = _text_records(source, where, delimiter, encoding)
    else:
        records = _sheet_records(Path(str(source)), columns or ())
    names = [name.strip(_INVISIBLE) for name in next(records)[1]] if header else list(columns or ())
    first = next(records, None)
    layout = _Layout.of(names, first[1], header) if is_text and first else _Layout(names)
    records = itertools.chain([first] if first else [], records)
    places = _places(layout.names, layout.names if columns is None else columns, where)
    seen: set[str] = set()
    for number, fields in records:
        if layout.has_row_names:  # R's are unique; what repeats is a column, and the rows are too long
            layout = layout if fields[0] not in seen else _Layout(layout.names[1:])
            seen.add(fields[0])
        fields = layout.fit(number, fields, where)
        if header and fields == layout.names:
            raise UserError(f"{where}: line {number} is the header again; are two files in one? remove it")
        yield Row(
            ((name, fields[i].strip(_INVISIBLE)) for name, i in places.items()), f"{where}: line {number}"
        )


def header(source: str | Path, delimiter: str | None = "\t") -> list[str]:
    """Return the fields of the first line."""
    return next(_text_records(source, str(source), delimiter, None))[1]


def identifier(text: str, where: str) -> str:
    """Undo what a spreadsheet did to a whole number that is a name (``1010.0``, ``1,046``); "" when missing.

    ``9.05E+05`` has lost digits and is a :class:`UserError`.
    """
    if text.lower() in MISSING:
        return ""
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    if _ROUNDED.fullmatch(text):
        raise UserError(
            f"{where}: the id '{text}' is rounded; write ids as whole numbers (format the column as text)"
        )
    return text.partition(".")[0] if _FLOATED.fullmatch(text) else text


def number(text: str, where: str) -> float | None:
    """Read a finite number; None for one of :data:`MISSING`, anything else is a :class:`UserError`."""
    if text.lower() in MISSING:
        return None
    if not _is_number(text):
        raise UserError(f"{where}: {_what_is_wrong(text)}")
    if not np.isfinite(float(text)):
        raise UserError(f"{where}: '{text}' is not a finite number")
    return float(text)


def _text_records(
    source: str | Path | IO[bytes], where: str | Path, delimiter: str | None, encoding: str | None
) -> Iterator[tuple[int, list[str]]]:
    with damage(where), open_text(source, encoding, errors="surrogateescape") as handle:
        lines, delimiter = _table_lines(handle, where, delimiter)
        for place, line in lines:
            yield place, _split(line, delimiter, f"{where}: line {place}")


def _table_lines(
    handle: Iterable[str], where: str | Path, delimiter: str | None
) -> tuple[Iterator[tuple[int, str]], str | None]:
    """Numbered lines of a table without a comment in front, and the delimiter that its first line has."""
    lines = _lines(handle, where)
    first = next(lines, None)
    if first is None:
        raise UserError(f"{where}: the file is empty; {AGAIN}")
    if first[1].startswith("<"):
        raise UserError(f"{where}: a web page (HTML) instead of the data; {AGAIN}")
    second = next(lines, None)
    while second is not None and _is_comment(first[1], second[1], delimiter):
        first, second = second, next(lines, None)
    if delimiter is not None and delimiter not in first[1]:
        others = [other for other in (",", "\t", ";") if other in first[1]]
        delimiter = max(others, key=first[1].count, default=delimiter)
    return itertools.chain([first], [second] if second else [], lines), delimiter


def _lines(handle: Iterable[str], where: str | Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, blank ones at the end left out."""
    blank, line = 0, "\n"
    for place, line in enumerate(handle, start=1):
        if place == 1:
            line = line.removeprefix("\ufeff")
        if not line.strip(" \t\r\n,;"):
            blank = blank or place
            continue
        if blank:
            raise UserError(f"{where}: line {blank} is empty, but line {place} is not; remove it")
        if not line.isascii() and (byte := _LONE_BYTE.search(line)):
            raise UserError(
                f"{where}: line {place} is not UTF-8 text (byte {ord(byte[0]) - 0xDC00:#x} at character "
                f"{byte.start() + 1}); save it as UTF-8 if it is Latin-1 or Windows-1252, else fetch it again"
            )
        if (control := _CONTROL.search(line)) is not None:
            raise UserError(
                f"{where}: line {place} has the control character {ord(control[0]):#04x} at character "
                f"{control.start() + 1}: the file is damaged; {AGAIN}"
            )
        yield place, line
    if not line.endswith("\n"):
        log.warning("%s: the last line has no line end; is the file complete?", where)


def _is_comment(first: str, second: str, delimiter: str | None) -> bool:
    if re.fullmatch(r'"?sep=."?\s*', first):  # a hint to spreadsheets
        return True
    if not first.startswith("#"):
        return False
    if delimiter is None:
        return len(first.split()) != len(second.split())
    return first.count(delimiter) == 0 or abs(first.count(delimiter) - second.count(delimiter)) > 1


def _split(line: str, delimiter: str | None, where: str) -> list[str]:
    line = line.rstrip("\r\n")
    if delimiter is None:
        return line.split()
    if '"' not in line:
        return line.split(delimiter)
    try:
        fields = next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error as error:
        if delimiter == "\t":  # a quotation mark that belongs to a name
            return line.split(delimiter)
        if "unexpected end" in str(error):
            what = "a quoted field does not end in its line; close the quote or remove line breaks"
        else:
            what = f"{error}; quote a field as a whole, and double a quote inside it"
        raise UserError(f"{where}: {what}") from error
    return fields


@dataclass(frozen=True)
class _Layout:
    """How the rows of a table lie under its header."""

    names: list[str]
    open_end: bool = False
    has_row_names: bool = False

    @classmethod
    def of(cls, header: list[str], first: list[str], is_header: bool = True) -> "_Layout":
        """Find out from header and first row; names that are no header of the file can lack no name."""
        extra, is_open = len(first) - len(header), first[-1].strip() == ""
        if not is_header:
            return cls(header, open_end=extra == 1 and is_open)
        unnamed_end = len(header) > 1 and not header[-1].strip()
        if extra == 1 and is_open and first[0].strip('"') != "1":
            return cls(header, open_end=True)
        if extra == 1 and not is_open and header[0].strip():
            return cls(["", *header], has_row_names=True)
        if extra == 0 and is_open and unnamed_end:
            return cls(header[:-1], open_end=True)
        return cls(header[:-1] if extra == -1 and unnamed_end else header)

    def fit(self, place: int, fields: list[str], where: str | Path) -> list[str]:
        """Return one field per name, or refuse the row."""
        if len(fields) != len(self.names) + self.open_end or (self.open_end and fields[-1].strip()):
            raise wrong_width(where, place, len(fields), len(self.names) + self.open_end)
        return fields[:-1] if self.open_end else fields


def wrong_width(where: str | Path, place: int, n_found: int, n_expected: int) -> UserError:
    """Say that a row is longer or shorter than its header."""
    cause = (
        "a separator inside a field needs quotes" if n_found > n_expected else "is the file cut short there?"
    )
    return UserError(f"{where}: line {place} has {n_found} fields, expected {n_expected}; {cause}")


def _places(names: Sequence[str], columns: Sequence[str], where: str | Path) -> dict[str, int]:
    missing = [c for c in columns if c not in names]
    if missing:
        raise UserError(
            f"{where}: the column '{missing[0]}' is missing; expected a table with the columns "
            f"{', '.join(columns)}, found {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"
        )
    doubled = (
        next((c for c in columns if names.count(c) > 1), None) if len(columns) < 100 else first_repeat(names)
    )
    if doubled is not None:
        raise UserError(f"{where}: the column '{doubled}' occurs twice; remove one of the two")
    return {c: names.index(c) for c in columns}


def _sheet_records(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Rows of an Excel workbook, of the first sheet with these columns; empty cells are ""."""
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    place = 0
    try:
        with zipfile.ZipFile(path) as archive:
            if "[Content_Types].xml" not in archive.namelist():
                raise UserError(f"{path}: is a zip archive, and no workbook; unpack it")
            if sum(member.file_size for member in archive.infolist()) > MAX_WORKBOOK:
                raise UserError(f"{path}: unpacks to more than {MAX_WORKBOOK} bytes; refused")
            if (name := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"bad checksum of {name}")
        with (
            open(path, "rb") as handle,  # an open file: openpyxl refuses names that do not end in .xlsx
            contextlib.closing(load_workbook(handle, read_only=True, data_only=True)) as book,
        ):
            sheets = [_sheet_rows(sheet, path) for sheet in book.worksheets]
            heads = [next(rows, (1, [])) for rows in sheets]
            fitting = [i for i, (_, head) in enumerate(heads) if set(columns) <= set(head)]
            chosen = fitting[0] if fitting else 0
            place, head = heads[chosen]
            yield place, head
            for place, fields in sheets[chosen]:
                yield place, fields + [""] * (len(head) - len(fields))
    except (zipfile.BadZipFile, zlib.error, ParseError, InvalidFileException, OSError, EOFError) as error:
        raise UserError(
            f"{path}: not an Excel workbook, or a damaged one ({one_line(error)}); {AGAIN}"
        ) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: row {place + 1} or a part behind it cannot be read ({one_line(error)}); "
            "save the workbook again, or as CSV"
        ) from error


def _sheet_rows(sheet: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    sheet.reset_dimensions()  # rows and columns outside the declared range are read too
    blank = 0
    for place, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        fields = ["" if cell is None else str(cell).strip(_INVISIBLE) for cell in cells]
        while fields and not fields[-1]:
            fields.pop()
        if not fields:
            blank = blank or place
            continue
        if blank > 1:
            raise UserError(
                f"{path}: sheet '{sheet.title}': row {blank} is empty, but row {place} is not; remove it"
            )
        yield place, fields


@dataclass(frozen=True)
class NumberTable:
    """A table of numbers with names on both sides.

    ``text`` has the columns of text between row names and numbers, by their header; ``matrix`` is rows x
    columns, CSR float32.
    """

    row_names: list[str]
    columns: list[str]
    text: dict[str, list[str]]
    matrix: "csr_matrix"


def read_numbers(
    source: str | Path | IO[bytes],
    delimiter: str,
    where: str | Path | None = None,
    count_text: Callable[[list[str], list[str]], int] = lambda header, first: 0,
) -> NumberTable:
    """Read a table whose first column names the rows and whose other columns are numbers, mostly zeros.

    One row is held at a time; only values other than zero are kept. pandas would fill short rows with NaN and
    take ``NA`` for a number, so the fields are parsed here. ``delimiter`` is a comma or a tab, ``source`` and
    ``where`` are as for :func:`rows`. ``count_text`` says from the fields of the header and of the first row
    how many columns of text stand between row names and numbers. :class:`UserError` for an empty text, a web
    page, a row of another length than the header, or a field that is no number.
    """
    from scipy.sparse import csr_matrix

    where = where or str(source)
    with damage(where), open_text(source, errors="surrogateescape") as handle:
        lines, found = _table_lines(handle, where, delimiter)
        delimiter = found or delimiter
        names: list[str] = []
        text: list[list[str]] = []
        first: dict[str, int] = {}
        columns: list[NDArray[np.int32]] = []
        values: list[NDArray[np.float32]] = []
        header = [name.strip(_INVISIBLE) for name in _split(next(lines)[1], delimiter, f"{where}: line 1")]
        layout, n_text = _Layout(header), 0
        for place, line in tqdm(lines, desc=str(where), unit=" rows", disable=None):
            label = f"{where}: line {place}"
            fields = _split(line, delimiter, label) if '"' in line or not names else None
            if fields is not None and not names:
                layout = _Layout.of(header, fields)
                n_text = count_text(layout.names, fields)
                _check_header(layout.names, n_text + 1, where, delimiter)
            if fields is None:
                *labels, numbers = line.rstrip("\r\n").split(delimiter, n_text + 1)
                n_fields = line.count(delimiter) + 1
            else:
                labels, quoted, n_fields = fields[: n_text + 1], fields[n_text + 1 :], len(fields)
                if wrong := next((field for field in quoted if delimiter in field), None):
                    raise UserError(f"{label}: {_what_is_wrong(wrong)}")
                numbers = delimiter.join(quoted)
            if layout.open_end:
                layout.fit(place, [""] * (n_fields - 1) + [numbers.rpartition(delimiter)[2]], where)
                numbers = numbers.rpartition(delimiter)[0]
            elif n_fields != len(layout.names):
                raise wrong_width(where, place, n_fields, len(layout.names))
            row = _numbers(numbers, delimiter, len(layout.names) - n_text - 1, label)
            name = labels[0].strip(_INVISIBLE)
            if not name:
                raise UserError(f"{label} has no name in its first field; give it one or remove the line")
            filled = np.flatnonzero(row).astype(np.int32)
            before = first.setdefault(name, len(names))
            repeats = before < len(names) and len(filled) > 0 and np.array_equal(columns[before], filled)
            if repeats and np.array_equal(values[before], row[filled]):
                what = f"{label}: '{name}' appears twice with the same numbers"
                if len(filled) > 2:  # one or two can be equal by chance
                    raise UserError(f"{what}; remove one of the two lines")
                log.warning(what)
            names.append(name)
            text.append([field.strip(_INVISIBLE) for field in labels[1:]])
            columns.append(filled)
            values.append(row[filled])
        if not names:
            raise UserError(f"{where}: a header and no rows; {AGAIN}")
        labels_of = {name: [t[i] for t in text] for i, name in enumerate(layout.names[1 : n_text + 1])}
        number_columns = layout.names[n_text + 1 :]
        pointers = np.concatenate([[0], np.cumsum([len(c) for c in columns])])
        parts = (np.concatenate(values), np.concatenate(columns), pointers)
        matrix = csr_matrix(parts, shape=(len(names), len(number_columns)))
        return NumberTable(names, number_columns, labels_of, matrix)


def _check_header(names: Sequence[str], n_labels: int, where: str | Path, delimiter: str) -> None:
    """Refuse a first line that cannot name the columns of numbers behind the labels."""
    columns = names[n_labels:]
    if not columns:
        raise UserError(
            f"{where}: line 1 has {len(names)} fields; expected columns separated by {delimiter!r}"
        )
    if "" in columns:
        place = n_labels + columns.index("") + 1
        raise UserError(f"{where}: line 1: the column {place} has no name; give it one or remove the column")
    if all(map(_is_number, columns)) and (first_repeat(columns) or any("." in name for name in columns)):
        raise UserError(
            f"{where}: line 1 holds numbers, expected names of the columns; is the header missing?"
        )


def _numbers(text: str, delimiter: str, n_expected: int, where: str) -> NDArray[np.float32]:
    # A comma is the one separator that numpy does not also find in spaces.
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            row = np.fromstring(text.replace(delimiter, ","), dtype=np.float32, sep=",")
        except (DeprecationWarning, ValueError):
            row = np.empty(0, dtype=np.float32)
    if len(row) != n_expected:
        field = next((f for f in text.split(delimiter) if not _is_number(f)), "")
        raise UserError(f"{where}: {_what_is_wrong(field)}")
    if not np.isfinite(row).all():
        field = text.split(delimiter)[int(np.argmin(np.isfinite(row)))].strip()
        raise UserError(f"{where}: '{field}' is not a finite number")
    return row


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field and field.isascii()


def _what_is_wrong(field: str) -> str:
    if not field.strip():
        return "a field is empty where a number is expected"
    if re.fullmatch(r"-?\d+(,\d+)+(\.\d+)?", field):
        return (
            f"'{field}' has a decimal or thousands comma; write numbers with a point and without separators"
        )
    return f"'{field}' is not a number"


def first_repeat(names: Collection[str]) -> str | None:
    """Return the first name that has been there before, or None."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
