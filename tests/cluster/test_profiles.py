"""The documented command and what Snakemake makes of it."""

import re
from pathlib import Path

import pytest
import yaml
from snakemake.cli import parse_args

from celllm.config import load
from tests.places import ROOT

PROFILES = sorted(path.parent.name for path in ROOT.glob("profiles/*/config.yaml"))
CLUSTER = [name for name in PROFILES if name.startswith("slurm")]
GPU_RULES = {"pretrain", "annotate", "drug_sensitivity", "drug_response", "held_out"}
GPU_RULES |= {"geometry", "embedding_map", "interpret", "memory"}


def keys_of(profile: str) -> set[str]:
    text = (ROOT / f"profiles/{profile}/config.yaml").read_text()
    return {key for key in yaml.safe_load(text) if not key.startswith("__")}


@pytest.fixture
def arguments(monkeypatch):
    """What Snakemake ends up with from a command line, read in the clone."""

    def parse(*words: str):
        monkeypatch.chdir(ROOT)
        return parse_args(list(words))[1]

    return parse


@pytest.mark.parametrize("name", CLUSTER)
def test_no_profile_sets_what_the_default_one_would_overrule(name: str) -> None:
    assert keys_of(name) & keys_of("default") == set()


@pytest.mark.parametrize("name", CLUSTER)
def test_the_values_of_the_documented_command_are_in_force(arguments, name: str) -> None:
    found = arguments("--profile", f"profiles/{name}", "all")
    assert list(found.targets) == ["all"]
    assert (found.executor, found.retries) == ("slurm", 1)
    assert found.slurm_requeue is True
    assert found.rerun_incomplete is True and found.keep_going is True
    assert found.jobs == (20 if name == "slurm-toy" else 50)
    assert dict(found.resources)["downloads"] == 4
    asked = {key: value.raw for key, value in found.default_resources.items()}
    assert asked["mem_mb"].endswith("* attempt") and "attempt" in asked["runtime"]
    assert "slurm_account" not in asked
    gpus = {rule: values["gpu"].raw for rule, values in found.set_resources.items() if "gpu" in values}
    assert gpus == ({"pretrain": 1} if name == "slurm" else dict.fromkeys(GPU_RULES, 0))


def test_accounting_is_found_out_and_the_account_passed_on(arguments, tmp_path: Path, monkeypatch) -> None:
    for status, command in ((0, "sacct"), (1, "squeue")):
        program = tmp_path / "sacct"
        program.write_text(f"#!/bin/sh\nexit {status}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        assert arguments("--profile", "profiles/slurm", "all").slurm_status_command == command
    profile = tmp_path / "mine"
    profile.mkdir()
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    text = text.replace('ACCOUNT = "" ', 'ACCOUNT = "lab" ').replace("LONGEST = 2880", "LONGEST = 600")
    (profile / "config.yaml").write_text(text)
    found = arguments("--profile", str(profile), "all")
    assert found.default_resources["slurm_account"].raw == "'lab'"
    runtimes = {rule: v["runtime"].raw for rule, v in found.set_resources.items() if "runtime" in v}
    assert runtimes["pretrain"] == 600 and runtimes["drug_response"] == "min(600, 2880 * attempt)"


def test_the_table_of_partitions_is_one_that_the_executor_reads() -> None:
    from snakemake_executor_plugin_slurm.partitions import read_partition_file

    found = {p.name: p.limits for p in read_partition_file(ROOT / "profiles/slurm/partitions.yaml")}
    assert found["cpu"].max_gpu == 0 and found["gpu"].max_gpu == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slurm", "slurm-cpu"])
def test_each_row_asks_for_what_it_uses(snakemake, tmp_path: Path, name: str) -> None:
    profile = ["--profile", str(ROOT / f"profiles/{name}")]
    plan = snakemake(tmp_path, "-n", *profile, "--", "all")
    assert plan.returncode == 0, plan.stderr[-2000:]
    models = load(ROOT / "config/toy.yaml")["models"]
    asked: dict[str, set[int]] = {}
    for block in re.split(r"\n\n", plan.stdout + plan.stderr):
        rule = re.search(r"^(?:local)?rule (\w+):", block, re.M)
        resources = re.search(r"^    resources: (.*)$", block, re.M)
        if rule is None or resources is None:
            continue
        gpu = int((re.search(r"\bgpu=(\d+)", resources[1]) or ["", "0"])[1])
        model = re.search(r"\bmodel=(\w+)", block)
        if rule[1] not in GPU_RULES or name == "slurm-cpu":
            assert gpu == 0, block
        else:
            encodes = rule[1] not in ("annotate", "drug_sensitivity", "drug_response", "held_out") or (
                model is not None and models[model[1]]["kind"] == "encoder"
            )
            assert gpu == int(encodes), block
        asked.setdefault(rule[1], set()).add(gpu)
        assert re.search(r"\bmem_mb=\d+", resources[1]) and re.search(r"\bruntime=\d+", resources[1])
    assert set(asked) >= GPU_RULES
    if name == "slurm":
        assert asked["annotate"] == asked["drug_response"] == {0, 1}
