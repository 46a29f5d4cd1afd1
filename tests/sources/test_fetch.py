import gzip
import io
import json
import multiprocessing
import re
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from celllm.errors import UserError
from celllm.sources.catalogue import InputFile
from celllm.sources.download import BROWSER, Patience, Refused, _check_redirects
from celllm.sources.fetch import fetch, run_fetch

QUICK = Patience(connect=5.0, silence=1.0, tries=3, pause=0.01)
BODY = bytes(range(256)) * 4000


@dataclass
class Page:
    """What an address gives; the first answers can have another status (``failures``) or break off."""

    body: bytes
    etag: str | None = '"v1"'
    status: int = 200
    kind: str = "application/octet-stream"
    length: bool = True
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    pause: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    on_request: Callable[["Page"], None] | None = None


class Server:
    """A web server on loopback that misbehaves as told; ``busiest``: the most requests at one time."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.busiest = self._busy = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.requests.append((self.path, dict(self.headers)))
                server._count(1)
                self.close_connection = True
                with suppress(BrokenPipeError, ConnectionResetError):
                    _answer(
                        self, server.pages.get(self.path, Page(b"no such page", status=404)), server._count
                    )

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._http.server_port}{path}"

    def asked(self, path: str) -> list[str | None]:
        """Range headers of the requests for a path, in order."""
        return [headers.get("Range") for p, headers in self.requests if p == path]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _count(self, step: int) -> None:
        with self._lock:
            self._busy += step
            self.busiest = max(self.busiest, self._busy)


def _answer(request: BaseHTTPRequestHandler, page: Page, count: Callable[[int], None]) -> None:
    if page.on_request:
        page.on_request(page)
    if page.failures:
        request.send_response(page.failures.pop(0))
        request.send_header("Content-Length", "0")
        request.send_header("Connection", "close")
        request.end_headers()
        return
    start = _start(request, page)
    body = page.body[start:]
    request.send_response(206 if start else page.status)
    request.send_header("Content-Type", page.kind)
    if page.length:
        request.send_header("Content-Length", str(len(body)))
    if start:
        request.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
    for name, value in ({"ETag": page.etag} if page.etag else {}).items() | page.headers.items():
        request.send_header(name, value)
    request.send_header("Connection", "close")
    request.end_headers()
    cut = page.cuts.pop(0) if page.cuts else len(body)
    for i in range(0, min(cut, len(body)), 65536):
        time.sleep(page.pause)
        if i + 65536 >= cut:
            count(-1)  # before the client can know that it has everything
        request.wfile.write(body[i : min(i + 65536, cut)])
        request.wfile.flush()


def _start(request: BaseHTTPRequestHandler, page: Page) -> int:
    wanted = re.match(r"bytes=(\d+)-", request.headers.get("Range", ""))
    same = request.headers.get("If-Range", page.etag) == page.etag
    return int(wanted[1]) if wanted and page.ranges and same else 0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = Server()
    yield server
    server.close()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


def _catalogue(folder: Path, urls: list[str], path: str = "x/data.bin.gz", **row: object) -> Path:
    """Write a catalogue with one file."""
    file = {"path": path, "urls": urls, "sha256": None, "bytes": None, **row}
    source = {
        "title": "X",
        "role": "genes",
        "licence": "",
        "citation": "",
        "note": "",
        "files": {"data": file},
    }
    return _write(folder, {"x": source})


def _write(folder: Path, sources: dict) -> Path:
    place = folder / "data_sets.yaml"
    place.write_text(yaml.safe_dump(sources))
    return place


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _lock(raw: Path) -> dict:
    return json.loads((raw / "data.lock").read_text())["files"]


def _left(raw: Path) -> list[str]:
    """Files in the raw folder, without locks."""
    return sorted(str(p.relative_to(raw)) for p in raw.rglob("*") if p.is_file() and ".locks" not in p.parts)


GZ = gzip.compress(BODY, mtime=0)


def test_a_download_is_complete_and_locked(server: Server, raw: Path, tmp_path: Path) -> None:
    server.pages["/x"] = Page(GZ)
    catalogue = _catalogue(tmp_path, [server.url("/x")])
    assert fetch("x/data.bin.gz", catalogue, raw).read_bytes() == GZ
    entry = _lock(raw)["x/data.bin.gz"]
    assert (entry["url"], entry["bytes"], entry["sha256"]) == (server.url("/x"), len(GZ), _digest(GZ))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", entry["date"])
    assert _left(raw) == ["data.lock", "x/data.bin.gz"]


def test_a_complete_file_is_checked_and_not_fetched_again(server: Server, raw: Path, tmp_path: Path) -> None:
    server.pages["/x"] = Page(GZ)
    catalogue = _catalogue(tmp_path, [server.url("/x")], sha256=_digest(GZ), bytes=len(GZ))
    for _ in range(3):
        fetch("x/data.bin.gz", catalogue, raw, offline=len(server.requests) > 0)
    assert len(server.requests) == 1


def test_a_broken_transfer_goes_on_where_it_stopped(server: Server, raw: Path, tmp_path: Path) -> None:
    server.pages["/x"] = Page(GZ, cuts=[1000, 2000])
    assert (
        fetch("x/data.bin.gz", _catalogue(tmp_path, [server.url("/x")]), raw, patience=QUICK).read_bytes()
        == GZ
    )
    assert server.asked("/x") == [None, "bytes=1000-", "bytes=3000-"]
    assert server.requests[1][1]["If-Range"] == '"v1"'


def test_a_dead_transfer_is_taken_up_by_the_next_call(server: Server, raw: Path, tmp_path: Path) -> None:
    server.pages["/x"] = Page(GZ, cuts=[1000, 0, 0, 0])
    catalogue = _catalogue(tmp_path, [server.url("/x")])
    with pytest.raises(
        UserError, match=r"x/data\.bin\.gz: not fetched: .* broke off at 1,000 .*after 3 tries"
    ):
        fetch("x/data.bin.gz", catalogue, raw, patience=QUICK)
    assert _left(raw) == [".partial/x/data.bin.gz", ".partial/x/data.bin.gz.json"]
    server.pages["/x"].cuts.clear()
    assert fetch("x/data.bin.gz", catalogue, raw, patience=QUICK).read_bytes() == GZ
    assert server.asked("/x")[-1] == "bytes=1000-"
    assert _left(raw) == ["data.lock", "x/data.bin.gz"]


def test_a_file_that_changed_in_between_is_fetched_from_the_start(
    server: Server, raw: Path, tmp_path: Path
) -> None:
    def change(page: Page) -> None:
        if len(server.requests) == 2:
            page.body, page.etag = newer, '"v2"'

    newer = gzip.compress(BODY[::-1])
    server.pages["/x"] = Page(GZ, cuts=[1000], on_request=change)
    catalogue = _catalogue(tmp_path, [server.url("/x")])
    assert fetch("x/data.bin.gz", catalogue, raw, patience=QUICK).read_bytes() == newer
    assert server.asked("/x") == [None, "bytes=1000-"]


@pytest.mark.parametrize(
    ("etag", "known", "resumed"), [(None, False, False), ('W/"v1"', False, False), (None, True, True)]
)
def test_only_a_vouched_for_version_is_resumed(
    server: Server, raw: Path, tmp_path: Path, etag: str | None, known: bool, resumed: bool
) -> None:
    server.pages["/x"] = Page(GZ, etag=etag, cuts=[1000])
    catalogue = _catalogue(tmp_path, [server.url("/x")], sha256=_digest(GZ) if known else None)
    assert fetch("x/data.bin.gz", catalogue, raw, patience=QUICK).read_bytes() == GZ
    assert server.asked("/x") == [None, "bytes=1000-" if resumed else None]


def test_a_date_vouches_where_there_is_no_etag(server: Server, raw: Path, tmp_path: Path) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    server.pages["/x"] = Page(GZ, etag=None, cuts=[1000], headers={"Last-Modified": date})
    fetch("x/data.bin.gz", _catalogue(tmp_path, [server.url("/x")]), raw, patience=QUICK)
    assert server.requests[1][1]["If-Range"] == date


def test_a_server_that_knows_no_ranges(server: Server, raw: Path, tmp_path: Path) -> None:
    server.pages["/x"] = Page(GZ, ranges=False, cuts=[1000])
    fetched = fetch("x/data.bin.gz", _catalogue(tmp_path, [server.url("/x")]), raw, patience=QUICK)
    assert fetched.read_bytes() == GZ


def test_a_wrong_beginning_is_fetched_again_from_the_start(server: Server, raw: Path, tmp_path: Path) -> None:
    server.pages["/x"] = Page(GZ)
    catalogue = _catalogue(tmp_path, [server.url("/x")], sha256=_digest(GZ))
    partial = raw / ".partial/x/data.bin.gz"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"\x1f\x8b" + b"?" * 998)
    (raw / ".partial/x/data.bin.gz.json").write_text(json.dumps({"url": server.url("/x")}))
    assert fetch("x/data.bin.gz", catalogue, raw, patience=QUICK).read_bytes() == GZ
    assert server.asked("/x") == ["bytes=1000-", None]


HTML = b"\n<!-- sorry --><!DOCTYPE html><html><body>down for maintenance</body></html>"


@pytest.mark.parametrize("name", ["x/a.txt", "x/a.txt.gz", "x/a.tar", "x/a.RData", "x/a.xlsx", "x/a.csv"])
@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_page_in_place_of_the_file_is_refused(
    server: Server, raw: Path, tmp_path: Path, name: str, kind: str
) -> None:
    server.pages["/x"] = Page(HTML, kind=kind)
    with pytest.raises(UserError, match=r"not fetched: .*sent an HTML page instead of the file") as error:
        fetch(name, _catalogue(tmp_path, [server.url("/x")], path=name), raw, patience=QUICK)
    assert server.url("/x") in str(error.value) and "\n" not in str(error.value)
    assert _left(raw) == []


def test_a_text_declared_a_page_is_refused_but_a_compressed_file_is_not(
    server: Server, raw: Path, tmp_path: Path
) -> None:
    server.pages["/x"] = Page(b"no such sample", kind="text/html")
    with pytest.raises(UserError, match="sent an HTML page"):
        fetch("x/a.txt", _catalogue(tmp_path, [server.url("/x")], path="x/a.txt"), raw, patience=QUICK)
    server.pages["/x"] = Page(GZ, kind="text/html")
    fetch("x/data.bin.gz", _catalogue(tmp_path, [server.url("/x")]), raw, patience=QUICK)
    server.pages["/x"] = Page(HTML, kind="text/html")
    fetch("x/a.html", _catalogue(tmp_path, [server.url("/x")], path="x/a.html"), raw, patience=QUICK)


def _tar(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("a")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _zip(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a", content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("x/a.txt", b"plain\n", b"\0\0\0\0"),
        ("x/a.gz", GZ, b"plain"),
        ("x/a.tar", _tar(b"1"), GZ),
        ("x/a.RData", GZ, b"plain"),
        ("x/a.RData", b"RDX3\nX\n", b"PK\3\4"),
        ("x/a.xlsx", _zip(b"1"), GZ),
    ],
)
def test_what_comes_must_be_of_the_kind_that_its_name_says(
    server: Server, raw: Path, tmp_path: Path, name: str, good: bytes, bad: bytes
) -> None:
    server.pages |= {"/good": Page(good), "/bad": Page(bad)}
    with pytest.raises(UserError, match="sent something that is"):
        fetch(name, _catalogue(tmp_path, [server.url("/bad")], path=name), raw, patience=QUICK)
    assert fetch(name, _catalogue(tmp_path, [server.url("/good")], path=name), raw).read_bytes() == good


def test_without_a_length_a_compressed_file_is_read_to_its_end(
    server: Server, raw: Path, tmp_path: Path
) -> None:
    server.pages["/x"] = Page(GZ, length=False)
    catalogue = _catalogue(tmp_path, [server.url("/x")])
    assert fetch("x/data.bin.gz", catalogue, raw, patience=QUICK).read_bytes() == GZ


def test_without_a_length_a_truncated_file_is_noticed_and_fetched_again(
    server: Server, raw: Path, tmp_path: Path
) -> None:
    server.pages["/x"] = Page(GZ, length=False, cuts=[1000])
    catalogue = _catalogue(tmp_path, [server.url("/x")])
    assert fetch("x/data.bin.gz", catalogue, raw, patience=QUICK).read_bytes() == GZ
    assert len(server.requests) == 2


def test_without_a_length_a_file_that_never_gets_whole_is_refused(
    server: Server, raw: Path, tmp_path: Path
) -> None:
    server.pages["/x"] = Page(GZ[:1000], length=False)
    with pytest.raises(UserError, match=r"broke off at 1,000 bytes, after 3 tries"):
        fetch("x/data.bin.gz", _catalogue(tmp_path, [server.url("/x")]), raw, patience=QUICK)
    assert _left(raw) == []


@pytest.mark.parametrize(
    "content", [_tar(BODY)[:-2000], _zip(BODY)[:-50], _zip(BODY).replace(b"\x05", b"\x06", 3)]
)
def test_a_file_truncated_on_the_server_is_refused(
    server: Server, raw: Path, tmp_path: Path, content: bytes
) -> None:
    name = "x/a.xlsx" if content.startswith(b"PK") else "x/a.tar"
    content = content if name == "x/a.xlsx" else content[: len(BODY)]
    server.pages["/x"] = Page(content)
    with pytest.raises(UserError, match="truncated or damaged"):
        fetch(name, _catalogue(tmp_path, [server.url("/x")], path=name), raw, patience=QUICK)


def test_an_empty_file_is_refused(server: Server, raw: Path, tmp_path: Path) -> None:
    server.pages["/x"] = Page(b"")
    with pytest.raises(UserError, match="sent an empty file"):
        fetch("x/a.txt", _catalogue(tmp_path, [server.url("/x")], path="x/a.txt"), raw, patience=QUICK)


def test_wrong_bytes_are_refused_with_both_checksums(server: Server, raw: Path, tmp_path: Path) -> None:
    server.pages["/x"] = Page(GZ)
    other = "0" * 64
    with pytest.raises(UserError, match=f"sha256 {_digest(GZ)}, expected {other} .x.files.data"):
        fetch("x/data.bin.gz", _catalogue(tmp_path, [server.url("/x")], sha256=other), raw, patience=QUICK)
    assert _left(raw) == [] and len(server.requests) == 1


def test_a_wrong_size_is_refused(server: Server, raw: Path, tmp_path: Path) -> None:
    server.pages["/x"] = Page(GZ)
    with pytest.raises(UserError, match=f"sent more than {len(GZ) - 1:,} bytes"):
        fetch(
            "x/data.bin.gz", _catalogue(tmp_path, [server.url("/x")], bytes=len(GZ) - 1), raw, patience=QUICK
        )


def test_404_is_said_and_the_second_address_is_used(server: Server, raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="/gone: answered 404 Not Found"):
        fetch("x/data.bin.gz", _catalogue(tmp_path, [server.url("/gone")]), raw, patience=QUICK)
    assert len(server.requests) == 1
    server.pages["/x"] = Page(GZ)
    catalogue = _catalogue(tmp_path, [server.url("/gone"), server.url("/x")])
    assert fetch("x/data.bin.gz", catalogue, raw, patience=QUICK).read_bytes() == GZ
    assert _lock(raw)["x/data.bin.gz"]["url"] == server.url("/x")


def test_a_beginning_from_one_address_is_not_continued_from_another(
    server: Server, raw: Path, tmp_path: Path
) -> None:
    server.pages |= {"/a": Page(GZ, cuts=[1000, 0, 0, 0]), "/b": Page(GZ)}
    catalogue = _catalogue(tmp_path, [server.url("/a"), server.url("/b")])
    assert fetch("x/data.bin.gz", catalogue, raw, patience=QUICK).read_bytes() == GZ
    assert server.asked("/b") == [None]


def test_a_busy_server_is_asked_again(server: Server, raw: Path, tmp_path: Path) -> None:
    server.pages["/x"] = Page(GZ, failures=[503, 429])
    fetch("x/data.bin.gz", _catalogue(tmp_path, [server.url("/x")]), raw, patience=QUICK)
    assert len(server.requests) == 3
    server.pages["/x"].failures = [503] * 9
    with pytest.raises(UserError, match="answered 503"):
        fetch("x/other.gz", _catalogue(tmp_path, [server.url("/x")], path="x/other.gz"), raw, patience=QUICK)
    assert len(server.requests) == 6


def test_a_slow_server_is_borne_and_a_silent_one_is_not(server: Server, raw: Path, tmp_path: Path) -> None:
    server.pages["/slow"] = Page(BODY[:300_000], pause=0.1)
    slow = _catalogue(tmp_path, [server.url("/slow")], path="x/a.txt", content="gzip")
    server.pages["/slow"].body = gzip.compress(BODY[:300_000], 0)
    fetch("x/a.txt", slow, raw, patience=QUICK)
    server.pages["/silent"] = Page(gzip.compress(BODY[:300_000], 0), pause=3.0, ranges=False)
    with pytest.raises(UserError, match=r"/silent: .*timed out"):
        fetch("x/data.bin.gz", _catalogue(tmp_path, [server.url("/silent")]), raw, patience=QUICK)


def test_no_connection_is_one_line(server: Server, raw: Path, tmp_path: Path) -> None:
    url = server.url("/x")
    server.close()
    with pytest.raises(UserError, match=r"not fetched: .*: no connection \(.*refused") as error:
        fetch("x/data.bin.gz", _catalogue(tmp_path, [url]), raw, patience=QUICK)
    assert "\n" not in str(error.value)


def test_a_stored_encoding_is_left_alone(server: Server, raw: Path, tmp_path: Path) -> None:
    server.pages["/x"] = Page(GZ, headers={"Content-Encoding": "gzip"})
    assert fetch("x/data.bin.gz", _catalogue(tmp_path, [server.url("/x")]), raw).read_bytes() == GZ
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


def test_only_hosts_that_need_it_meet_a_browser(server: Server, raw: Path, tmp_path: Path) -> None:
    server.pages["/x"] = Page(GZ)
    fetch("x/a.gz", _catalogue(tmp_path, [server.url("/x")], path="x/a.gz"), raw)
    fetch("x/b.gz", _catalogue(tmp_path, [server.url("/x")], path="x/b.gz", user_agent="browser"), raw)
    agents = [headers["User-Agent"] for _, headers in server.requests]
    assert agents[0].startswith("celllm/") and agents[1] == BROWSER


def test_a_release_that_changed_after_it_was_locked_is_refused(
    server: Server, raw: Path, tmp_path: Path
) -> None:
    server.pages["/x"] = Page(GZ)
    catalogue = _catalogue(tmp_path, [server.url("/x")])
    fetch("x/data.bin.gz", catalogue, raw).unlink()
    server.pages["/x"].body = newer = gzip.compress(b"newer")
    with pytest.raises(UserError, match="the publisher changed it; to accept the new file") as error:
        fetch("x/data.bin.gz", catalogue, raw)
    assert _digest(GZ) in str(error.value) and _digest(newer) in str(error.value)
    assert _left(raw) == ["data.lock"]
    server.pages["/x"].body = GZ
    assert fetch("x/data.bin.gz", catalogue, raw).read_bytes() == GZ


@pytest.mark.parametrize("known", [False, True])
def test_a_file_that_was_damaged_in_place_is_refused(
    server: Server, raw: Path, tmp_path: Path, known: bool
) -> None:
    server.pages["/x"] = Page(GZ)
    catalogue = _catalogue(tmp_path, [server.url("/x")], sha256=_digest(GZ) if known else None)
    place = fetch("x/data.bin.gz", catalogue, raw)
    damaged = bytearray(GZ)
    damaged[500] ^= 1
    place.write_bytes(damaged)
    with pytest.raises(UserError, match="delete the file to fetch it again") as error:
        fetch("x/data.bin.gz", catalogue, raw, offline=True)
    assert _digest(GZ) in str(error.value) and _digest(bytes(damaged)) in str(error.value)


def test_offline_downloads_nothing(server: Server, raw: Path, tmp_path: Path) -> None:
    server.pages["/x"] = Page(GZ)
    with pytest.raises(UserError, match="is not there, and --offline forbids"):
        fetch("x/data.bin.gz", _catalogue(tmp_path, [server.url("/x")]), raw, offline=True)
    assert server.requests == []


def test_a_user_supplied_file_is_asked_for_then_locked(raw: Path, tmp_path: Path) -> None:
    catalogue = _catalogue(tmp_path, [], supply="the table of the shared drive")
    with pytest.raises(
        UserError, match=r"no public address; put there the table of the shared drive .x\.files\.data"
    ):
        fetch("x/data.bin.gz", catalogue, raw)
    place = raw / "x/data.bin.gz"
    place.parent.mkdir()
    place.write_bytes(HTML)
    with pytest.raises(UserError, match="is an HTML page instead of the file; put the right file there"):
        fetch("x/data.bin.gz", catalogue, raw)
    place.write_bytes(GZ[:-9])
    with pytest.raises(UserError, match="is a truncated or damaged file"):
        fetch("x/data.bin.gz", catalogue, raw)
    place.write_bytes(GZ)
    fetch("x/data.bin.gz", catalogue, raw)
    assert _lock(raw)["x/data.bin.gz"]["url"] == "supplied"


def _two(folder: Path, server: Server) -> Path:
    rows = {
        name: {"path": f"x/{name}.gz", "urls": [server.url(f"/{name}")], "sha256": None, "bytes": None}
        for name in ("a", "b")
    }
    source = {"title": "X", "role": "genes", "licence": "", "citation": "", "note": "", "files": rows}
    return _write(folder, {"x": source})


def test_parallel_jobs_lock_both_files_and_trouble_a_host_once_at_a_time(
    server: Server, raw: Path, tmp_path: Path
) -> None:
    server.pages |= {name: Page(gzip.compress(BODY[:200_000], 0), pause=0.05) for name in ("/a", "/b")}
    catalogue = _two(tmp_path, server)
    context = multiprocessing.get_context("spawn")
    jobs = [context.Process(target=fetch, args=(f"x/{name}.gz", catalogue, raw)) for name in ("a", "b", "a")]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert sorted(_lock(raw)) == ["x/a.gz", "x/b.gz"]
    assert server.busiest == 1 and sorted(path for path, _ in server.requests) == ["/a", "/b"]


def test_a_killed_job_leaves_nothing_under_the_final_name_and_the_next_goes_on(
    server: Server, raw: Path, tmp_path: Path
) -> None:
    body = gzip.compress(BODY * 12, 0)
    server.pages["/x"] = Page(body, pause=0.05)
    catalogue = _catalogue(tmp_path, [server.url("/x")])
    job = multiprocessing.get_context("spawn").Process(target=fetch, args=("x/data.bin.gz", catalogue, raw))
    job.start()
    partial = raw / ".partial/x/data.bin.gz"
    while not (partial.exists() and partial.stat().st_size):
        assert job.is_alive()
        time.sleep(0.01)
    job.kill()
    job.join()
    assert _left(raw) == [".partial/x/data.bin.gz", ".partial/x/data.bin.gz.json"]
    size = partial.stat().st_size
    server.pages["/x"].pause = 0.0
    assert fetch("x/data.bin.gz", catalogue, raw).read_bytes() == body
    assert server.asked("/x") == [None, f"bytes={size}-"] and 0 < size < len(body)


def test_run_fetch_tries_all_and_says_all(
    server: Server,
    raw: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.pages["/b"] = Page(GZ)
    catalogue = _two(tmp_path, server)
    run_fetch(catalogue, raw, dry_run=True)
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["x/a.gz", "?", "missing"],
        ["x/b.gz", "?", "missing"],
    ]
    with pytest.raises(UserError, match=r"x/a\.gz: not fetched: .*404"):
        run_fetch(catalogue, raw)
    assert _left(raw) == ["data.lock", "x/b.gz"]
    run_fetch(catalogue, raw, list_=True)
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()[1:]] == ["missing", "locked"]
    server.pages.clear()
    (raw / "x/b.gz").unlink()
    with pytest.raises(UserError, match="2 files were not fetched"):
        run_fetch(catalogue, raw, only=["x"])
    assert sum("answered 404" in message for message in caplog.messages) >= 2


def test_a_full_or_read_only_disk_is_one_line(
    server: Server, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pages["/x"] = Page(GZ)
    raw.write_text("a file in place of the folder")
    with pytest.raises(UserError, match="cannot be written"):
        fetch("x/data.bin.gz", _catalogue(tmp_path, [server.url("/x")]), raw)


@pytest.mark.parametrize("known", [{"bytes": 5000}, {"at_most": 5000}])
def test_a_body_that_goes_on_beyond_its_size_is_cut_off(
    server: Server, raw: Path, tmp_path: Path, known: dict[str, int]
) -> None:
    server.pages["/x"] = Page(BODY * 20, length=False)
    catalogue = _catalogue(tmp_path, [server.url("/x")], **known)
    with pytest.raises(UserError, match="sent more than 5,000 bytes"):
        fetch("x/data.bin.gz", catalogue, raw, patience=QUICK)
    assert _left(raw) == []


def test_an_implausible_size_is_refused_without_a_checksum(server: Server, raw: Path, tmp_path: Path) -> None:
    server.pages["/x"] = Page(GZ, length=False)
    row = {"at_least": len(GZ) + 1, "at_most": 10**6}
    with pytest.raises(UserError, match=rf"sent {len(GZ):,} bytes, plausible are"):
        fetch("x/data.bin.gz", _catalogue(tmp_path, [server.url("/x")], **row), raw, patience=QUICK)
    path = fetch("x/data.bin.gz", _catalogue(tmp_path, [server.url("/x")], **row, sha256=_digest(GZ)), raw)
    assert path.read_bytes() == GZ


@pytest.mark.parametrize(
    ("row", "refused"),
    [
        ({}, True),
        ({"hosts": ["localhost"]}, False),
        ({"sha256": "of the file"}, False),
        ({"hosts": ["host"]}, True),
    ],
)
def test_another_host_is_followed_only_where_the_catalogue_says_so(
    server: Server, raw: Path, tmp_path: Path, row: dict[str, Any], refused: bool
) -> None:
    other = server.url("/there?key=secret").replace("127.0.0.1", "localhost")
    server.pages["/here"] = Page(b"", status=302, headers={"Location": other})
    server.pages["/there?key=secret"] = Page(GZ)
    row = {"sha256": _digest(GZ)} if "sha256" in row else row
    catalogue = _catalogue(tmp_path, [server.url("/here")], **row)
    if refused:
        with pytest.raises(UserError, match="/here: leads to another host, localhost; list it under `hosts`"):
            fetch("x/data.bin.gz", catalogue, raw, patience=QUICK)
        return
    assert fetch("x/data.bin.gz", catalogue, raw, patience=QUICK).read_bytes() == GZ
    entry = json.loads((raw / "data.lock").read_text())["files"]["x/data.bin.gz"]
    assert entry["url"] == server.url("/here")
    assert entry["final"] == other.partition("?")[0]


def test_a_redirect_from_https_to_http_is_refused_without_a_checksum(tmp_path: Path) -> None:
    def answer(url: str) -> Any:
        return SimpleNamespace(url=url, history=[])

    response = answer("http://data.example/x")
    response.history = [answer("https://data.example/x")]
    file = InputFile("x.files.data", "x", ("https://data.example/x",), None, None, "text")
    with pytest.raises(Refused, match=r"leads from https to http://data\.example"):
        _check_redirects(file, file.urls[0], response)
    _check_redirects(replace(file, sha256="0" * 64), file.urls[0], response)
