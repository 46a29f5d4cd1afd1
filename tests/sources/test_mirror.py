import gzip
import json
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from celllm.errors import UserError
from celllm.sources.catalogue import Catalogue
from celllm.sources.fetch import Store, checksums, fetch, overview, run_fetch
from tests.places import ROOT

CATALOGUE = ROOT / "config/data_sets.yaml"
PATH = "zheng68k/68k_pbmc_barcodes_annotation.tsv"
TEXT = b"TSNE.1\tTSNE.2\tbarcodes\tcelltype\n"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A mirror with one file."""
    folder = tmp_path / "mirror"
    (folder / PATH).parent.mkdir(parents=True)
    (folder / PATH).write_bytes(TEXT)
    return folder


def _sums(folder: Path, digest: str) -> None:
    (folder / "SHA256SUMS").write_text(f"{digest}  {PATH}\n{'0' * 64} *a b.txt\n")


def _lock(raw: Path) -> dict:
    return json.loads((raw / "data.lock").read_text())["files"]


@pytest.mark.parametrize("with_sums", [False, True])
def test_a_file_is_copied_and_locked_as_the_mirrors(tmp_path: Path, small: Path, with_sums: bool) -> None:
    digest = sha256(TEXT).hexdigest()
    if with_sums:
        _sums(small, digest)
    place = fetch(PATH, CATALOGUE, tmp_path / "raw", mirror=small)
    assert place == tmp_path / "raw" / PATH and place.read_bytes() == TEXT
    entry = _lock(tmp_path / "raw")[PATH]
    assert (entry["url"], entry["sha256"], entry["bytes"]) == (f"mirror:{PATH}", digest, len(TEXT))


def test_a_present_copy_is_left_alone_and_an_old_one_replaced(tmp_path: Path, small: Path) -> None:
    raw = tmp_path / "raw"
    place = fetch(PATH, CATALOGUE, raw, mirror=small)
    before = place.stat().st_mtime_ns, (raw / "data.lock").stat().st_mtime_ns
    fetch(PATH, CATALOGUE, raw, mirror=small)
    assert (place.stat().st_mtime_ns, (raw / "data.lock").stat().st_mtime_ns) == before
    (small / PATH).write_bytes(TEXT + b"1\t2\tA\tB\n")
    fetch(PATH, CATALOGUE, raw, mirror=small)
    assert place.read_bytes() == (small / PATH).read_bytes()
    assert _lock(raw)[PATH]["sha256"] == sha256((small / PATH).read_bytes()).hexdigest()


def test_a_wrong_checksum_is_refused_and_nothing_is_copied(tmp_path: Path, small: Path) -> None:
    _sums(small, "1" * 64)
    with pytest.raises(UserError, match=f"SHA256SUMS of the mirror has {'1' * 64}") as error:
        fetch(PATH, CATALOGUE, tmp_path / "raw", mirror=small)
    assert sha256(TEXT).hexdigest() in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "raw" / PATH).exists()


def test_without_checksums_a_page_in_the_mirror_is_still_noticed(tmp_path: Path, small: Path) -> None:
    (small / PATH).write_bytes(b"<html>log in</html>")
    with pytest.raises(UserError, match="is an HTML page instead of the file"):
        fetch(PATH, CATALOGUE, tmp_path / "raw", mirror=small)


def test_what_the_mirror_lacks_is_one_line(tmp_path: Path, small: Path) -> None:
    with pytest.raises(
        UserError, match=r"baron/GSE84133_RAW\.tar is not there \(baron\.files\.matrix\)"
    ) as error:
        fetch("baron/GSE84133_RAW.tar", CATALOGUE, tmp_path / "raw", mirror=small)
    assert str(small) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="is not a folder"):
        fetch(PATH, CATALOGUE, tmp_path / "raw", mirror=small / "none")


def test_a_mirrors_files_and_downloads_never_mix(tmp_path: Path, small: Path) -> None:
    raw = tmp_path / "raw"
    place = fetch(PATH, CATALOGUE, raw, mirror=small)
    with pytest.raises(UserError, match="came from a mirror; use another raw folder"):
        fetch(PATH, CATALOGUE, raw, offline=True)
    place.unlink()
    with pytest.raises(UserError, match="--offline forbids"):
        fetch(PATH, CATALOGUE, raw, offline=True)
    fetch(PATH, CATALOGUE, raw, mirror=small)
    lock = json.loads((raw / "data.lock").read_text())
    lock["files"][PATH]["url"] = "https://example.org/x"
    (raw / "data.lock").write_text(json.dumps(lock))
    with pytest.raises(UserError, match="did not come from a mirror; use another raw folder"):
        fetch(PATH, CATALOGUE, raw, mirror=small)


def test_a_damaged_data_lock_is_one_line(tmp_path: Path, small: Path) -> None:
    raw = tmp_path / "raw"
    fetch(PATH, CATALOGUE, raw, mirror=small)
    for content, message in [
        ("{", "not a JSON file"),
        ("[]", "not a data.lock"),
        ('{"files": {"a": {}}}', "a.url: is missing"),
    ]:
        (raw / "data.lock").write_text(content)
        with pytest.raises(UserError, match=message):
            fetch(PATH, CATALOGUE, raw, mirror=small)


def test_checksum_lists_of_sha256sum_are_understood(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{'a' * 64}  a/b c.txt\n{'b' * 64} *./d.txt\n")
    assert checksums(tmp_path) == {"a/b c.txt": "a" * 64, "d.txt": "b" * 64}
    (tmp_path / "SHA256SUMS").write_text("hello\n")
    with pytest.raises(UserError, match="line 1 is not"):
        checksums(tmp_path)
    assert checksums(tmp_path / "none") == {}


def test_states_of_the_overview(tmp_path: Path, small: Path) -> None:
    raw = tmp_path / "raw"
    fetch(PATH, CATALOGUE, raw, mirror=small)
    for name in ("gdsc/deepcdr/data/cancer_cell_line.info", "panglaodb/SRA1_SRS1.sparse.RData"):
        (raw / name).parent.mkdir(parents=True)
        (raw / name).write_bytes(b"x")
    states = {file.path: state for file, state in overview(Catalogue.read(CATALOGUE), Store.of(raw))}
    assert states[PATH] == "locked"
    assert states["gdsc/deepcdr/data/cancer_cell_line.info"] == "present"
    assert states["baron/GSE84133_RAW.tar"] == "missing"
    assert states["gse149383/erl_total_data_2K.csv"] == "user-supplied"
    assert states["panglaodb/{sample}.sparse.RData"] == "1 present"
    assert len(overview(Catalogue.read(CATALOGUE), Store.of(raw), ["gdsc"])) == 5


def test_the_list_names_every_file_and_where_it_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_fetch(CATALOGUE, tmp_path, list_=True)
    lines = capsys.readouterr().out.splitlines()
    sources = yaml.safe_load(CATALOGUE.read_text())
    assert len(lines) == 1 + sum(len(s["files"]) + len(s.get("sample_files", {})) for s in sources.values())
    assert any("user: data/GSE149383/erl_total_data_2K.csv of scDEAL.zip" in line for line in lines)
    assert not (tmp_path / "data.lock").exists()


@pytest.mark.mirror
def test_every_row_of_the_catalogue_has_its_file_in_the_mirror(mirror: Path, tmp_path: Path) -> None:
    catalogue = Catalogue.read(CATALOGUE)
    for source in catalogue.sources:
        for file in (file for file in catalogue.files(source) if file.wanted):
            assert fetch(file.path, catalogue, tmp_path, mirror=mirror).stat().st_size > 0
        for file in catalogue.sample_files(source):
            assert list(mirror.glob(file.path.replace("{sample}", "*"))), file.path


@pytest.mark.mirror
def test_all_samples_of_a_mirror_are_brought(mirror: Path, tmp_path: Path) -> None:
    run_fetch(CATALOGUE, tmp_path, mirror=mirror, only=["panglaodb", "cancerscem"])
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.suffix != ".lock"}
    assert sum(name.endswith(".RData") for name in names) == 8
    assert sum(name.endswith("clusters.txt") for name in names) == 8
    assert sum(name.endswith(".counts.matrix.tsv.gz") for name in names) == 5
    assert sum(name.endswith(".cell.type.txt") for name in names) == 5


@pytest.mark.mirror
def test_known_checksums_of_the_catalogue_are_those_of_real_files(mirror: Path) -> None:
    """DeepCDR's and PanglaoDB's tables stand in the mirror as they were published."""
    catalogue = Catalogue.read(CATALOGUE)
    rows = [f for s in ("gdsc", "panglaodb") for f in catalogue.files(s)]
    for file in rows:
        content = (mirror / file.path).read_bytes()
        assert (file.sha256, file.bytes) == (sha256(content).hexdigest(), len(content))
    assert len(rows) == 7


def test_a_file_is_fetched_only_under_the_options_that_read_it(tmp_path: Path, small: Path) -> None:
    sources = yaml.safe_load(CATALOGUE.read_text())
    files = sources["zheng68k"]["files"]
    (small / files["matrix"]["path"]).write_bytes(gzip.compress(b"x"))
    (small / files["gene_list"]["path"]).write_text("A1BG\n")
    catalogue = Catalogue(sources, dict.fromkeys(sources, CATALOGUE))
    run_fetch(catalogue, tmp_path / "raw", mirror=small, only=["zheng68k"])
    brought = tmp_path / "raw" / "zheng68k" / "gene_list.txt"
    assert not brought.exists()
    sources["zheng68k"]["options"]["filter_genes"] = "list"
    run_fetch(catalogue, tmp_path / "raw", mirror=small, only=["zheng68k"])
    assert brought.exists()


def test_a_gzip_file_in_a_mirror_without_checksums_is_read_to_its_end(tmp_path: Path, small: Path) -> None:
    name = "string/9606.protein.info.v11.0.txt.gz"
    (small / name).parent.mkdir()
    (small / name).write_bytes(gzip.compress(bytes(range(256)) * 99)[:-20])
    with pytest.raises(UserError, match="is a truncated or damaged file"):
        fetch(name, CATALOGUE, tmp_path / "raw", mirror=small)
