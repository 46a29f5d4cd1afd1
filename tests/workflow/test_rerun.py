"""What runs again: after changes of settings that decide; not after those of resources, or a move."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import CONFIG, ROOT

pytestmark = pytest.mark.slow
DONE = "Nothing to be done"
WRITES = """    shell:
        "for file in {output:q}; do case \\"$file\\" in */workflow) mkdir -p \\"$file\\" ;;"
        " *) printf '%s\\\\n' sample A > \\"$file\\" ;; esac; done"
"""
RESOURCES = """
pretraining:
  settings: {checkpoint_minutes: 1, token_budget: 999, log_steps: 1, device: cpu}
  by_model: {celllm: {checkpoint_minutes: 3}}
models: {celllm: {finetuning: {cache_mib: 7}}}
annotation:
  finetuning: {cache: elsewhere, store_mib: 1, token_budget: 99}
  finetuning_by_model: {frozen: {cache: ""}}
drug_sensitivity: {finetuning: {cache_mib: 5}}
drug_response: {finetuning: {store_mib: 5}}
interpretation: {device: cpu, token_budget: 3}
embedding_map: {token_budget: 3}
"""


def planned(folder: Path, *arguments: str) -> str:
    """What Snakemake prints, of the workflow in a folder on the results in it."""
    environment = {k: v for k, v in os.environ.items() if k not in ("CELLLM_MIRROR", "PYTHONPATH")}
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--directory", str(folder)]
    command += ["--snakefile", str(folder / "Snakefile"), "--configfile", str(folder / "config/toy.yaml")]
    done = subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a finished run, whose commands do nothing but write their files."""
    folder = tmp_path_factory.mktemp("runs") / "checkout"
    for part in ("workflow", "config", "profiles", "envs"):
        shutil.copytree(ROOT / part, folder / part)
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "celllm").symlink_to(ROOT / "celllm")
    for rules in (folder / "workflow/rules").glob("*.smk"):
        text = rules.read_text()
        rules.write_text(re.sub(r"^    shell:\n(?: {8}.*\n)+", WRITES, text, flags=re.M))
    planned(folder, "--workflow-profile", "none", "--", "all")
    assert DONE in planned(folder, "-n", "all")
    return folder


def with_overlay(folder: Path, text: str) -> str:
    (folder / "overlay.yaml").write_text(text)
    return planned(folder, "-n", "--configfile", "config/toy.yaml", "overlay.yaml", "--", "all")


def test_resources_run_nothing_again(finished: Path) -> None:
    assert DONE in with_overlay(finished, RESOURCES)


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ("pretraining: {by_model: {celllm: {epochs: 7}}}", {"pretrain", "annotate", "manifest"}),
        ("annotation: {finetuning_by_model: {frozen: {epochs: 7}}}", {"annotate", "manifest"}),
        ("annotation: {baselines: {knn_pca: {k: 3}}}", {"annotate_controls", "table", "manifest"}),
    ],
)
def test_science_does(finished: Path, change: str, rules: set[str]) -> None:
    text = with_overlay(finished, change)
    again = set(re.findall(r"^(?:local)?rule (\w+):", text, re.M))
    assert rules <= again
    assert "prepare" not in again
    for rule in ("pretrain", "annotate", "annotate_controls", "drug_sensitivity_controls"):
        assert (rule in again) == (rule in rules)


def test_an_equal_graphmae_trains_nothing_again(finished: Path) -> None:
    """Embeddings are too large for Snakemake to compare, their digests are not."""
    made = {path: path.read_bytes() for path in (finished / "results/toy/graph").glob("gene_embeddings_*")}
    assert made
    for path, content in made.items():
        path.write_bytes(content if path.suffix == ".sha256" else content * 100)
    assert DONE in planned(finished, "-n", "--max-checksum-file-size", "100", "all")
    for path in made:
        path.write_text("other\n")
    assert "rule pretrain:" in planned(finished, "-n", "--max-checksum-file-size", "100", "all")
    for path, content in made.items():
        path.write_bytes(content)


def test_a_move_runs_nothing_again(finished: Path) -> None:
    moved = finished.with_name("moved")
    finished.rename(moved)
    try:
        for path in (moved / "config").iterdir():
            path.touch()
        assert DONE in planned(moved, "-n", "all")
        table = moved / "config/cancerscem_samples.csv"
        table.write_text(table.read_text() + "BRCA-999,https://example.org/a.gz,\n")
        assert "samples" in planned(moved, "-n", "all")
    finally:
        shutil.copy(CONFIG / "cancerscem_samples.csv", moved / "config")
        moved.rename(finished)
