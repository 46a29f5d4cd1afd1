"""The whole toy run, once for all tests that look at it."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each job of the toy run imported, see recorder/."""
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="session")
def toy(snakemake, records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "zwei Wörter"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLLM_RECORD", str(records))
        patch.setenv("PYTHONPATH", str(Path(__file__).parent / "recorder"), prepend=os.pathsep)
        done = snakemake(folder, "--", "all")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return folder
