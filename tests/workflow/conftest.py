"""The whole toy run, once for all tests that look at it, in two processes side by side."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

# `pytest -n 2 --dist loadfile --no-loadscope-reorder` gives a process file after file: the first
# makes the toy and looks at it, the second goes through fresh runs and plans, then SLURM on a finished toy.
FIRST, LAST = "test_run.py", "test_slurm.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (item.path.name == LAST, item.path.name != FIRST))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all processes of this test run."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def records(shared: Path) -> Path:
    """What each job of the toy run imported, see recorder/."""
    folder = shared / "records"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def toy(snakemake, records: Path, shared: Path) -> Path:
    folder = shared / "run" / "zwei Wörter"
    with FileLock(shared / "toy.lock"), pytest.MonkeyPatch.context() as patch:
        if not folder.exists():
            patch.setenv("CELLLM_RECORD", str(records))
            patch.setenv("PYTHONPATH", str(Path(__file__).parent / "recorder"), prepend=os.pathsep)
            done = snakemake(folder, "--", "all")
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert (folder / "results/toy/complete.json").exists(), "the toy run failed; another test says how"
    return folder
