"""What a real SLURM does to a training with long steps: it goes on by itself, bit for bit."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from celllm.io import sha256
from celllm.report.compare import differences
from tests.places import ROOT
from tests.workflow import slurm_node
from tests.workflow.one_training import ENVIRON, LOG, STATE, TARGET, command, copy_corpus, copy_run, rows
from tests.workflow.slurm_node import told, until

pytestmark = pytest.mark.slow

N_STEPS = 4
LONG_STEP = 11
"""Seconds. SLURM looks at time limits every half a minute: that is before the fourth step ends."""
SLOWLY = ENVIRON | {
    "CELLLM_STEP_SECONDS": str(LONG_STEP),
    "PYTHONPATH": os.pathsep.join(
        [str(Path(__file__).parent / "slow_steps"), os.environ.get("PYTHONPATH", "")]
    ),
}
SETTINGS = f"""
sizes: {{50m: {{dim: 32, depth: 2, heads: 2, dim_head: 16}}}}
models: {{celllm: {{gene_embeddings: trained}}}}
pretraining:
  settings: {{batch_size: 64, max_steps: {N_STEPS}, token_budget: 1024, log_steps: 1, geometry_steps: null,
    measure_peak: false, held_out_cells: 0}}
"""
PATIENCE = 900
"""Seconds; only a run that hangs takes them."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm_node.Node]:
    if reason := slurm_node.why_not():
        pytest.skip(f"no SLURM: {reason}")
    with ExitStack() as stack:
        try:
            node = stack.enter_context(slurm_node.node(tmp_path_factory.mktemp("slurm")))
        except (OSError, subprocess.CalledProcessError, TimeoutError) as error:
            pytest.skip(f"no SLURM: its daemons do not start on this machine: {error}")
        yield node


