"""Bytes that take long to compute, in files of a folder: mapped into memory, checked, the oldest removed.

Any number of processes may use a folder: a file appears whole or not at all, two that compute the same write
the same, and a file that is removed lives on for those that have mapped it.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from celllm.io import atomic

log = logging.getLogger(__name__)

MIB = 2**20
_SUFFIX = ".states"
_DIGEST_BYTES = 32
_DAY = 86_400.0


@dataclass(frozen=True)
class StateCache:
    """A folder of entries, made when it is not there, with a limit to their size.

    The least recently used files make room; what is larger than ``limit_mib`` by itself is not kept.
    """

    folder: Path
    limit_mib: int

    def get(self, key: str, n_bytes: int, fill: Callable[[Tensor], None]) -> Tensor | None:
        """Bytes of an entry (n_bytes,), uint8, mapped from its file; None when it is larger than the limit.

        ``key`` names all that the bytes depend on; it is part of the file's name. ``fill`` writes the bytes
        into the tensor it is given; it is called when there is no file, or a damaged one.
        """
        path = self.folder / f"{key}{_SUFFIX}"
        if n_bytes + _DIGEST_BYTES > self.limit_mib * MIB:
            log.info("%s: %d MiB are over the limit; nothing is kept there", self.folder, n_bytes // MIB)
            return None
        found = _read(path, n_bytes)
        if found is None:
            with atomic(path) as partial:
                with open(partial, "r+b") as handle:
                    os.posix_fallocate(handle.fileno(), 0, n_bytes)  # a full disk is an error here, no crash
                found = _map(partial, n_bytes, shared=True)
                fill(found)
                with open(partial, "ab") as handle:
                    handle.write(_digest(found))
            self._make_room(path)
        return found

    def _make_room(self, newest: Path) -> None:
        """Remove the files used longest ago until the rest is within the limit; leftovers after a day."""
        entries = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):  # another process has just removed it
                entries.append((path.stat().st_mtime, path, path.stat().st_size))
        total = sum(size for _, _, size in entries)
        for used, path, size in sorted(entries):
            being_written = path.name.startswith(".") and time.time() - used < _DAY
            if total > self.limit_mib * MIB and path != newest and not being_written:
                path.unlink(missing_ok=True)
                total -= size


def _read(path: Path, n_bytes: int) -> Tensor | None:
    """Map a file, marked as used now; None when it is missing or damaged."""
    try:
        with open(path, "rb") as handle:
            whole = os.fstat(handle.fileno()).st_size == n_bytes + _DIGEST_BYTES
            mapped = _map(Path(f"/dev/fd/{handle.fileno()}"), n_bytes) if whole else None
            if mapped is not None and _digest(mapped) == os.pread(handle.fileno(), _DIGEST_BYTES, n_bytes):
                os.utime(handle.fileno())
                return mapped
    except FileNotFoundError:
        return None
    log.warning("%s: damaged; it is computed again", path)
    return None


def _map(path: Path, n_bytes: int, shared: bool = False) -> Tensor:
    return torch.from_file(str(path), shared=shared, size=n_bytes, dtype=torch.uint8)


def _digest(mapped: Tensor) -> bytes:
    return hashlib.sha256(mapped.numpy().data).digest()
