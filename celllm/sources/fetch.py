"""Files of the catalogue brought from their servers or from a mirror: checked, complete or absent."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from celllm.errors import UserError
from celllm.io import atomic, sha256
from celllm.sources.catalogue import Catalogue, InputFile, choose
from celllm.sources.download import PATIENCE, Patience, Refused, check_start, check_whole, download, forget
from celllm.sources.lock import LOCKS, DataLock, Entry, held
from celllm.sources.samples import list_samples

_AGAIN = "delete the file to fetch it again"
PARTIAL = ".partial"
"""Folder of half-fetched files under the raw folder; nothing half-written stands under its final name."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """A raw folder and its data.lock, fed by the internet or by a mirror."""

    raw: Path
    lock: DataLock
    mirror: Path | None = None
    offline: bool = False
    patience: Patience = PATIENCE

    @classmethod
    def of(
        cls,
        raw: str | Path,
        mirror: str | Path | None = None,
        offline: bool = False,
        lock: str | Path | None = None,
        patience: Patience = PATIENCE,
    ) -> "Store":
        """Make a store; ``lock`` is ``data.lock`` in the raw folder unless said otherwise."""
        if mirror is not None and not Path(mirror).is_dir():
            raise UserError(f"mirror: {mirror} is not a folder; name a folder laid out like data/raw")
        locked = DataLock(Path(lock) if lock else Path(raw) / "data.lock")
        return cls(Path(raw), locked, Path(mirror) if mirror else None, offline, patience)

    def place(self, file: InputFile) -> Path:
        """Where the file stands when it is complete."""
        return self.raw / file.path


def fetch(
    path: str,
    catalogue: str | Path | Catalogue,
    raw: str | Path = "data/raw",
    mirror: str | Path | None = None,
    offline: bool = False,
    lock: str | Path | None = None,
    patience: Patience = PATIENCE,
) -> Path:
    """Bring one file of the catalogue into the raw folder and return its place there.

    ``path`` is relative, as in the catalogue, samples filled in. A file that is already there is checked and
    not fetched again. ``mirror`` is a folder laid out like the raw folder, to copy from instead of
    downloading; ``offline`` refuses to download; ``lock`` keeps checksums of first downloads, by default
    ``data.lock`` in the raw folder. :class:`UserError` for an unknown path, no address, no connection, wrong
    content, or a file that has changed.
    """
    file = Catalogue.read(catalogue).resolve(path)
    return _bring(file, Store.of(raw, mirror, offline, lock, patience))


def _bring(file: InputFile, store: Store) -> Path:
    """Fetch or check one file, alone among all processes that use this raw folder."""
    place = store.place(file)
    with held(store.raw / LOCKS / f"{file.path}.lock", waiting_for=f"another process fetching {file.path}"):
        entry = store.lock.read().get(file.path)
        # A mirror's stand-in and the real file are never taken for one another.
        is_mirrored = entry is not None and entry.url.startswith("mirror:")
        if entry and file.local is None and is_mirrored != (store.mirror is not None):
            if place.exists() and is_mirrored:
                raise UserError(f"{place}: came from a mirror; use another raw folder for downloads")
            if place.exists():
                raise UserError(
                    f"{place}: did not come from a mirror; use another raw folder for files of a mirror"
                )
            entry = None
        if file.local is not None or store.mirror is not None:
            _copy(file, place, entry, store)
        elif place.exists():
            _verify(file, place, entry, store)
        else:
            _from_server(file, place, entry, store)
    return place


def _verify(file: InputFile, place: Path, entry: Entry | None, store: Store) -> None:
    """Check a file that is there; a file that nobody has seen before is locked."""
    found = Entry.of(place, entry.url if entry else "supplied")
    if file.bytes is not None and found.bytes != file.bytes:
        raise UserError(f"{place}: has {found.bytes:,} bytes, expected {file.bytes:,} ({file.key}); {_AGAIN}")
    if file.sha256 is not None and found.sha256 != file.sha256:
        raise UserError(f"{place}: sha256 is {found.sha256}, expected {file.sha256} ({file.key}); {_AGAIN}")
    if entry is None:
        _look_at(file, place)
        store.lock.write(file.path, found)
    elif found.sha256 != entry.sha256:
        raise UserError(f"{place}: sha256 is {found.sha256}, {store.lock.path} has {entry.sha256}; {_AGAIN}")


def _look_at(file: InputFile, place: Path) -> None:
    """Refuse a file put there by hand that is plainly not what its name says."""
    try:
        check_start(file.content, place)
        check_whole(file.content, place)
    except Refused as error:
        what = str(error).removeprefix("sent ")
        raise UserError(f"{place}: is {what}; put the right file there ({file.key})") from error


def _copy(file: InputFile, place: Path, entry: Entry | None, store: Store) -> None:
    """Copy a file of the user's, or of the mirror, unless the same is there; a changed one is taken anew."""
    expected = None
    if file.local is not None:
        origin, url = Path(file.local), f"local:{file.local}"
        if not origin.is_file():
            raise UserError(f"{file.local}: no such file ({file.key}); mend its path there")
    else:
        mirror = Path(store.mirror or "")
        origin, url = mirror / file.path, f"mirror:{file.path}"
        if not origin.is_file():
            raise UserError(
                f"mirror {mirror}: {file.path} is not there ({file.key}); add it, or run without the mirror"
            )
        expected = checksums(mirror).get(file.path)
    found = Entry.of(origin, url)
    if expected is None:
        _look_at(file, origin)
    elif found.sha256 != expected:
        raise UserError(
            f"{origin}: sha256 is {found.sha256}, SHA256SUMS of the mirror has {expected}; copy it again"
        )
    if not place.exists() or sha256(place) != found.sha256:
        with atomic(place) as partial:
            shutil.copyfile(origin, partial)
    if entry is None or entry.sha256 != found.sha256:
        store.lock.write(file.path, found)


