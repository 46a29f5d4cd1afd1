import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def snakemake() -> Run:
    """Run the workflow in a folder of its own, as `make toy` does."""

    def run(folder: Path, *arguments: str, mirror: str | None = None) -> "subprocess.CompletedProcess[str]":
        folder.mkdir(exist_ok=True, parents=True)
        environment = {k: v for k, v in os.environ.items() if k != "CELLLM_MIRROR"}
        if mirror:
            environment["CELLLM_MIRROR"] = mirror
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            str(ROOT / "Snakefile"),
            "--directory",
            str(folder),
        ]
        threads = [
            "--set-threads",
            "pretrain=1",
            "annotate=1",
            "drug_sensitivity=1",
            "graphmae=1",
            "geometry=1",
        ]
        workflow_profile = ["--workflow-profile", str(ROOT / "profiles/default")]
        return subprocess.run(
            [
                *command,
                "--configfile",
                str(ROOT / "config/toy.yaml"),
                "--cores",
                "2",
                *workflow_profile,
                *threads,
                *arguments,
            ],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )

    return run
