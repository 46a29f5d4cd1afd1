"""Bytes of the file formats of the sources: the same content always gives the same bytes."""

import csv
import gzip
import io
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from scipy import sparse

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class ToyFile:
    """One file of the mirror: its place, its bytes, what it is made of and what it stands for."""

    path: str
    content: bytes
    stands_for: str
    kind: str = "generated"


def table(
    rows: Iterable[Sequence[Any]], separator: str = "\t", end: str = "\n", encoding: str = "utf-8"
) -> bytes:
    """Rows of a delimited text file, nothing quoted."""
    return "".join(separator.join(map(str, row)) + end for row in rows).encode(encoding)


def csv_table(rows: Iterable[Sequence[Any]], end: str = "\n") -> bytes:
    """CSV with quotes around the fields that hold a comma."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=end).writerows(rows)
    return buffer.getvalue().encode()


def by_column(
    columns: Sequence[str], rows: Iterable[Mapping[str, Any]], missing: str | None = "NA"
) -> Iterator[Sequence[Any]]:
    """A header and rows of some of its columns, the others filled up with ``missing``."""
    yield columns
    for row in rows:
        yield [row.get(column, missing) for column in columns]


def quoted_table(rows: Iterable[Sequence[Any]], missing: str) -> bytes:
    """CSV with every field in double quotes but for ``None``, which is written as ``missing``."""
    return table(([missing if v is None else f'"{v}"' for v in row] for row in rows), ",")


def count_table(names: Sequence[str], counts: np.ndarray, separator: str) -> bytes:
    """Lines ``name, number, number ...`` of a two-dimensional array of integers."""
    return table(([name, *row] for name, row in zip(names, counts.tolist(), strict=True)), separator)


def gzipped(content: bytes) -> bytes:
    """Gzip without a time or a name in the header."""
    return gzip.compress(content, compresslevel=6, mtime=0)


def tarred(members: Mapping[str, bytes]) -> bytes:
    """Tar archive of files owned by nobody in particular, dated 1970."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def workbook(rows: Iterable[Sequence[Any]]) -> bytes:
    """Excel workbook with one sheet, its dates fixed inside and in the zip around it."""
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.properties.created = datetime(*_ZIP_EPOCH)
    book.properties.creator = "celllm toy-mirror"
    saved, result = io.BytesIO(), io.BytesIO()
    book.save(saved)
    # Written again: openpyxl stamps the moment of saving on every member and into core.xml
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = re.sub(
                rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>1980-01-01T00:00:00Z", old.read(name)
            )
            member = zipfile.ZipInfo(name, date_time=_ZIP_EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(member, content)
    return result.getvalue()


def matrix_market(genes_by_cells: sparse.spmatrix) -> bytes:
    """MatrixMarket coordinate file of integers: cell by cell, genes last to first as in the original."""
    columns = sparse.csc_matrix(genes_by_cells)
    columns.sort_indices()
    cells = np.repeat(np.arange(columns.shape[1]), np.diff(columns.indptr))
    order = np.lexsort((-columns.indices, cells))
    values = columns.data[order].astype(int)
    entries = np.stack([columns.indices[order] + 1, cells[order] + 1, values], axis=1).tolist()
    head = "%%MatrixMarket matrix coordinate integer general\n%\n"
    return head.encode() + table([[*columns.shape, columns.nnz], *entries], " ")