def checksums(folder: Path) -> dict[str, str]:
    """Read the SHA256SUMS of a folder (the format of ``sha256sum``); empty where there is none."""
    listed = folder / "SHA256SUMS"
    if not listed.exists():
        return {}
    sums = {}
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), 1):
        digest, blank, name = line.partition(" ")
        if not blank or len(digest) != 64:
            raise UserError(
                f"{listed}: line {number} is not `<sha256>  <path>`; write it again with sha256sum"
            )
        sums[name[1:].removeprefix("./")] = digest
    return sums


def _from_server(file: InputFile, place: Path, entry: Entry | None, store: Store) -> None:
    """Try the addresses in order; what comes must be what the catalogue and data.lock know."""
    if not file.urls:
        raise UserError(f"{place}: has no public address; put there {file.supply} ({file.key})")
    if store.offline:
        raise UserError(f"{place}: is not there, and --offline forbids to download it from {file.urls[0]}")
    partial = store.raw / PARTIAL / file.path
    failures = []
    for url in file.urls:
        host = urlsplit(url).netloc
        try:
            with held(store.raw / LOCKS / f"{host}.host", waiting_for=f"another download from {host}"):
                log.info("%s: from %s", file.path, url)
                final = download(url, file, partial, store.patience)
        except Refused as error:
            log.info("%s: %s: %s", file.path, url, error)
            failures.append(f"{url}: {error}")
            continue
        found = Entry.of(partial, url, "" if final == url else final)
        if entry is not None and found.sha256 != entry.sha256:
            forget(partial)
            raise UserError(
                f"{file.path}: sha256 of {url} is {found.sha256}, {store.lock.path} has {entry.sha256} of "
                f"{entry.date}: the publisher changed it; to accept the new file remove its entry there"
            )
        if entry is None:
            store.lock.write(file.path, found)
        place.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(place)
        return forget(partial)
    raise UserError(f"{file.path}: not fetched: {'; '.join(failures)} ({file.key})")


