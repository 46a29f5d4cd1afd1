"""One file over HTTP: resumed after a broken transfer, and refused when it is not what was asked for."""

import json
import logging
import re
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from celllm import __version__
from celllm.errors import FAULTS, UserError, one_line
from celllm.io import sha256
from celllm.sources import archives
from celllm.sources.catalogue import Content, InputFile

AGENT = f"celllm/{__version__} (reproducibility benchmark)"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
CHUNK = 2**20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long to insist: seconds to connect and between two chunks, tries, first pause between tries."""

    connect: float = 30.0
    silence: float = 120.0
    tries: int = 6
    pause: float = 2.0


PATIENCE = Patience()


class Refused(Exception):
    """An address does not give the file; said in words that follow the address in a message."""


class WrongContent(Refused):
    """An address gave something else; what came is of no use."""


class Broken(Exception):
    """The transfer ended early; what came is kept and the rest can be asked for."""


@dataclass(frozen=True)
class Part:
    """What is known of a half-fetched file: enough to ask for the rest of the same version."""

    url: str
    validator: str = ""
    total: int | None = None
    final: str = ""

    @classmethod
    def read(cls, partial: Path) -> "Part | None":
        """Read the note beside a half-fetched file; None when there is none to go by."""
        try:
            return cls(**json.loads(_note(partial).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, partial: Path) -> None:
        """Keep the note beside the half-fetched file."""
        _note(partial).write_text(json.dumps(self.__dict__), encoding="utf-8")


def forget(partial: Path) -> None:
    """Remove a half-fetched file and its note."""
    partial.unlink(missing_ok=True)
    _note(partial).unlink(missing_ok=True)


def download(url: str, file: InputFile, partial: Path, patience: Patience) -> str:
    """Fetch ``url`` to ``partial`` completely, going on from what is there, and check it.

    Kind of content, size and checksum are held against the catalogue's row, or :class:`Refused` is raised.
    After a broken transfer ``partial`` stays for the next call, after wrong content it is gone. Returned is
    the address behind all redirects, without its query (where storage services write keys).
    """
    partial.parent.mkdir(parents=True, exist_ok=True)
    retries = Retry(
        total=patience.tries - 1,
        connect=min(2, patience.tries - 1),  # a machine without a network learns of it soon
        backoff_factor=patience.pause,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
    )
    with requests.Session() as session:
        session.headers["User-Agent"] = BROWSER if file.browser else AGENT
        session.headers["Accept-Encoding"] = "identity"  # sizes and checksums are those of the stored file
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retries))
        second_chance = partial.exists()
        try:
            _complete(session, url, file, partial, patience)
        except WrongContent as error:
            if not second_chance:
                raise
            log.info("%s: %s; fetching all of it again", file.path, error)
            _complete(session, url, file, partial, patience)
    part = Part.read(partial)
    return part.final if part and part.final else url


def _complete(
    session: requests.Session, url: str, file: InputFile, partial: Path, patience: Patience
) -> None:
    try:
        _persist(session, url, file, partial, patience)
        size = _size(partial)
        if file.bytes is not None and size != file.bytes:
            raise WrongContent(f"sent {size:,} bytes, expected {file.bytes:,}")
        if file.sha256 is None and not file.at_least <= size <= file.at_most:
            raise WrongContent(
                f"sent {size:,} bytes, plausible are {file.at_least:,} to {file.at_most:,} "
                "(at_least, at_most)"
            )
        if file.sha256 is None:
            check_whole(file.content, partial)
        elif (found := sha256(partial)) != file.sha256:
            raise WrongContent(f"sent a file with sha256 {found}, expected {file.sha256}")
    except WrongContent:
        forget(partial)
        raise
    except Broken as error:
        raise Refused(str(error)) from error


def _persist(session: requests.Session, url: str, file: InputFile, partial: Path, patience: Patience) -> None:
    """Ask again for the rest as often as the transfer breaks; a try that brings bytes is not counted."""
    tries = 0
    while True:
        before = _size(partial)
        try:
            return _transfer(session, url, file, partial, patience)
        except Broken as error:
            tries = 1 if _size(partial) > before else tries + 1
            if tries >= patience.tries:
                raise Broken(f"{error}, after {tries} tries") from error
            log.info("%s: %s; trying again", file.path, error)
            time.sleep(patience.pause * 2 ** (tries - 1))


def _transfer(
    session: requests.Session, url: str, file: InputFile, partial: Path, patience: Patience
) -> None:
    """Send one request and store what it brings; raise Broken when that is not the end of the file."""
    part, start, wanted = Part.read(partial), 0, {}
    # Without a validator or a checksum nothing vouches for the version of what is there.
    if part is not None and part.url == url and (part.validator or file.sha256):
        start = _size(partial)
        wanted = {"Range": f"bytes={start}-"} | ({"If-Range": part.validator} if part.validator else {})
    limits = (patience.connect, patience.silence)
    try:
        with session.get(url, headers=wanted if start else {}, stream=True, timeout=limits) as response:
            if start and response.status_code == requests.codes.requested_range_not_satisfiable:
                forget(partial)
                raise Broken("the server has another version of it")
            start = _accept(response, start)
            _check_redirects(file, url, response)
            tag = response.headers.get("ETag", "")
            validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
            length = response.headers.get("Content-Length", "")
            final = (
                urlsplit(response.url)._replace(query="", fragment="").geturl() if response.history else ""
            )
            part = Part(url, validator, start + int(length) if length.isdecimal() else None, final)
            part.write(partial)
            _store(response, file, partial, part, start)
            _check_end(file, part, partial, "text/html" in response.headers.get("Content-Type", ""))
    except requests.exceptions.ConnectionError as error:
        raise Refused(f"no connection ({_reason(error)})") from error
    except requests.exceptions.RequestException as error:
        raise Refused(_reason(error)) from error


def _accept(response: requests.Response, start: int) -> int:
    """Return the offset at which this response begins; refuse anything but a file."""
    if response.status_code == requests.codes.partial_content:
        begin = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if begin is None or int(begin[1]) != start:
            raise Refused("sent another part of the file than was asked for")
        return start
    if response.status_code != requests.codes.ok:
        raise Refused(f"answered {response.status_code} {response.reason or ''}".strip())
    return 0


def _check_redirects(file: InputFile, url: str, response: requests.Response) -> None:
    """Refuse to be led away from what the catalogue names, unless the file's checksum is known."""
    if file.sha256 is not None:
        return
    start = urlsplit(url)
    allowed = (start.hostname or "", *file.hosts)
    for hop in (urlsplit(one.url) for one in (*response.history[1:], response)):
        host = hop.hostname or ""
        if (start.scheme, hop.scheme) == ("https", "http"):
            raise Refused(f"leads from https to {hop.scheme}://{host}; give the file's sha256 to accept it")
        if not any(host == known or host.endswith(f".{known}") for known in allowed):
            raise Refused(f"leads to another host, {host}; list it under `hosts` or give the file's sha256")


