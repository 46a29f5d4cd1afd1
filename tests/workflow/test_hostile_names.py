"""Every name that a user chooses, full of characters that mean something to a shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from celllm.config import complete, lay_over, merged
from celllm.errors import UserError
from celllm.toy import run_toy_mirror
from tests.places import CONFIG, ROOT

HOSTILE = """a b"'$(touch ran1)`touch ran2`;touch ran3;&ü"""
PARTS = ("celllm", "config", "profiles", "envs", "workflow", "Snakefile")


def test_clone_mirror_config_and_run_folder_with_hostile_names(tmp_path: Path) -> None:
    clone, run = tmp_path / f"clone {HOSTILE}", tmp_path / f"run {HOSTILE}"
    run.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        clone.mkdir(exist_ok=True)
        copy(ROOT / part, clone / part)
    run_toy_mirror(clone / f"mirror {HOSTILE} {{x}}", seed=0)
    config = clone / f"config {HOSTILE}.yaml"
    shutil.copy(ROOT / "config/toy.yaml", config)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["CELLLM_MIRROR"] = str(clone / f"mirror {HOSTILE} {{x}}")
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--snakefile", str(clone / "Snakefile")]
    command += ["--workflow-profile", str(clone / "profiles/default"), "--configfile", str(config)]
    place = merged(config, folder=CONFIG)
    results = complete(place, CONFIG, environ=environment)["results"]
    targets = [f"{results}/prepared/{name}" for name in ("zheng68k.h5ad", "gdsc.responses.csv")]
    targets += [f"{results}/graph/network.npz", f"{results}/splits/annotation/zheng68k.json"]
    done = subprocess.run(
        [*command, "--", *targets], cwd=run, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert all((run / target).stat().st_size for target in targets)
    assert list(tmp_path.rglob("ran[0-9]*")) == []
    assert sorted(path.name for path in run.iterdir()) == [".snakemake", "results"]
    assert [path.name for path in (run / "results").iterdir()] == [Path(results).name]


@pytest.mark.parametrize(
    "name", ["a b", "a;b", "$(id)", "`id`", "-rf", "../up", "a/b", "ü", "", "a'b", "{x}", "a\n"]
)
@pytest.mark.parametrize("kind", ["models", "sizes", "run"])
def test_names_of_runs_models_and_sizes_are_plain(name: str, kind: str) -> None:
    row = {"kind": "baseline", "method": "majority", "title": "T", "group": "added"}
    size = {"dim": 8, "depth": 1, "heads": 1, "dim_head": 8}
    overlay = {"models": {name: row}, "sizes": {name: size}, "run": name}
    base = merged(CONFIG / "toy.yaml")
    with pytest.raises(UserError) as caught:
        complete(lay_over(base, {kind: overlay[kind]}), CONFIG, environ={})
    assert repr(name) in str(caught.value) and kind in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_mirrors_never_share_a_run(tmp_path: Path) -> None:
    base = merged(CONFIG / "toy.yaml")
    names = ["a b", "a;b", "a_b", "ü"]
    for name in names:
        (tmp_path / name).mkdir()
    runs = [
        complete(base, CONFIG, environ={"CELLLM_MIRROR": str(tmp_path / name)})["results"] for name in names
    ]
    assert len(set(runs)) == len(names)
    assert runs[2] == "results/toy-a_b"