def overview(catalogue: Catalogue, store: Store, only: Sequence[str] = ()) -> list[tuple[InputFile, str]]:
    """State of every file of the catalogue: locked, present (not locked), missing or user-supplied (missing).

    The files of samples are one line per template with the number that is there.
    """
    locked = store.lock.read()
    lines = []
    for source in choose(catalogue, only):
        for file in catalogue.files(source):
            state = "missing" if file.urls else "user-supplied"
            if store.place(file).exists():
                state = "locked" if file.path in locked else "present"
            lines.append((file, state))
        for file in catalogue.sample_files(source):
            n_there = len(list(store.raw.glob(file.path.replace("{sample}", "*"))))
            lines.append((file, f"{n_there} present"))
    return lines


def run_fetch(
    catalogue: Sequence[str | Path] = ("config/data_sets.yaml",),
    raw: str | Path = "data/raw",
    path: Sequence[str] = (),
    only: Sequence[str] = (),
    mirror: str | Path | None = None,
    offline: bool = False,
    list_: bool = False,
    dry_run: bool = False,
    lock: str | Path | None = None,
) -> None:
    """Download input files, or copy them from a mirror, and check them.

    Parameters
    ----------
    catalogue
        The lists of all inputs, each laid over those before it.
    raw
        Folder the files go to.
    mirror
        Folder taken in place of the internet.
    offline
        Fetch nothing; check what is there.
    lock
        The lock file; default: ``data.lock`` in the raw folder.
    path
        Relative paths to fetch; empty: all files of the sources, with those of the samples that the
        options in the catalogue choose.
    only
        Names of the sources; empty: all.
    list_
        Print the table of all files and their state, and fetch nothing.
    dry_run
        Print the table of the files that would be fetched.

    Raises
    ------
    UserError
        When a file could not be brought. Of several files all are tried first and each failure is logged.
    """
    read, store = Catalogue.read(catalogue), Store.of(raw, mirror, offline, lock)
    if list_ or dry_run:
        rows = [("path", "bytes", "state", "from")]
        for file, state in overview(read, store, only):
            if list_ or state not in ("locked", "present"):
                address = file.local or next(iter(file.urls), "{url}")
                origin = f"user: {file.supply}" if address == "{url}" else address
                rows.append((file.path, f"{file.bytes:,}" if file.bytes else "?", state, origin))
        a, b, c = (max(len(row[i]) for row in rows) for i in range(3))
        print(
            *(f"{p:<{a}}  {size:>{b}}  {state:<{c}}  {origin}" for p, size, state, origin in rows), sep="\n"
        )
        return
    if path:
        failures = _failures([read.resolve(one) for one in path], store)
    else:
        failures = [
            failure for source in choose(read, only) for failure in _bring_source(read, source, store)
        ]
    if len(failures) == 1:
        raise UserError(failures[0])
    for failure in failures:
        log.error(failure)
    if failures:
        raise UserError(f"{len(failures)} files were not fetched; the lines above say why, one each")


def _bring_source(catalogue: Catalogue, source: str, store: Store) -> list[str]:
    """Bring the files of a source, then those of the samples that its own files list; return what failed."""
    failures = _failures([file for file in catalogue.files(source) if file.wanted], store)
    if failures or not catalogue.sample_files(source):
        return failures
    files = {file.name: store.place(file) for file in catalogue.files(source)}
    options = dict(catalogue.source(source)["options"])
    if store.mirror is not None:
        options["samples"] = "mirrored"
    try:
        samples = list_samples(catalogue, source, files, options, store.mirror)["sample"]
    except UserError as error:
        return [str(error)]
    return _failures([file for name in samples for file in catalogue.sample_files(source, str(name))], store)


def _failures(files: Sequence[InputFile], store: Store) -> list[str]:
    failures = []
    for file in files:
        try:
            _bring(file, store)
        except UserError as error:
            failures.append(str(error))
    return failures
