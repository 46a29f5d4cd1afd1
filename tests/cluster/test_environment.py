"""What shells, notebooks, schedulers and full disks do to a command: it works, or says why in one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from celllm.toy import run_toy_mirror
from tests.places import ROOT

Changes = dict[str, str | None]
GDSC = {
    "ic50": "gdsc/deepcdr/data/CCLE/GDSC_IC50.csv",
    "annotation": "gdsc/deepcdr/data/CCLE/Cell_lines_annotations_20181226.txt",
    "lines": "gdsc/deepcdr/data/cancer_cell_line.info",
    "drugs": "gdsc/deepcdr/data/GDSC/1.Drug_listMon Jun 24 09_00_55 2019.csv",
    "smiles": "gdsc/deepcdr/data/223drugs_pubchem_smiles.txt",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mirror") / "files"
    run_toy_mirror(folder, seed=0)
    return folder


def celllm(*arguments: str, cwd: Path, **changes: str | None) -> "subprocess.CompletedProcess[str]":
    """Run a command with variables set, or unset where None."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for name, value in changes.items():
        environ.pop(name, None)
        if value is not None:
            environ[name] = value
    command = [sys.executable, "-m", "celllm", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, errors="replace", check=False
    )


def genes(files: Path, out: Path) -> list[str]:
    hgnc = next((files / "hgnc").iterdir())
    return ["genes", "--hgnc", str(hgnc), "--genes", f"{out}/g.tsv", "--aliases", f"{out}/a.tsv"]


def responses(files: Path, out: Path) -> list[str]:
    named = [f"{name}={files / path}" for name, path in GDSC.items()]
    return ["responses", "gdsc", "--files", *named, "--out", str(out)]


def prepare(files: Path, out: Path, vocabulary: Path) -> list[str]:
    zheng = files / "zheng68k"
    named = [f"matrix={zheng}/fresh_68k_pbmc_donor_a_filtered_gene_bc_matrices.tar.gz"]
    named += [f"labels={zheng}/68k_pbmc_barcodes_annotation.tsv"]
    tables = ["--genes", str(vocabulary / "g.tsv"), "--aliases", str(vocabulary / "a.tsv")]
    return ["prepare", "zheng68k", "--files", *named, *tables, "--out", str(out)]


def test_a_figure_is_drawn_whatever_a_notebook_left(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("cell,split,label,predicted\na,0,x,x\nb,0,y,y\nc,0,x,y\n")
    back_end = "module://matplotlib_inline.backend_inline"
    command = [
        "figure",
        "fig3_x",
        "--inputs",
        "predictions=p.csv",
        "--settings",
        '{"titles": {"celllm": "M"}, "protocol": "strict", "toy": true}',
    ]
    done = celllm(*command, "--out", "conf", cwd=tmp_path, MPLBACKEND=back_end)
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "conf.png").stat().st_size > 1000


