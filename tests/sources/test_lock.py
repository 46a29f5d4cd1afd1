"""Raw files are held to data.lock by every reader; files are written whole or not at all."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from celllm.errors import UserError
from celllm.io import atomic, write_text
from celllm.sources import lock
from celllm.sources.lock import DataLock, Entry, verified


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    file = tmp_path / "raw" / "set" / "x.csv"
    file.parent.mkdir(parents=True)
    file.write_text("a,b\n1,2\n")
    DataLock(tmp_path / "raw" / "data.lock").write("set/x.csv", Entry.of(file, "supplied"))
    return file


def test_a_file_as_it_was_fetched_is_hashed_once(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verified(raw) == raw
    monkeypatch.setattr(lock, "sha256", lambda path: pytest.fail("hashed again"))
    assert verified(raw) == raw


@pytest.mark.parametrize("content", ["a,b\n1,3\n", "a,b\n1,2\n1,2\n", ""])
def test_a_file_that_has_changed_is_refused_also_when_it_was_checked_before(raw: Path, content: str) -> None:
    verified(raw)
    raw.write_text(content)
    os.utime(raw, ns=(1, 1))
    for _ in range(2):
        with pytest.raises(UserError, match=r"x\.csv: changed since it was fetched on .* fetch it again, or"):
            verified(raw)
    raw.write_text("a,b\n1,2\n")
    assert verified(raw) == raw


def test_files_outside_of_any_lock_are_taken_as_they_are(raw: Path, tmp_path: Path) -> None:
    other = raw.with_name("y.csv")
    other.write_text("x")
    assert verified(other) == other
    with pytest.raises(UserError, match=r"z\.csv: no such file \(the labels\)"):
        verified(raw.with_name("z.csv"), "the labels")
    with pytest.raises(UserError, match="set: is a folder; a file is expected"):
        verified(raw.parent)


def test_every_reader_refuses_a_changed_raw_file(raw: Path, tmp_path: Path) -> None:
    from celllm.cells.genes import run_genes
    from celllm.cells.raw import check_files

    raw.write_text("a,b\n1,9\n")
    with pytest.raises(UserError, match="changed since it was fetched"):
        check_files("source", {"matrix": raw}, ["matrix"])
    with pytest.raises(UserError, match="changed since it was fetched"):
        run_genes(raw, tmp_path / "g", tmp_path / "a")


def test_what_is_no_file_in_place_of_the_output_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder; name a file to write"):
        write_text(tmp_path, "x")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is a device or a pipe; name a file to write"):
        write_text(tmp_path / "pipe", "x")
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(UserError, match="the name is too long; choose a shorter one"):
        write_text(tmp_path / ("x" * 300), "x")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"file/x\.txt: cannot be written \(Not a directory\)|\(File exists\)"
    ):
        write_text(tmp_path / "file" / "x.txt", "x")


def test_temporary_files_of_killed_writers_are_removed_and_those_of_living_ones_kept(tmp_path: Path) -> None:
    code = (
        "import sys, os; from celllm.io import atomic\n"
        "with atomic(sys.argv[1]) as p: p.write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "x.txt"], check=False)
    assert [p.name.startswith(".partial-") for p in tmp_path.iterdir()] == [True]
    with atomic(tmp_path / "a.txt") as mine:
        mine.write_text("a")
        write_text(tmp_path / "b.txt", "b")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b.txt"]


def test_temporary_files_of_other_machines_are_removed_after_a_day(tmp_path: Path) -> None:
    for name, hours in (("old", 25), ("new", 23)):
        file = tmp_path / f".partial-0badcafe-1-{name}.csv"
        file.write_text("half")
        os.utime(file, (time.time() - 3600 * hours,) * 2)
    write_text(tmp_path / "a.csv", "a")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".partial-0badcafe-1-new.csv", "a.csv"]


_PREPARE = """
import sys, numpy as np, pandas as pd, resource
from scipy.sparse import csr_matrix
from celllm.cells import h5ad
from celllm.cells.check import PROVENANCE
from celllm.errors import UserError
from anndata import AnnData
X = csr_matrix(np.random.default_rng(0).integers(1, 30, (300, 300)).astype(np.float32))
said = dict.fromkeys(PROVENANCE, 0) | {"values": "counts"}
cells = AnnData(X, obs=pd.DataFrame({"sample": "s"}, index=[f"c{i}" for i in range(300)]),
                uns={"celllm": said})
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    h5ad.write(cells, sys.argv[1])
except UserError as error:
    print(error)
    sys.exit(2)
"""


def test_a_disk_that_is_full_ends_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    assert resource.RLIMIT_FSIZE is not None
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PREPARE, tmp_path / "x.h5ad"], capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (2, "")
    assert (
        run.stdout.strip()
        == f"{tmp_path}/x.h5ad: the file is larger than allowed here; raise the limit (ulimit -f unlimited)"
    )
    assert list(tmp_path.iterdir()) == []
