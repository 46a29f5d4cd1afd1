"""The last step of a run: failures are data, but one that nobody expected ends the run with an error."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from celllm.errors import UserError
from celllm.io import write_json
from celllm.report.settings import GateSettings
from celllm.scores import scores as score_files


def run_gate(scores: Sequence[str | Path], settings: GateSettings, out: str | Path) -> None:
    """Fail when a method failed that was not expected to.

    Parameters
    ----------
    scores
        All score files of the run.

    Raises
    ------
    UserError
        Naming model, data set and reason of what failed unexpectedly, or when there are no scores at all;
        nothing is written then.
    """
    allowed = settings.allowed
    frame = score_files.read_many(scores)
    if frame.empty:
        raise UserError("gate: the score files hold no row; nothing was scored in this run")
    # One line per split that failed, whatever number of metrics it would have had.
    failed = frame["status"].isin([score_files.FAILED, score_files.OUT_OF_MEMORY])
    bad = frame[failed].drop_duplicates(["task", "data_set", "model", "protocol", "split", "seed", "status"])
    names = bad["model"] + "/" + bad["data_set"]
    called = zip(names, names + "/" + bad["status"], strict=True)
    expected = [any(fnmatchcase(n, pattern) for n in both for pattern in allowed) for both in called]
    unexpected = bad[[not e for e in expected]]
    if len(unexpected):
        raise UserError(_message(unexpected))
    shown = ["model", "data_set", "protocol", "split", "status", "reason"]
    complete = {
        "complete": True,
        "rows": len(frame),
        "statuses": {str(k): int(v) for k, v in frame["status"].value_counts().items()},
        "allowed": list(allowed),
        "allowed_failures": bad[shown].to_dict("records"),
    }
    write_json(out, complete)


def last_words(log: str | Path, since: float) -> str:
    """Why the gate failed, from its log where that was written after ``since``; empty where it did not."""
    path = Path(log)
    if not path.is_file() or path.stat().st_mtime < since:
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line for line in reversed(lines) if line.startswith("celllm gate: ")), "")


def _message(rows: pd.DataFrame) -> str:
    """One line: each failing model and data set with its splits and first reason, each reason once."""
    parts, said = [], set()
    for (model, data_set, protocol), group in rows.groupby(["model", "data_set", "protocol"], sort=False):
        splits = ", ".join(group["split"].astype(str))
        first = group.iloc[0]
        why = "for the same reason" if first["reason"] in said else first["reason"]
        said.add(first["reason"])
        parts.append(f"{model} on {data_set} ({protocol}, split {splits}): {first['status']}, {why}")
    count = "1 unexpected failure" if len(rows) == 1 else f"{len(rows)} unexpected failures"
    return (
        f"{count}: {'; '.join(parts)}. The tables are made, with the reasons; "
        "allow a failure with 'model/data_set' under allowed_failures in the config"
    )
