import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from celllm.errors import UserError
from celllm.sources.archives import MAX_HEADER, MAX_PADDING, members, open_bytes, open_text


def _tar(path: Path, files: dict[str, bytes], mode: str = "w:gz", change: Callable | None = None) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if change:
                change(member)
            archive.addfile(member, io.BytesIO(content))
    return path


def _read(path: Path, pattern: str = "*", **caps: int) -> dict[str, bytes]:
    return {name: stream.read() for name, stream in members(path, pattern, **caps)}


FILES = {
    "a/hg19/genes.tsv": b"one\ttwo\n" * 1000,
    "a/hg19/matrix.mtx": bytes(range(256)) * 400,
    "b.txt": b"x",
}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_members_give_the_files_that_match(tmp_path: Path, mode: str) -> None:
    path = _tar(tmp_path / "x.tar", FILES, mode)
    assert _read(path) == FILES
    assert _read(path, "*/hg19/*") == {k: v for k, v in FILES.items() if "hg19" in k}
    assert _read(path, "b.txt") == {"b.txt": b"x"}


def test_a_leading_dot_is_not_part_of_the_name(tmp_path: Path) -> None:
    assert _read(_tar(tmp_path / "x.tar", {"./b.txt": b"x"}), "b.txt") == {"b.txt": b"x"}


def test_a_small_compressed_archive_is_no_truncated_one(tmp_path: Path) -> None:
    path = _tar(tmp_path / "x.tgz", {"b.txt": b"x"})
    assert path.stat().st_size < tarfile.BLOCKSIZE
    assert _read(path) == {"b.txt": b"x"}


def test_nothing_is_written_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _tar(tmp_path / "x.tar", FILES)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    _read(path)
    assert list((tmp_path / "empty").iterdir()) == []


def _link(kind: bytes) -> Callable:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = kind, "/etc/passwd", 0

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("../evil.txt", None, "points outside the archive"),
        ("a/../../evil.txt", None, "points outside the archive"),
        ("/etc/evil.txt", None, "points outside the archive"),
        ("a\\..\\evil.txt", None, "points outside the archive"),
        ("link", _link(tarfile.SYMTYPE), "link, device or sparse"),
        ("link", _link(tarfile.LNKTYPE), "link, device or sparse"),
        ("null", _link(tarfile.CHRTYPE), "link, device or sparse"),
        ("disk", _link(tarfile.BLKTYPE), "link, device or sparse"),
        ("pipe", _link(tarfile.FIFOTYPE), "link, device or sparse"),
    ],
)
def test_an_unsafe_member_refuses_the_archive_even_when_it_is_not_wanted(
    tmp_path: Path, name: str, change: Callable | None, message: str
) -> None:
    path = _tar(tmp_path / "x.tar", {name: b""}, change=change)
    with pytest.raises(UserError, match=message) as error:
        _read(path, "something else")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for content in (b"first", b"second"):
            member = tarfile.TarInfo("a.txt")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(UserError, match="occurs twice"):
        _read(tmp_path / "x.tar")


def test_size_caps(tmp_path: Path) -> None:
    path = _tar(tmp_path / "x.tar", {"a": b"0" * 3000, "b": b"0" * 3000})
    assert len(_read(path, max_bytes=3000, max_total=6000)) == 2
    with pytest.raises(UserError, match="3000 bytes, over 2999"):
        _read(path, "b", max_bytes=2999)
    with pytest.raises(UserError, match="unpacks to over 5999 bytes"):
        _read(path, "a", max_total=5999)


def test_a_bomb_in_a_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    def change(member: tarfile.TarInfo) -> None:
        member.type = tarfile.XHDTYPE

    path = _tar(tmp_path / "x.tar", {"a": b" " * (MAX_HEADER + 1)}, change=change)
    with pytest.raises(UserError, match=f"over {MAX_HEADER}"):
        _read(path)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9])
def test_a_truncated_archive_is_one_line(tmp_path: Path, mode: str, share: float) -> None:
    path = _tar(tmp_path / "x.tar", FILES, mode)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match="truncated or damaged") as error:
        _read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_an_archive_cut_between_two_members_is_truncated(tmp_path: Path) -> None:
    path = _tar(tmp_path / "x.tar", {"a": b"0" * 512, "b": b"0" * 512}, "w")
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.raises(UserError, match="no end-of-archive mark"):
        _read(path)


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    path = _tar(tmp_path / "x.tar", FILES)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="truncated or damaged"):
        _read(path)


