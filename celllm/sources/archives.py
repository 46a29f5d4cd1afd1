"""Downloaded archives and texts, read in place: nothing is ever unpacked to disk.

An archive comes from a server, so its member list is not trusted: names that leave the archive, links,
devices and members beyond a size cap refuse the whole archive. Damage is one line naming the file.
"""

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Any

from celllm.errors import UserError, one_line

MAX_MEMBER = 2**33
MAX_TOTAL = 2**35
MAX_MEMBERS = 100_000
MAX_HEADER = 2**20
"""Long names and PAX records are read into memory by ``tarfile``: a megabyte is far above any honest one."""
MAX_PADDING = 2**24
MAX_LINE = 2**27
"""Bytes of one line of text: a row of 40,000 cells has a megabyte, a bomb has no end."""

_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, UnicodeDecodeError)
_MAGIC = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (.h5ad, .h5, .loom)",
    b"PK\x03\x04": "an Excel workbook (.xlsx) or another zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls); save it as CSV",
    b"RDX": "an R workspace (.RData)",
    b"RDA": "an R workspace (.RData)",
    b"X\n\0\0": "an R object written by saveRDS (.rds)",
    b"A\n2\n": "an R object written by saveRDS (.rds)",
    b"A\n3\n": "an R object written by saveRDS (.rds)",
    b"\x1f\x8b": "compressed twice with gzip; unpack it once",
    b"BZh": "compressed with bzip2; unpack it",
    b"\xfd7zXZ": "compressed with xz; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it",
    b"%PDF": "a PDF document",
    b"7z\xbc\xaf": "a 7-zip archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow or Feather file",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"%%MatrixMarket": "a matrix in Matrix Market's format, without names of genes and cells",
    b"\x93NUMPY": "a NumPy array (.npy)",
    b"version https://git-lfs": "a pointer of Git LFS; get the file itself with `git lfs pull`",
    b"SQLite format 3": "a SQLite database",
}
_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def members(
    path: str | Path, pattern: str = "*", max_bytes: int = MAX_MEMBER, max_total: int = MAX_TOTAL
) -> Iterator[tuple[str, IO[bytes]]]:
    """Iterate the names and streams of the files of a tar archive, plain or compressed.

    Names, without a leading ``./``, match the glob ``pattern``; ``*`` also matches ``/``. A stream is valid
    until the next step. One member has at most ``max_bytes`` after decompression, all have ``max_total``.

    The whole member list is checked, also of members that do not match: a loop that runs to its end has seen
    a complete and honest archive. :class:`UserError` for a missing, truncated or damaged archive, an unsafe
    member, a size beyond the cap, or when no member matches.
    """
    seen: set[str] = set()
    n_matches, total = 0, 0
    with damage(path), _open(path, max_bytes) as archive:
        for member in archive:
            place = PurePosixPath(member.name)
            if place.is_absolute() or ".." in place.parts or "\\" in member.name:
                raise UserError(f"{path}: member {member.name!r} points outside the archive; refused")
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise UserError(f"{path}: member {member.name!r} is a link, device or sparse file; refused")
            name, total = str(place), total + member.size
            if name in seen and not member.isdir():
                raise UserError(f"{path}: member {member.name!r} occurs twice; refused")
            seen.add(name)
            if total > max_total or len(seen) > MAX_MEMBERS:
                raise UserError(f"{path}: unpacks to over {max_total} bytes or {MAX_MEMBERS} files; refused")
            stream = archive.extractfile(member) if member.isreg() and fnmatchcase(name, pattern) else None
            if stream is not None:
                n_matches += 1
                yield name, io.BufferedReader(_Guarded(stream, f"{path}: member {name}", max_bytes), 2**20)
    if not n_matches:
        found = ", ".join(sorted(seen)[:5]) or "nothing"
        raise UserError(f"{path}: no member matches '{pattern}'; it holds {found}")


