"""The workflow as a module of another one, as snakedeploy sets it up: from a folder, or from git."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.places import ROOT

SNAKEFILE = """
configfile: "config/{config}"


module celllm:
    snakefile: "{source}"
    config: config


use rule * from celllm as {prefix}*
"""


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git repository")
@pytest.mark.parametrize("config", ["config.yaml", "toy.yaml"])
@pytest.mark.parametrize("place", ["folder", "git"])
def test_runs_from_an_empty_folder_with_its_own_config(tmp_path: Path, place: str, config: str) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    source = f"{ROOT}/workflow/Snakefile"
    source = f"git+file://{source}@HEAD" if place == "git" else source
    text = SNAKEFILE.format(config=config, source=source, prefix="celllm_" if config == "toy.yaml" else "")
    (tmp_path / "Snakefile").write_text(text)
    # Without the checkout on the path: from git, the installed package is all there is.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CELLLM_MIRROR")}
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "This was a dry-run" in done.stdout + done.stderr


@pytest.mark.slow
def test_lint_finds_nothing(snakemake, tmp_path: Path) -> None:
    done = snakemake(tmp_path, "--lint")
    assert done.returncode == 0
    assert "your workflow is in a good condition" in done.stdout + done.stderr


def test_what_the_catalogue_of_workflows_reads_is_there() -> None:
    entry = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())
    assert set(entry) == {"usage"} and entry["usage"]["software-stack-deployment"]["conda"] is True
    assert set(entry["usage"]["mandatory-flags"]) == {"desc", "flags"}
    for place in (
        "workflow/Snakefile",
        "config/README.md",
        ".test/config/toy.yaml",
        ".github/workflows/ci.yml",
    ):
        assert (ROOT / place).is_file()
    words = (ROOT / "README.md").read_text().lower()
    assert "snakemake" in words and "workflow" in words
