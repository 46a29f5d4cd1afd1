"""data.lock: what was fetched from where, with its checksum, and the locks that keep parallel jobs apart."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from celllm.errors import UserError
from celllm.io import read_json, sha256, write_json, write_text
from celllm.settings import Settings, as_settings

LOCKS = ".locks"
"""Folder of lock files under the raw folder; they stay there empty."""

log = logging.getLogger(__name__)


class Entry(Settings):
    """One file as it was first seen: ``url`` is an address, ``mirror:<path>`` or ``supplied``.

    ``final`` is the address behind all redirects, where there were any.
    """

    url: str
    bytes: int
    sha256: str
    date: str
    final: str = ""

    @classmethod
    def of(cls, file: Path, url: str, final: str = "") -> "Entry":
        """Describe a file on disk, now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(url=url, bytes=file.stat().st_size, sha256=sha256(file), date=now, final=final)


class DataLock:
    """The file data.lock: entries by path under the raw folder, shared by all jobs that use that folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Entry]:
        """Return all entries; none when the file does not exist yet."""
        if not self.path.exists():
            return {}
        content = read_json(self.path)
        files = content.get("files") if isinstance(content, dict) else None
        if not isinstance(files, dict):
            raise UserError(f"{self.path}: not a data.lock; restore it, or delete it to lock all files anew")
        return {path: as_settings(Entry, entry, f"{self.path}: {path}") for path, entry in files.items()}

    def write(self, path: str, entry: Entry) -> None:
        """Add or replace one entry, safe against other jobs doing the same."""
        with held(self.path.parent / LOCKS / self.path.name):
            entries = self.read() | {path: entry}
            files = {name: entries[name].model_dump(exclude_defaults=True) for name in sorted(entries)}
            write_json(self.path, {"version": 1, "files": files})


def verified(path: str | Path, what: str = "") -> Path:
    """Return a raw file's path once it is known to be there and what data.lock says of it.

    The lock is looked for in the folders above the file; a file that none of them locks is taken as it is.
    Its content is hashed once and again only when its size or time has changed. ``what`` says what the file
    is, for the :class:`UserError` when it is missing; a changed file is one too.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a folder; a file is expected" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {kind}{f' ({what})' if what else ''}")
    place = path.resolve()
    folder = next((up for up in place.parents if (up / "data.lock").is_file()), None)
    entry = DataLock(folder / "data.lock").read().get(str(place.relative_to(folder))) if folder else None
    if folder is None or entry is None:
        return path
    status = place.stat()
    note = folder / LOCKS / f"{place.relative_to(folder)}.checked"
    stamp = f"{status.st_size} {status.st_mtime_ns} {entry.sha256}"
    if note.is_file() and note.read_text(encoding="utf-8") == stamp:
        return path
    if status.st_size != entry.bytes or sha256(place) != entry.sha256:
        raise UserError(
            f"{path}: changed since it was fetched on {entry.date} (data.lock: {entry.bytes:,} bytes, "
            f"sha256 {entry.sha256[:12]}...); delete it and fetch it again, or remove its entry there"
        )
    with suppress(UserError):  # in a read-only raw folder it is hashed each time
        write_text(note, stamp)
    return path


@contextmanager
def held(path: Path, waiting_for: str | None = None) -> Iterator[None]:
    """Hold an exclusive lock between processes; the system frees it when the process ends, however it ends.

    The lock file is made when missing; the log says that this process waits for ``waiting_for``.
    :class:`UserError` when the file system knows no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); use another raw folder") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting_for:
                log.info("waiting for %s", waiting_for)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(
                f"{path}: cannot be locked ({error.strerror}); use a raw folder on another disk"
            ) from error
        yield
    finally:
        os.close(handle)