def test_data_behind_the_end_is_read_no_further_than_a_cap(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with gzip.open(path, "wb") as handle:
        handle.write(gzip.decompress(_tar(tmp_path / "y.tar", FILES).read_bytes()) + b"0" * (MAX_PADDING + 1))
    with pytest.raises(UserError, match="behind the end of the archive"):
        _read(path)


def test_a_page_in_place_of_an_archive(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"<!DOCTYPE html><html>" + b"sorry " * 500)
    with pytest.raises(UserError, match="truncated or damaged"):
        _read(tmp_path / "x.tar")


def test_missing_files_and_missing_members_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.tar: no such file"):
        _read(tmp_path / "none.tar")
    with pytest.raises(UserError, match="cannot be read"):
        open_text(tmp_path)
    path = _tar(tmp_path / "x.tar", FILES)
    with pytest.raises(UserError, match=r"no member matches '\*\.csv'; it holds a/hg19/genes\.tsv"):
        _read(path, "*.csv")


@pytest.mark.parametrize("compress", [False, True])
def test_open_text_goes_by_the_content_not_by_the_name(tmp_path: Path, compress: bool) -> None:
    text = "größe\tβ\n" * 300
    path = tmp_path / ("x.txt" if compress else "x.txt.gz")
    path.write_bytes(gzip.compress(text.encode()) if compress else text.encode())
    with open_text(path) as handle:
        assert handle.read() == text
    path.write_bytes(text.encode("latin-1", "replace"))
    with open_text(path, encoding="latin-1") as handle:
        assert handle.readline() == "größe\t?\n"


def test_a_compressed_text_inside_an_archive(tmp_path: Path) -> None:
    path = _tar(tmp_path / "x.tar", {"a.csv.gz": gzip.compress(b"a,b\n1,2\n"), "b.csv": b"3,4\n"})
    assert {name: open_text(stream).read() for name, stream in members(path)} == {
        "a.csv.gz": "a,b\n1,2\n",
        "b.csv": "3,4\n",
    }


def test_a_truncated_text_inside_an_archive_names_archive_and_member(tmp_path: Path) -> None:
    half = gzip.compress(bytes(range(256)) * 99)[:-30]
    path = _tar(tmp_path / "x.tar", {"a.csv.gz": half})
    with pytest.raises(UserError, match=r"x\.tar: member a\.csv\.gz: truncated or damaged"):
        for _, stream in members(path):
            open_bytes(stream).read()


def test_a_gzip_bomb_is_capped(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"0" * 10_000_000))
    assert path.stat().st_size < 20_000
    with (
        pytest.raises(UserError, match="more than 1000000 bytes"),
        open_text(path, max_bytes=1_000_000) as handle,
    ):
        handle.read()


def test_a_line_without_an_end_is_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celllm.sources.archives.MAX_LINE", 5_000_000)
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"a\n" + b"0" * 4_999_000 + b"\n" + b"1" * 4_999_000))
    with open_text(path) as handle:
        assert [len(line) for line in handle] == [2, 4_999_001, 4_999_000]
    path.write_bytes(gzip.compress(b"a\n" + b"0" * 9_000_000))
    with pytest.raises(UserError, match="has a line of more than 5000000 bytes"), open_text(path) as handle:
        list(handle)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
        (b"PK\x03\x04" + bytes(99), "an Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel workbook"),
        (gzip.compress(b"RDX3\nX\n\0\0\0\3", mtime=0), "an R workspace"),
        (gzip.compress(b"X\n\0\0\0\3\0\4\1\0", mtime=0), "an R object written by saveRDS"),
        (gzip.compress(gzip.compress(b"a", mtime=0), mtime=0), "compressed twice"),
        (b"BZh91AY", "compressed with bzip2"),
        (b"%PDF-1.7", "a PDF document"),
        (b"a\0\1\2\3\0\0\0zz", "binary data"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match=f"x: is {kind}.*; a text is expected"):
        open_text(tmp_path / "x")


def test_an_empty_text_is_read_as_empty(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"")
    assert open_text(tmp_path / "x.txt").read() == ""


@pytest.mark.mirror
def test_the_original_layouts_are_read(mirror: Path) -> None:
    zheng = mirror / "zheng68k/fresh_68k_pbmc_donor_a_filtered_gene_bc_matrices.tar.gz"
    assert sorted(_read(zheng)) == [
        f"filtered_matrices_mex/hg19/{name}" for name in ("barcodes.tsv", "genes.tsv", "matrix.mtx")
    ]
    headers = {
        name: open_text(stream).readline()[:26]
        for name, stream in members(mirror / "baron/GSE84133_RAW.tar", "*_human*.csv.gz")
    }
    assert [name.split("_")[1] for name in headers] == ["human1", "human2", "human3", "human4"]
    assert set(headers.values()) == {",barcode,assigned_cluster,"}