def _store(response: requests.Response, file: InputFile, partial: Path, part: Part, start: int) -> None:
    """Write the body behind ``start``, byte by byte as it is stored there: no decoding on the way."""
    most = file.bytes or part.total or file.at_most
    with (
        open(partial, "r+b" if start else "wb") as handle,
        tqdm(
            desc=file.path,
            total=part.total,
            initial=start,
            unit="B",
            unit_scale=True,
            mininterval=0.2 if sys.stderr.isatty() else 30.0,
            leave=False,
        ) as bar,
    ):
        handle.seek(start)
        handle.truncate()
        try:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                if handle.tell() + len(chunk) > most:
                    raise WrongContent(f"sent more than {most:,} bytes")
                handle.write(chunk)
                bar.update(len(chunk))
        except HTTPError as error:
            raise Broken(f"the transfer broke off at {handle.tell():,} bytes ({_reason(error)})") from error
        except OSError as error:  # of the disk; those of the network are HTTPErrors here
            said = FAULTS.get(error.errno or 0, f"cannot be written ({error.strerror})")
            raise UserError(f"{file.path}: {said}") from error


def _check_end(file: InputFile, part: Part, partial: Path, declared_html: bool) -> None:
    """Look at the beginning, then ask whether the end was reached, as far as anybody said where it is."""
    check_start(file.content, partial, declared_html)
    size, total = _size(partial), file.bytes if part.total is None else part.total
    if total is not None and size < total:
        raise Broken(f"the transfer broke off at {size:,} of {total:,} bytes")
    if total is None and file.sha256 is None:
        try:
            check_whole(file.content, partial)
        except WrongContent as error:
            forget(partial)
            raise Broken(f"the transfer broke off at {size:,} bytes") from error


def check_start(content: Content, path: Path, declared_html: bool = False) -> None:
    """Hold the first bytes of a file against the kind of content, or raise :class:`WrongContent`.

    A page instead of the file is the commonest answer of a server in trouble, often with status 200.
    """
    with open(path, "rb") as handle:
        start = handle.read(4096)
    head = re.sub(rb"^(\xef\xbb\xbf|\s|<!--.*?-->|<\?xml.*?\?>)+", b"", start, flags=re.DOTALL)
    is_html = re.match(rb"<(!doctype\s+html|html|head|body|script|meta)\b", head, flags=re.IGNORECASE)
    gzipped = start.startswith(b"\x1f\x8b")
    text = content == "text" or (content == "text_or_gzip" and not gzipped)
    if content != "html" and (is_html or (text and declared_html)):
        raise WrongContent("sent an HTML page instead of the file")
    if text and b"\0" in start[:1024]:
        raise WrongContent("sent something that is not text")
    if content == "gzip" and not gzipped:
        raise WrongContent("sent something that is not gzip-compressed")
    if content == "rdata" and not start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"RDX")):
        raise WrongContent("sent something that is not an RData file")
    if content == "tar" and start[257:262] != b"ustar":
        raise WrongContent("sent something that is not a tar archive")
    if content == "hdf5" and not start.startswith((b"\x89HDF\r\n\x1a\n", b"\x1f\x8b")):
        raise WrongContent("sent something that is no HDF5 file")
    if content == "excel" and not start.startswith(b"PK\x03\x04"):
        raise WrongContent("sent something that is not an Excel file")


def check_whole(content: Content, path: Path) -> None:
    """Read a compressed file or archive to its end; raise :class:`WrongContent` when it is not whole."""
    with open(path, "rb") as handle:
        start = handle.read(2)
    if not start:
        raise WrongContent("sent an empty file")
    try:
        if content == "tar":
            for _ in archives.members(path):
                pass
        elif content == "excel":
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    raise zipfile.BadZipFile
        elif content == "hdf5" and start != b"\x1f\x8b":
            import h5py

            try:
                h5py.File(path, "r").close()  # it compares the size with the one in the file's head
            except OSError as error:
                raise UserError(str(error)) from error
        elif content != "text":
            with archives.open_bytes(path) as stream:
                while stream.read(CHUNK):
                    pass
    except (UserError, zipfile.BadZipFile) as error:
        raise WrongContent("sent a truncated or damaged file") from error


def _reason(error: BaseException) -> str:
    """Return the innermost cause in a few words."""
    while True:
        inner = getattr(error, "reason", None) or error.__cause__ or error.__context__
        inner = inner or next((a for a in error.args if isinstance(a, BaseException)), None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    return one_line(error)[:200]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _note(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")