def open_text(
    source: str | Path | IO[bytes],
    encoding: str | None = None,
    max_bytes: int = MAX_TOTAL,
    errors: str = "strict",
) -> IO[str]:
    """Open a plain or gzip-compressed text for reading; see :func:`open_bytes`.

    UTF-16 and a byte order mark are recognised; any other text is UTF-8 unless ``encoding`` is given.
    :class:`UserError` for a file of another kind, and later for a line longer than ``MAX_LINE``.
    """
    stream = open_bytes(source, max_bytes, MAX_LINE)
    start = stream.peek(512)[:512]
    where = getattr(stream.raw, "where", "the text")
    if encoding is None:
        encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
    zeros = [start[i::2].count(0) for i in (0, 1)]  # Latin letters of UTF-16 have a zero in one half
    if encoding is None and min(zeros) == 0 and max(zeros) > len(start) / 4:
        encoding = "utf-16-be" if zeros[0] else "utf-16-le"
    if encoding is None and (kind := kind_of(start)) is not None:
        stream.close()
        raise UserError(f"{where}: is {kind}; a text is expected")
    return io.TextIOWrapper(stream, encoding=encoding or "utf-8", errors=errors)


def kind_of(start: bytes) -> str | None:
    """Name the kind of a file that is not text by its first bytes; None for what can be a text."""
    found = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
    if found is None and start[257:262] == b"ustar":
        return "a tar archive"
    return "binary data" if found is None and b"\0" in start else found


def open_bytes(
    source: str | Path | IO[bytes], max_bytes: int = MAX_TOTAL, max_line: int | None = None
) -> io.BufferedReader:
    """Open a plain or gzip-compressed file for reading; its first two bytes tell which, not its name.

    ``source`` is a path or a stream of :func:`members` (a compressed file inside an archive); ``max_bytes``
    caps the size after decompression, ``max_line`` the bytes between two line ends, for texts.
    :class:`UserError` for a missing file at once, for damaged data when the reading gets there.
    """
    own = opened(source) if isinstance(source, str | Path) else None
    raw: Any = own or source
    where = str(source) if own else getattr(getattr(raw, "raw", raw), "where", "archive member")
    inner = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw
    return io.BufferedReader(_Guarded(inner, where, max_bytes, own, max_line), 2**20)


@contextmanager
def damage(where: str | Path) -> Iterator[None]:
    """Turn the errors of truncated or damaged data into one :class:`UserError` that names ``where``."""
    try:
        yield
    except _DAMAGE as error:
        raise UserError(
            f"{where}: truncated or damaged ({one_line(error)}); delete it and fetch it again"
        ) from error


class _Guarded(io.RawIOBase):
    """A stream whose damage is reported by name and that ends in an error beyond its caps."""

    def __init__(
        self,
        inner: Any,
        where: str,
        max_bytes: int,
        owned: IO[bytes] | None = None,
        max_line: int | None = None,
    ) -> None:
        self.where = where
        self._inner, self._left, self._max, self._owned = inner, max_bytes, max_bytes, owned
        self._max_line, self._line = max_line, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with damage(self.where):
            n_read = self._inner.readinto(buffer)
        self._left -= n_read
        if self._left < 0:
            raise UserError(f"{self.where}: unpacks to more than {self._max} bytes; refused")
        if self._max_line is not None:
            end = bytes(buffer[:n_read]).rfind(b"\n")
            self._line = self._line + n_read if end < 0 else n_read - end
            if self._line > self._max_line:
                raise UserError(f"{self.where}: has a line of more than {self._max_line} bytes; refused")
        return n_read

    def close(self) -> None:
        if self._owned is not None and not self.closed:
            self._owned.close()
        super().close()


def opened(path: str | Path) -> io.BufferedReader:
    """Open a file for reading; one that is missing, a folder or not readable is a :class:`UserError`."""
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


@contextmanager
def _open(path: str | Path, max_bytes: int) -> Iterator[tarfile.TarFile]:
    """Open the archive with a header class that knows its limits and notices a missing end."""
    cut_short = []

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: Any, encoding: str, errors: str) -> "Header":
            cut_short.append(len(buf) < tarfile.BLOCKSIZE)  # tarfile takes this for a regular end
            header = super().frombuf(buf, encoding, errors)
            limit = MAX_HEADER if header.type in _HEADERS else max_bytes
            if not 0 <= header.size <= limit:
                raise UserError(
                    f"{path}: member {header.name!r} has {header.size} bytes, over {limit}; refused"
                )
            return header

    with opened(path) as handle, tarfile.open(fileobj=handle, mode="r:*", tarinfo=Header) as archive:
        yield archive
        if cut_short[-1]:
            raise tarfile.ReadError("no end-of-archive mark")
        # The checksum of a compressed archive stands behind the padding after the last member.
        stream: Any = archive.fileobj
        if all(stream.read(2**16) for _ in range(MAX_PADDING // 2**16)):
            raise UserError(f"{path}: more than {MAX_PADDING} bytes behind the end of the archive; refused")
