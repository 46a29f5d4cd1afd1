"""Files that are either complete or absent: written beside their place, synced, renamed."""

import csv
import hashlib
import json
import os
import re
import socket
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from celllm.errors import FAULTS, NO_ROOM, UserError, errno_of, one_line

if TYPE_CHECKING:
    import pandas as pd

# libyaml where PyYAML has it: ten times as fast.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _YamlLoader(_Loader):  # type: ignore[misc, valid-type]
    """Refuses a key that appears twice in a mapping, where YAML's own rule is that the last one wins."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                    continue
                if (key.tag, key.value) in seen:
                    said = f"the key '{key.value}' appears twice"
                    raise yaml.constructor.ConstructorError(None, None, said, key.start_mark)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


# What a spreadsheet takes for a formula: a text with one of these in front that is no number.
_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d.,]+$)")


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; on success it is synced and renamed to ``path``.

    The temporary name keeps the suffixes of ``path`` (writers that look at them still work). When the block
    raises, the temporary file is removed and whatever stood at ``path`` before stays as it was. Temporary
    files of writers that were killed are removed on the way.

    Raises
    ------
    UserError
        For a folder, a device or a pipe in place of the file, a name that is too long, a full disk, or a
        place that cannot be written.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # as root, a rename would put a file in place of /dev/null
            what = "a folder" if path.is_dir() else "a device or a pipe"
            raise UserError(f"{path}: is {what}; name a file to write")
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_of_the_dead(path.parent)
        prefix, suffix = f".partial-{_HOST}-{os.getpid()}-", "".join(path.suffixes)[-40:]
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=path.parent)
    except OSError as error:
        said = FAULTS.get(error.errno or 0, f"cannot be written ({error.strerror}); choose another place")
        raise UserError(f"{path}: {said}") from error
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)  # afterwards: some writers put a file of their own in its place
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    except UserError:
        raise
    except Exception as error:
        if errno_of(error) not in NO_ROOM:
            raise
        raise UserError(f"{path}: {FAULTS[errno_of(error) or 0]}") from error
    finally:
        partial.unlink(missing_ok=True)


_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _remove_of_the_dead(folder: Path) -> None:
    """Remove temporary files of processes of this machine that have ended, and of others after a day."""
    for file in folder.glob(".partial-*-*-*"):
        _, _, host, writer, *_ = re.split(r"[.-]", file.name, maxsplit=4)
        dead = False
        if host == _HOST and Path("/proc/self").exists():
            dead = writer.isdigit() and not Path("/proc", writer).exists()
        else:
            with suppress(FileNotFoundError):
                dead = time.time() - file.stat().st_mtime > 24 * 3600
        if dead:
            file.unlink(missing_ok=True)


def sync(path: str | Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")


def as_json(value: Any) -> str:
    """One line of JSON with sorted keys: equal settings are equal text, and only changes run a job again."""
    return json.dumps(value, sort_keys=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given, with a final newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table atomically: a line of column names, then the rows."""
    with atomic(path) as partial, open(partial, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


@contextmanager
def reading(path: str | Path, what: str = "", *errors: type[Exception]) -> Iterator[None]:
    """Make a missing file, and ``errors`` (with ``what`` is wrong), a :class:`UserError` naming the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except errors as error:
        raise UserError(f"{path}: {what.format(one_line(error))}") from error


def read_csv(path: str | Path, text: Iterable[str] | None = None) -> "pd.DataFrame":
    """Read a CSV file; one that is missing or no CSV is a :class:`UserError` naming it.

    The columns ``text`` stay as they are written, nothing in them taken for missing; numbers elsewhere become
    numbers. Without ``text`` that is so of all columns.
    """
    import pandas as pd

    how: dict[str, Any] = {"converters": dict.fromkeys(text, str)} if text is not None else {}
    with reading(
        path, "not a CSV file ({})", pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError
    ):
        return pd.read_csv(path, **(how or {"dtype": str, "keep_default_na": False}))


def for_spreadsheets(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Put an apostrophe before texts that a spreadsheet would run as a formula; numbers stay as they are."""
    return frame.map(lambda cell: f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell)


def from_spreadsheets(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Take the apostrophes of :func:`for_spreadsheets` away again."""
    quoted = re.compile(f"'(?:{_FORMULA.pattern})")
    return frame.map(lambda cell: cell[1:] if isinstance(cell, str) and quoted.match(cell) else cell)


def read_json(path: str | Path) -> Any:
    """Read JSON; a file that is missing or not JSON is a :class:`UserError` naming it."""
    with reading(path, "not a JSON file ({})", json.JSONDecodeError, UnicodeDecodeError):
        return json.loads(Path(path).read_text(encoding="utf-8"))


def read_yaml(path: str | Path) -> Any:
    """Read YAML without running any of it; trouble is a :class:`UserError` naming file and line."""
    with reading(path, "not valid YAML ({})", yaml.YAMLError):
        return yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_YamlLoader)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits; one that is missing is a :class:`UserError`."""
    with reading(path), open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
