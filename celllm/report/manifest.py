"""What a run was: versions, code, configuration, seeds, inputs, machine and times, in one JSON file."""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from celllm import __version__
from celllm.errors import UserError
from celllm.io import read_json, sha256, write_json
from celllm.report.run import read_document
from celllm.report.settings import ManifestSettings

HASH_AGAIN = 2**26  # bytes; larger inputs are hashed again only when they are younger than the lock


def run_manifest(
    config: str | Path | Mapping[str, Any],
    settings: ManifestSettings,
    out: str | Path,
    benchmarks: str | Path | None = None,
    checksums: Sequence[str | Path] = (),
    source: str | Path | None = None,
) -> None:
    """What made this run: versions, code, configuration, inputs, times.

    Parameters
    ----------
    config
        The merged configuration: a YAML or JSON file, JSON text, or a mapping.
    benchmarks
        Folder of Snakemake benchmark files, ``<rule>.tsv`` or ``<rule>/.../*.tsv``.
    checksums
        ``data.lock`` and ``SHA256SUMS`` files of the inputs.
    source
        The checkout that the workflow ran from; without one, no commit is named.

    Raises
    ------
    UserError
        For a configuration or a checksum file that cannot be read.
    """
    document = read_document(config, "manifest: config")
    if not isinstance(document, Mapping):
        raise UserError(f"{config}: expected a mapping of settings, got {type(document).__name__}")
    times = rule_times(Path(benchmarks)) if benchmarks else {}
    manifest = {
        "schema": 1,
        "run": settings.run,
        "size": settings.size,
        "uuid": str(uuid.uuid4()),
        "started": started(Path(benchmarks)) if benchmarks else None,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "celllm": __version__,
        "git": git_state(source),
        "config": document,
        "config_sha256": config_hash(document),
        "seeds": dict(_seeds(document)) | dict(settings.seeds),
        "inputs": {path: digest for file in checksums for path, digest in read_checksums(file).items()},
        "machine": machine(),
        "python": platform.python_version(),
        "packages": packages(),
        "times": times,
        "job_seconds": round(sum(rule["seconds"] for rule in times.values()), 2),
    }
    write_json(out, manifest)


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of the configuration, whatever the order of its keys."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _seeds(config: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """Every key called seed (or ending in _seed), by its dotted path."""
    if not isinstance(config, Mapping):
        return
    for key, value in config.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, int) and (key == "seed" or str(key).endswith("_seed")):
            yield here, value
        yield from _seeds(value, here)


def git_state(root: str | Path | None) -> dict[str, Any]:
    """Commit, branch and whether tracked files differ from it; all None outside a repository."""
    commit = _git(root, "rev-parse", "HEAD") if root else None
    if root is None or commit is None:
        return {"commit": None, "branch": None, "dirty": None, "changed": []}
    changed = (_git(root, "status", "--porcelain", "--untracked-files=no") or "").splitlines()
    return {
        "commit": commit,
        "branch": _git(root, "rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": bool(changed),
        "changed": [line[3:] for line in changed],
    }


def _git(root: str | Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


def read_checksums(path: str | Path) -> dict[str, str]:
    """SHA-256 by file, from a ``data.lock`` (JSON) or a ``SHA256SUMS`` file; else a :class:`UserError`."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file; the manifest lists the inputs from it")
    if path.name != "SHA256SUMS":
        return _verified(path)
    pairs = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if any(len(pair) != 2 or len(pair[0]) != 64 for pair in pairs):
        raise UserError(f"{path}: expected lines of '<64 hexadecimal digits>  <file>'")
    return {name.lstrip("*").strip(): digest for digest, name in pairs}


def _verified(lock: Path) -> dict[str, str]:
    """Checksums of a data.lock, held against the files beside it: none of them may have changed since."""
    try:
        entries = {
            name: (entry["sha256"], entry["bytes"]) for name, entry in read_json(lock)["files"].items()
        }
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{lock}: expected a data.lock, or a file called SHA256SUMS") from error
    locked_at = lock.stat().st_mtime
    for name, (digest, size) in entries.items():
        file = lock.parent / name
        if not file.is_file():
            continue  # results can be shown where the inputs no longer are
        found = file.stat()
        # What is large and older than the lock was hashed when it was fetched.
        touched = found.st_size <= HASH_AGAIN or found.st_mtime > locked_at
        if found.st_size != size or (touched and sha256(file) != digest):
            raise UserError(
                f"{file}: is not the file that {lock.name} describes ({size:,} bytes, {digest[:12]}...): "
                "it changed after it was fetched, and results may be of either. Delete it and run again"
            )
    return {name: digest for name, (digest, _) in entries.items()}


def packages() -> dict[str, str]:
    """Version of every installed distribution, by name."""
    found = {
        str(d.metadata["Name"]): d.version for d in importlib.metadata.distributions() if d.metadata["Name"]
    }
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def machine() -> dict[str, Any]:
    """Host, operating system, processor, memory in GiB and graphics processors."""
    gpus, cuda = [], None
    if any(Path("/dev", name).exists() for name in ("nvidiactl", "kfd", "dxg")):
        import torch

        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        cuda = torch.version.cuda if gpus else None
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        # Those that this process may use, where the system says.
        "n_cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": gpus,
        "cuda": cuda,
    }


def rule_times(folder: Path) -> dict[str, dict[Any, Any]]:
    """Jobs, wall seconds, processor seconds and highest resident memory (MiB) per rule, the longest first."""
    frames = [_benchmark(file, file.relative_to(folder).parts[0]) for file in sorted(folder.rglob("*.tsv"))]
    if not frames:
        return {}
    table = pd.concat(frames, ignore_index=True)
    times = table.groupby("rule").agg(
        jobs=("s", "size"),
        seconds=("s", "sum"),
        cpu_seconds=("cpu_time", "sum"),
        max_rss_mib=("max_rss", "max"),
    )
    times = times.sort_values("seconds", ascending=False).fillna(0.0).round(2)
    return {str(row.pop("rule")): row for row in times.reset_index().to_dict("records")}


def started(folder: Path) -> str | None:
    """When the first job began (UTC), from the time of each benchmark file less the seconds in it."""
    begins = [file.stat().st_mtime - _benchmark(file, "")["s"].sum() for file in folder.rglob("*.tsv")]
    return datetime.fromtimestamp(min(begins), UTC).isoformat(timespec="seconds") if begins else None


def _benchmark(file: Path, rule: str) -> pd.DataFrame:
    """One benchmark file; a job too short to be measured has a dash for its memory."""
    frame = pd.read_csv(file, sep="\t").reindex(columns=["s", "cpu_time", "max_rss"])
    numbers = frame.apply(pd.to_numeric, errors="coerce")
    return numbers.assign(rule=rule.removesuffix(".tsv"))
