"""What a Snakemake that was killed leaves in its working directory: a lock that nobody holds.

Snakemake writes down which files it works on, but not who does. So each run adds its process, and the next
one looks whether that still lives.
"""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from celllm.io import write_json

LOCKS = Path(".snakemake/locks")
RUNS = Path(".snakemake/celllm-runs")


def write_down() -> None:
    """Note that this process holds the locks that no other run has noted; called once they are taken."""
    known = {name for run in _runs().values() for name in run["locks"]}
    locks = sorted({path.name for path in LOCKS.glob("*.lock")} - known)
    pid = os.getpid()
    facts = {"host": socket.gethostname(), "process": pid, "began": _began(pid), "locks": locks}
    write_json(RUNS / f"{socket.gethostname()}-{pid}.json", facts)


def remove_stale() -> None:
    """Remove the locks of runs of this machine that were killed, and say so; other runs leave none."""
    for path, run in _runs().items():
        if run["host"] != socket.gethostname() or _began(run["process"]) == run["began"]:
            continue
        left = [LOCKS / name for name in run["locks"] if (LOCKS / name).exists()]
        for lock in left:
            lock.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        if left:
            said = f"Snakemake was killed here (process {run['process']}); its lock is removed"
            print(said, file=sys.stderr)


def _runs() -> dict[Path, dict[str, Any]]:
    found = {}
    for path in sorted(RUNS.glob("*.json")):
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            if {"host", "process", "began", "locks"} <= run.keys():
                found[path] = run
        except (OSError, ValueError, AttributeError):
            continue  # half a note says nothing about a lock
    return found


def _began(process: object) -> str:
    """When a process began, in ticks since the machine did; empty for one that has ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state == "Z" else fields[18]