ENVIRONMENTS: dict[str, Changes] = {
    "ascii": {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin1": {"PYTHONIOENCODING": "latin-1"},
    "ranks": {"WORLD_SIZE": "4", "RANK": "3", "MASTER_ADDR": "node17", "MASTER_PORT": "29500"},
    "rank_words": {"WORLD_SIZE": "many", "RANK": ""},
    "no_home": {"HOME": None, "MPLCONFIGDIR": None, "NUMBA_CACHE_DIR": None},
    "home_not_there": {"HOME": "/nowhere/at/all"},
    "home_read_only": {"HOME": "/proc"},
    "no_tmp": {"TMPDIR": "/nowhere/at/all"},
    "no_threads": {"OMP_NUM_THREADS": "0"},
    "bad_threads": {"OMP_NUM_THREADS": "all", "NUMBA_NUM_THREADS": "-1", "MKL_NUM_THREADS": ""},
}


@pytest.mark.parametrize("changes", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_a_command_runs_in_any_environment(
    files: Path, tmp_path: Path, changes: dict[str, str | None]
) -> None:
    done = celllm(*genes(files, tmp_path), cwd=tmp_path, **changes)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Invalid value" not in done.stderr
    plain = celllm(*genes(files, tmp_path / "plain"), cwd=tmp_path)
    assert plain.returncode == 0
    assert (tmp_path / "g.tsv").read_bytes() == (tmp_path / "plain/g.tsv").read_bytes()


HEAVY = {
    "left_over": ENVIRONMENTS["ascii"] | ENVIRONMENTS["ranks"] | ENVIRONMENTS["bad_threads"],
    "no_home_no_tmp": ENVIRONMENTS["no_home"] | ENVIRONMENTS["no_tmp"],
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", HEAVY.values(), ids=HEAVY)
def test_torch_scanpy_and_numba_load_in_any_environment(tmp_path: Path, changes: Changes) -> None:
    done = celllm("gradient-error", "--out", "error.json", cwd=tmp_path, **changes)
    assert done.returncode == 0, done.stderr
    code = "import os, celllm.__main__ as m; m.settle(os.environ); import scanpy as sc; sc.pp.neighbors"
    environ = {k: v for k, v in {**os.environ, **changes, "PYTHONPATH": str(ROOT)}.items() if v is not None}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_packages_of_another_python_are_passed_over(files: Path, tmp_path: Path) -> None:
    old = tmp_path / "lib/python3.8/site-packages"
    (old / "numpy").mkdir(parents=True)
    (old / "numpy/__init__.py").write_text("raise SyntaxError('of another Python')\n")
    done = celllm(*genes(files, tmp_path), cwd=tmp_path, PYTHONPATH=f"{ROOT}:{old}")
    assert done.returncode == 0, done.stderr


def test_a_broken_package_in_pythonpath_is_named(files: Path, tmp_path: Path) -> None:
    (tmp_path / "mine/scipy").mkdir(parents=True)
    (tmp_path / "mine/scipy/__init__.py").write_text("import no_such_module\n")
    path = f"{ROOT}:{tmp_path / 'mine'}"
    done = celllm(*prepare(files, tmp_path / "z.h5ad", tmp_path), cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 1
    assert f"PYTHONPATH={path} comes before the installed packages: unset it" in one_line(done.stderr)


def one_line(text: str) -> str:
    """The last line, where the others are the log's."""
    lines = text.strip().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines[:-1]), text
    return lines[-1]


def test_a_torchrun_that_has_ended_is_named(tmp_path: Path) -> None:
    ranks = {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "9",
    }
    done = celllm("gradient-error", "--out", "x.json", cwd=tmp_path, TORCHELASTIC_RUN_ID="none", **ranks)
    assert done.returncode == 2
    assert "no torchrun answers at 127.0.0.1:9" in one_line(done.stderr)
    assert "unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT TORCHELASTIC_RUN_ID" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 200 kB; only root may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def commands(files: Path, out: Path, tmp_path: Path) -> dict[str, list[str]]:
    assert celllm(*genes(files, tmp_path), cwd=tmp_path).returncode == 0
    return {
        "genes": genes(files, out),
        "responses": responses(files, out / "responses.csv"),
        "prepare": prepare(files, out / "z.h5ad", tmp_path),
        "toy-mirror": ["toy-mirror", f"{out}/mirror"],
    }


VERBS = ("genes", "responses", "prepare", "toy-mirror")


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    files: Path, tmp_path: Path, small_disk: Path, verb: str
) -> None:
    command = commands(files, small_disk, tmp_path)[verb]
    (small_disk / "filler").write_bytes(bytes(196_000))
    done = celllm(*command, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert one_line(done.stderr).endswith("the disk is full; make room, then run the same command again")
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_read_only_place_is_one_line(files: Path, tmp_path: Path, small_disk: Path, verb: str) -> None:
    command = commands(files, small_disk, tmp_path)[verb]
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = celllm(*command, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert re.search(r"read-only|Read-only", one_line(done.stderr))


def test_an_unexpected_error_is_one_line_with_a_saved_traceback(tmp_path: Path, monkeypatch, capfd) -> None:
    from celllm import __main__ as program
    from celllm import cli

    def fails(_: object) -> int:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(cli, "main", fails)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(program, "_log_file", lambda: None)
    assert program.main(["genes"]) == 1
    told = one_line(capfd.readouterr().err)
    assert "celllm genes: unexpected KeyError: 'a fault of ours'" in told
    saved = Path(told.partition("(traceback: ")[2].rstrip(")"))
    assert "Traceback" in saved.read_text() and "in fails" in saved.read_text()


def test_a_log_keeps_its_earlier_attempts(files: Path, tmp_path: Path) -> None:
    log = tmp_path / "genes.log"
    for _ in range(2):
        with open(log, "a") as handle:
            command = [sys.executable, "-m", "celllm", *genes(files, tmp_path)]
            subprocess.run(command, stderr=handle, env={**os.environ, "SLURM_JOB_ID": "17"}, check=True)
    lines = log.read_text().splitlines()
    marks = [n for n, line in enumerate(lines) if line.startswith("--- celllm genes again, ")]
    assert len(marks) == 1 and ", SLURM job 17 ---" in lines[marks[0]]
    assert len(lines) == 2 * marks[0] + 1


def test_a_log_that_the_workflow_removed_is_continued(tmp_path: Path) -> None:
    """Attempts that fail add up; after a success the next job begins anew."""
    log = tmp_path / "genes.log"

    def run(*words: str) -> int:
        with open(log, "a") as handle:
            command = [sys.executable, "-m", "celllm", *words]
            return subprocess.run(command, stderr=handle, cwd=tmp_path, check=False).returncode

    for n in (1, 2, 3):
        assert run("genes", "--hgnc", f"none{n}", "--genes", "g", "--aliases", "a") == 2
        assert re.findall(r"celllm genes: none(\d): no such file", log.read_text()) == ["1", "2", "3"][:n]
        assert log.read_text().count("--- celllm genes again, ") == n - 1
        log.unlink()
    assert run("gradient-error", "--out", "error.json") == 0
    assert "none3" in log.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["error.json", "genes.log"]


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m celllm --help | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == "" and done.stdout.startswith("usage")
