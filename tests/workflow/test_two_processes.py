"""Two processes train one model through the workflow; one of them is killed."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from celllm.io import sha256
from tests.workflow.one_training import ENVIRON, LOG, STATE, TARGET, command, copy_corpus, rows
from tests.workflow.slurm_node import until

pytestmark = pytest.mark.slow
N_STEPS = 40
SETTINGS = f"""
sizes: {{50m: {{dim: 32, depth: 2, heads: 2, dim_head: 16}}}}
models: {{celllm: {{gene_embeddings: trained}}}}
pretraining:
  settings: {{batch_size: 64, max_steps: {N_STEPS}, log_steps: 1, checkpoint_steps: 4, measure_peak: false}}
"""


def processes_of(folder: Path, rank: int) -> list[int]:
    """Processes of this rank that work in the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = (process / "cwd").resolve() == folder.resolve()
            if ours and b"\0RANK=%d\0" % rank in b"\0" + (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:  # ended in the meantime, or another user's
            continue
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("two")
    (made / "two.yaml").write_text(SETTINGS)
    return made


def start(toy: Path, folder: Path, name: str) -> "subprocess.Popen[str]":
    copy_corpus(toy, folder / name)
    asked = ["--cores", "2", "--set-resources", "pretrain:processes=2"]
    return subprocess.Popen(
        command(folder / name, [folder / "two.yaml"], *asked),
        env=ENVIRON,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_killed_rank_is_started_again_and_ends_with_the_same_bits(toy: Path, folder: Path) -> None:
    whole = start(toy, folder, "whole")
    output = whole.communicate(timeout=600)[0]
    assert whole.returncode == 0, output[-3000:]
    assert "2 process(es) of 1 thread(s)" in (folder / "whole" / LOG).read_text()

    parts, log = start(toy, folder, "parts"), folder / "parts" / LOG
    until(lambda: log.exists() and f"step 9/{N_STEPS}" in log.read_text(), "no ninth step", 600)
    (victim,) = processes_of(folder / "parts", rank=1)
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    output = parts.communicate(timeout=600)[0]
    assert parts.returncode == 0, output[-3000:]
    print(f"from SIGKILL of a rank to the end of the run: {time.monotonic() - began:.0f} s")

    assert "process 1 of 2 was ended by SIGKILL; the same command resumes" in log.read_text()
    first, second = rows(folder / "parts" / STATE / "state/attempts.csv")
    # The other process either gets the signal of the launcher first, or loses the connection.
    assert first["status"] in ("interrupted", "ended") and second["status"] == "finished"
    assert 8 <= int(first["last_step"]) == int(second["first_step"]) < N_STEPS
    for file in (TARGET, STATE / f"state/step-{N_STEPS:09d}.safetensors"):
        assert sha256(folder / "parts" / file) == sha256(folder / "whole" / file)
