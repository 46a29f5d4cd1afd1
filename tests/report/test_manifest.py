import json
import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from celllm.errors import UserError
from celllm.io import read_json, sha256
from celllm.report.manifest import (
    config_hash,
    git_state,
    read_checksums,
    rule_times,
    run_manifest,
    started,
)
from celllm.report.settings import ManifestSettings
from celllm.settings import as_settings

CONFIG = {"run": "toy", "seed": 3, "models": {"celllm": {"seed": 5, "mask_seed": 7, "seeds": [1]}}}
HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


@pytest.fixture
def benchmarks(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmarks"
    (folder / "annotate/zheng68k").mkdir(parents=True)
    (folder / "annotate/zheng68k/a.tsv").write_text(HEAD + "12.5\t0:00:12\t512.25\t1\t1\t1\t0\t0\t90\t11.0\n")
    (folder / "annotate/zheng68k/b.tsv").write_text(HEAD + "0.5\t0:00:00\t-\t-\t-\t-\t-\t-\t-\t-\n")
    (folder / "corpus.tsv").write_text(HEAD + "20.0\t0:00:20\t30.0\t1\t1\t1\t0\t0\t90\t2.5\n")
    return folder


@pytest.fixture
def manifest(tmp_path: Path, benchmarks: Path) -> dict:
    lock = tmp_path / "data.lock"
    entry = {"url": "https://example.org/a", "bytes": 1, "sha256": "a" * 64, "date": "2024-01-01"}
    lock.write_text(json.dumps({"version": 1, "files": {"zheng68k/a.tar.gz": entry}}))
    sums = tmp_path / "SHA256SUMS"
    sums.write_text(f"{'b' * 64}  baron/b.tar\n{'c' * 64} *hgnc/c.txt\n")
    settings = {"run": "toy", "toy": True, "seeds": {"extra": 9}}
    run_manifest(
        CONFIG, as_settings(ManifestSettings, settings), tmp_path / "manifest.json", benchmarks, [lock, sums]
    )
    return read_json(tmp_path / "manifest.json")


def test_keys(manifest: dict) -> None:
    assert list(manifest) == [
        "schema", "run", "size", "uuid", "started", "finished", "celllm", "git", "config", "config_sha256",
        "seeds", "inputs", "machine", "python", "packages", "times", "job_seconds",
    ]  # fmt: skip


def test_the_start_is_that_of_the_first_job(benchmarks: Path, tmp_path: Path) -> None:
    for file in benchmarks.rglob("*.tsv"):
        os.utime(file, (1_700_000_000, 1_700_000_000))
    assert started(benchmarks) == datetime.fromtimestamp(1_700_000_000 - 20, UTC).isoformat()
    assert started(tmp_path / "none") is None


def test_what_it_says_of_the_run(manifest: dict) -> None:
    assert (manifest["run"], manifest["size"]) == ("toy", "toy")
    assert uuid.UUID(manifest["uuid"]).version == 4
    assert datetime.fromisoformat(manifest["finished"]).utcoffset() is not None
    assert manifest["config"] == CONFIG
    assert manifest["seeds"] == {"seed": 3, "models.celllm.seed": 5, "models.celllm.mask_seed": 7, "extra": 9}
    assert manifest["inputs"] == {
        "zheng68k/a.tar.gz": "a" * 64,
        "baron/b.tar": "b" * 64,
        "hgnc/c.txt": "c" * 64,
    }
    assert manifest["packages"]["numpy"] == np.__version__
    assert manifest["python"] == ".".join(map(str, sys.version_info[:3]))
    assert manifest["machine"]["n_cpus"] >= 1
    assert manifest["machine"]["memory_gib"] > 0


def test_times_by_rule(manifest: dict) -> None:
    assert manifest["times"] == {
        "corpus": {"jobs": 1, "seconds": 20.0, "cpu_seconds": 2.5, "max_rss_mib": 30.0},
        "annotate": {"jobs": 2, "seconds": 13.0, "cpu_seconds": 11.0, "max_rss_mib": 512.25},
    }
    assert list(manifest["times"]) == ["corpus", "annotate"]
    assert manifest["job_seconds"] == 33.0


def test_no_benchmarks_no_times(tmp_path: Path) -> None:
    assert rule_times(tmp_path) == {}


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert config_hash({"a": 1, "b": {"c": 2, "d": 3}}) == config_hash({"b": {"d": 3, "c": 2}, "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})
    assert config_hash({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_git_state(tmp_path: Path) -> None:
    assert git_state(tmp_path / "nowhere") == {"commit": None, "branch": None, "dirty": None, "changed": []}
    _git(tmp_path, "init", "-q", "-b", "trunk")
    (tmp_path / "a.txt").write_text("1")
    _git(tmp_path, "add", "a.txt")
    _git(tmp_path, "commit", "-q", "-m", "one")
    clean = git_state(tmp_path)
    assert (len(clean["commit"]), clean["branch"], clean["dirty"]) == (40, "trunk", False)
    (tmp_path / "untracked.txt").write_text("2")
    assert git_state(tmp_path)["dirty"] is False
    (tmp_path / "a.txt").write_text("2")
    assert (git_state(tmp_path)["dirty"], git_state(tmp_path)["changed"]) == (True, ["a.txt"])


def test_configurations_by_file_and_by_text(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 4\n")
    for config in (tmp_path / "config.yaml", '{"seed": 4}'):
        run_manifest(config, ManifestSettings(), tmp_path / "manifest.json")
        assert read_json(tmp_path / "manifest.json")["config"] == {"seed": 4}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("SHA256SUMS", "abc  file\n", "SHA256SUMS: expected lines of"),
        ("data.lock", "not json", r"data\.lock: not a JSON file"),
        ("data.lock", '{"files": [1]}', r"data\.lock: expected a data\.lock"),
    ],
)
def test_unreadable_checksums(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_checksums(tmp_path / name)


def test_a_file_that_changed_after_it_was_fetched_is_refused(tmp_path: Path) -> None:
    raw, lock = tmp_path / "baron/b.tar", tmp_path / "data.lock"
    raw.parent.mkdir()
    raw.write_bytes(b"cells")
    entry = {"url": "mirror:b.tar", "bytes": 5, "sha256": sha256(raw)}
    lock.write_text(json.dumps({"version": 1, "files": {"baron/b.tar": entry}}))
    assert read_checksums(lock) == {"baron/b.tar": entry["sha256"]}
    for changed in (b"cellz", b"more cells"):
        raw.write_bytes(changed)
        with pytest.raises(UserError, match=r"baron/b\.tar: is not the file that data\.lock describes"):
            read_checksums(lock)
    raw.unlink()
    assert list(read_checksums(lock)) == ["baron/b.tar"]


def test_missing_checksums(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_checksums(tmp_path / "SHA256SUMS")
