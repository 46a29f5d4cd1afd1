import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RULES_OF_MANY_THREADS = (
    "pretrain",
    "annotate",
    "drug_sensitivity",
    "drug_response",
    "graphmae",
    "geometry",
)
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def snakemake() -> Run:
    """Run the workflow in a folder of its own, as `make toy` does."""

    def run(folder: Path, *arguments: str, mirror: str | None = None) -> "subprocess.CompletedProcess[str]":
        folder.mkdir(exist_ok=True, parents=True)
        environment = {k: v for k, v in os.environ.items() if k != "CELLLM_MIRROR"}
        if mirror:
            environment["CELLLM_MIRROR"] = mirror
        one_thread = [f"{rule}=1" for rule in RULES_OF_MANY_THREADS]
        command = [sys.executable, "-m", "snakemake", "--set-threads", *one_thread, "--cores", "2"]
        command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
        command += ["--workflow-profile", str(ROOT / "profiles/default")]
        command += ["--configfile", str(ROOT / "config/toy.yaml"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    return run