@pytest.fixture(scope="module")
def whole(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training left alone, beside ``steps.yaml``; its steps are as fast as they are."""
    folder = tmp_path_factory.mktemp("slurm-run")
    config, place = folder / "steps.yaml", folder / "whole"
    copy_corpus(toy, place)
    config.write_text(SETTINGS)
    done = subprocess.run(
        command(place, [config], "--cores", "1"), capture_output=True, text=True, check=False, env=ENVIRON
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    shutil.rmtree(place / "results/encoders")  # of finished trainings: nothing would be trained
    return folder


@dataclass
class Run:
    """One training through SLURM, to which something happens in its new step."""

    name: str
    folder: Path
    config: list[Path]
    asked: Sequence[str] = ()
    output: str = ""
    status: int | None = None
    times: dict[str, float] = field(default_factory=dict)

    @property
    def log(self) -> str:
        path = self.folder / LOG
        return path.read_text() if path.exists() else ""

    @property
    def attempts(self) -> list[dict[str, str]]:
        return rows(self.folder / STATE / "state/attempts.csv")

    @property
    def job(self) -> str:
        return self.attempts[-1]["slurm_job"]

    def state(self) -> str:
        return told("squeue", "-h", "--states=all", "-j", self.job, "-o", "%T")

    def go(self, event: Callable[["Run"], None]) -> "Run":
        copy_corpus(self.folder.with_name("whole"), self.folder)
        resources = ["pretrain:gpu=0", "pretrain:mem_mb=1000", "pretrain:runtime=60", *self.asked]
        profile = ["--profile", str(ROOT / "profiles/slurm-toy"), "--set-resources", *resources]
        with subprocess.Popen(
            command(self.folder, self.config, *profile),
            env=SLOWLY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as controller:
            try:
                until(lambda: f"step 1/{N_STEPS}" in self.log, f"{self.name}: no first step", PATIENCE)
                self.times["event"] = time.time()
                event(self)
                until(lambda: f"step 2/{N_STEPS}" in self.log, f"{self.name}: no new step", PATIENCE)
                self.times["new step"] = time.time()
                self.output = controller.communicate(timeout=PATIENCE)[0]
            except TimeoutError as error:
                controller.kill()
                raise AssertionError(f"{error}: {self.log}\n{controller.communicate()[0]}") from None
        self.status = controller.returncode
        return self


def cancel(run: Run) -> None:
    told("scancel", run.job)


def requeue(run: Run) -> None:
    told("scontrol", "requeue", run.job)


def preempt(run: Run) -> None:
    told("sbatch", "--partition=high", "--mem=100000", "--output=/dev/null", "--wrap=sleep 5")


def reach_the_time_limit(run: Run) -> None:
    """SLURM counts in minutes; what is left is counted in seconds."""
    told("scontrol", "update", f"JobId={run.job}", "EndTime=now+2seconds")
    give_more_time(run)


def come_near_the_time_limit(run: Run) -> None:
    """Nearer than the profile's --signal=TERM@600 says."""
    told("scontrol", "update", f"JobId={run.job}", "EndTime=now+9minutes")
    give_more_time(run)


def give_more_time(run: Run) -> None:
    """The job keeps its identity in the queue, and its limit, which is now a minute or so."""
    until(lambda: run.state() == "PENDING", f"{run.name}: {run.job} is not requeued", PATIENCE)
    told("scontrol", "update", f"JobId={run.job}", "TimeLimit=60")


WARNING = "'--signal=TERM@600'"
"""As profiles/slurm has it."""
EVENTS: dict[str, tuple[Callable[[Run], None], list[str]]] = {
    "time limit": (reach_the_time_limit, []),
    "time limit with a warning": (come_near_the_time_limit, [f"pretrain:slurm_extra={WARNING}"]),
    "scontrol requeue": (requeue, []),
    "preemption": (preempt, ["pretrain:slurm_partition=low", "pretrain:mem_mb=150000"]),
    "scancel": (cancel, []),
}


def readme_commands() -> list[str]:
    """The lines of the README's section on clusters."""
    section = (ROOT / "README.md").read_text().partition("## On a cluster")[2].partition("\n## ")[0]
    return re.findall(r"^snakemake .*$", section, re.M)


def run_line(line: str, folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """A line of the README in a checkout."""
    words = [sys.executable, "-m", *shlex.split(line, comments=True), *more]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=ENVIRON)


@pytest.fixture(scope="module")
def checkout(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a toy run that lacks a score, the geometry of embeddings, and what stands on them."""
    folder = tmp_path_factory.mktemp("checkout") / "clone"
    copy_run(toy, folder)
    for part in ("Snakefile", "workflow", "celllm", "config", "profiles", "envs"):
        (folder / part).symlink_to(ROOT / part)
    results = folder / "results/toy"
    shutil.rmtree(results / "scores/annotation/baron/celllm")
    for name in ("geometry.csv", "manifest.json", "report.html", "complete.json", "ro-crate-metadata.json"):
        (results / name).unlink()
    return folder


@dataclass(frozen=True)
class Outcome:
    """What became of the trainings, of the README's toy, and of a training on a GPU that is not there."""

    runs: dict[str, Run]
    toy: "subprocess.CompletedProcess[str]"
    gpu: str


def ask_for_a_gpu(folder: Path, config: list[Path]) -> str:
    """The log of a training that has been granted one, until it is refused a second time."""
    copy_corpus(folder.with_name("whole"), folder)
    profile = ["--profile", str(ROOT / "profiles/slurm-toy")]
    asked = ["--set-resources", "pretrain:gpu=1", "pretrain:mem_mb=1000"]
    log = folder / LOG
    with subprocess.Popen(
        command(folder, config, *profile, *asked),
        env=ENVIRON,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as controller:
        try:
            until(lambda: log.exists() and "not tried again" in log.read_text(), "gpu: no refusal", PATIENCE)
            return log.read_text()
        finally:
            controller.kill()  # its other attempts say the same; SLURM's own end stops what is queued


@pytest.fixture(scope="module")
def outcome(slurm: slurm_node.Node, whole: Path, checkout: Path) -> Outcome:
    """All at the same time: mostly they wait for SLURM, and Snakemake for them."""
    with ThreadPoolExecutor(len(EVENTS) + 2) as pool:
        coming = {}
        for name, (event, asked) in EVENTS.items():
            run = Run(name, whole / name.replace(" ", "-"), [whole / "steps.yaml"], asked)
            coming[name] = pool.submit(run.go, event)
        toy = pool.submit(run_line, readme_commands()[0], checkout)
        gpu = pool.submit(ask_for_a_gpu, whole / "gpu", [whole / "steps.yaml"])
        runs = {name: future.result() for name, future in coming.items()}
        return Outcome(runs, toy.result(), gpu.result())


def check(run: Run, whole: Path) -> None:
    """Finished unattended, nothing done twice, the bits of the training that was left alone."""
    assert run.status == 0, run.output[-3000:] + run.log[-3000:]
    assert run.attempts[-1]["status"] == "finished"
    assert int(run.attempts[0]["last_step"]) >= 1
    assert [row["first_step"] for row in run.attempts[1:]] == [row["last_step"] for row in run.attempts[:-1]]
    # SLURM may take the job away again before its training begins: then there is no attempt to list.
    assert run.log.count("--- celllm pretrain again, ") >= len(run.attempts) - 1
    assert f"step 1/{N_STEPS}" in run.log, "the log holds all attempts"
    for file in (TARGET, STATE / f"state/step-{N_STEPS:09d}.safetensors"):
        assert sha256(run.folder / file) == sha256(whole / "whole" / file)


@pytest.mark.parametrize("name", EVENTS)
def test_an_interrupted_training_goes_on_by_itself(outcome: Outcome, whole: Path, name: str) -> None:
    run = outcome.runs[name]
    check(run, whole)
    assert len(run.attempts) >= 2
    assert {row["status"] for row in run.attempts[:-1]} == {"interrupted"}
    assert ("Error in rule" in run.output) == (name == "scancel"), run.output


def test_the_readmes_toy_ends_as_the_local_one(outcome: Outcome, checkout: Path, toy: Path) -> None:
    assert outcome.toy.returncode == 0, outcome.toy.stdout[-3000:] + outcome.toy.stderr[-3000:]
    found = differences(toy / "results/toy", checkout / "results/toy", 0.0)
    assert [line for line in found if "table_s5" not in line.file] == []  # what the rows cost
    said = next((checkout / ".snakemake/log").glob("*.log")).read_text()
    rules = re.findall(r"^rule (\w+):", said, re.M)
    assert {"annotate", "geometry", "table", "figure", "claims", "report"} <= set(rules)
    assert said.count("has been submitted with SLURM jobid") == len(rules)


def test_the_readmes_full_run_is_planned(slurm: slurm_node.Node, checkout: Path) -> None:
    planned = run_line(readme_commands()[1], checkout, "-n", "--quiet", "rules")
    assert planned.returncode == 0, planned.stdout[-3000:] + planned.stderr[-3000:]


def test_a_node_that_dies(slurm: slurm_node.Node, whole: Path) -> None:
    """SIGKILL of everything on it, and a start ten seconds later: SLURM requeues the job by itself."""

    def die(run: Run) -> None:
        slurm.kill_node()
        time.sleep(10)
        slurm.start_node()

    each = whole / "each.yaml"  # a checkpoint after each step: this time nobody is left to write one
    each.write_text("pretraining: {settings: {checkpoint_steps: 1}}\n")
    run = Run("node", whole / "node", [whole / "steps.yaml", each]).go(die)
    check(run, whole)
    assert [row["status"] for row in run.attempts] == ["running", "finished"]
    seconds = run.times["new step"] - run.times["event"]
    print(f"from SIGKILL of the node to the end of the first new step: {seconds:.0f} s")


def test_a_granted_gpu_that_is_not_there_is_one_line(outcome: Outcome, whole: Path) -> None:
    """And one attempt: those that Snakemake adds end before they begin."""
    assert "celllm pretrain: device: CUDA_VISIBLE_DEVICES=0, but PyTorch" in outcome.gpu
    assert "Traceback" not in outcome.gpu
    (attempt,) = rows(whole / "gpu" / STATE / "state/attempts.csv")
    assert attempt["status"].startswith("failed: device: CUDA_VISIBLE_DEVICES=0")
