"""Two runs side by side: every score, table, verdict and figure's number, and the tensors of the encoders."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from celllm.errors import UserError
from celllm.io import read_csv
from celllm.scores.columns import COSTS

# What a job cost, and what a run is called, are not results.
IGNORED = frozenset({"seconds", "peak_mib", "run"})
# Files of a run, and the columns that say what a row is about; rows that share all of them are numbered.
KINDS = {
    "scores/**/*.csv": ("table", "task", "data_set", "model", "protocol", "split", "seed", "metric", "cell"),
    "tables/*.csv": ("table", "model", "group", "title", "column", "protocol"),
    "claims.csv": ("id",),
    "geometry.csv": ("model", "data_set", "embedding"),
    "contrast.csv": ("model", "data_set", "embedding"),
    "figures/*.csv": (),
}
ENCODERS = "checkpoints/*/encoder.safetensors"
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


@dataclass(frozen=True)
class Difference:
    """A cell that differs, a row or file of one run only (no ``column``), or the tensors of an encoder."""

    file: str
    row: str
    column: str
    a: str
    b: str

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.file, self.row, self.column) if part)
        return f"{place}: {self.a or 'nothing'} | {self.b or 'nothing'}"


def run_compare(a: str | Path, b: str | Path, /, tolerance: float = 0.0, lines: int = 20) -> int:
    """Two runs side by side: what differs, verdicts first; ends with 1 where anything does.

    Parameters
    ----------
    a, b
        Folders of runs, ``results/<run>``.
    tolerance
        Numbers are the same when they differ by at most this, absolutely or as a share of the larger one;
        encoders are compared, bit for bit, only without it.
    lines
        Differences to print of each kind; 0: all.
    """
    found = list(differences(a, b, tolerance))
    if not found:
        print(f"equal: {a} and {b} have the same scores, tables, verdicts and numbers of figures")
        return 0
    kinds: dict[str, list[Difference]] = {}
    for difference in sorted(found, key=lambda one: one.column != "verdict"):
        kind = "verdicts" if difference.column == "verdict" else difference.file.partition("/")[0]
        kinds.setdefault(kind, []).append(difference)
    for kind, members in kinds.items():
        print(f"{kind}: {len(members)} {'difference' if len(members) == 1 else 'differences'}")
        shown = members[: lines or None]
        print(*(f"  {difference}" for difference in shown), sep="\n")
        if len(members) > len(shown):
            print(f"  ... and {len(members) - len(shown)} more")
    return 1


def differences(a: str | Path, b: str | Path, tolerance: float = 0.0) -> Iterator[Difference]:
    """Yield what differs between the folders of two runs; nothing when they say the same.

    Arguments as those of :func:`run_compare`. A number inside a text may also differ in its last printed
    digit, unless the tolerance is zero. A folder without scores or a damaged file is a :class:`UserError`.
    """
    a, b = Path(a), Path(b)
    for folder in (a, b):
        if not any(folder.glob("scores/**/*.csv")):
            raise UserError(f"{folder}: no score files; expected the folder of a run, as results/toy")
    for pattern, key in KINDS.items():
        for file in _files(a, b, pattern):
            if (lone := _in_one(a, b, file)) is not None:
                yield lone
                continue
            of_a, of_b = (read_csv(folder / file) for folder in (a, b))
            if "column" in of_a and "column" in of_b:  # in Table S5, costs are rows
                of_a, of_b = (frame[~frame["column"].isin(COSTS)] for frame in (of_a, of_b))
            yield from _cells(file, of_a, of_b, key, tolerance)
    for file in () if tolerance else _files(a, b, ENCODERS):
        if (lone := _in_one(a, b, file)) is not None:
            yield lone
        elif (hashes := (tensors_hash(a / file), tensors_hash(b / file))) and hashes[0] != hashes[1]:
            yield Difference(file, "", "tensors", hashes[0][:12], hashes[1][:12])


def tensors_hash(path: str | Path) -> str:
    """SHA-256 of names, types, shapes and bytes of all tensors of a file; metadata do not count."""
    import safetensors

    found = hashlib.sha256()
    try:
        tensors = safetensors.deserialize(Path(path).read_bytes())
    except safetensors.SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file ({error})") from error
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        found.update(f"{name} {tensor['dtype']} {tensor['shape']}\n".encode())
        found.update(tensor["data"])
    return found.hexdigest()


def _files(a: Path, b: Path, pattern: str) -> list[str]:
    return sorted({path.relative_to(folder).as_posix() for folder in (a, b) for path in folder.glob(pattern)})


def _in_one(a: Path, b: Path, file: str) -> Difference | None:
    there = ["there" if (folder / file).is_file() else "" for folder in (a, b)]
    return None if all(there) else Difference(file, "", "", *there)


def _cells(
    file: str, a: pd.DataFrame, b: pd.DataFrame, key: Sequence[str], tolerance: float
) -> Iterator[Difference]:
    """Cells of two tables of text that differ; rows are matched by the columns of ``key`` that both have."""
    for name in sorted(set(a.columns) ^ set(b.columns)):
        yield Difference(file, "", name, *("a column" if name in frame else "" for frame in (a, b)))
    shared = [c for c in a.columns if c in b.columns and c not in IGNORED]
    keys = [c for c in shared if c in key]
    rows_a, rows_b = (_by_key(frame[shared], keys) for frame in (a, b))
    for row in {**rows_a, **rows_b}:
        ours, theirs = rows_a.get(row), rows_b.get(row)
        if ours is None or theirs is None:
            yield Difference(file, _named(row), "", *("a row" if r else "" for r in (ours, theirs)))
            continue
        for column, one, other in zip(shared, ours, theirs, strict=True):
            if not same(one, other, tolerance):
                yield Difference(file, _named(row), column, one, other)


def _by_key(frame: pd.DataFrame, keys: list[str]) -> dict[tuple[Any, ...], tuple[str, ...]]:
    rows = list(frame.itertuples(index=False, name=None))
    named = list(frame[keys].itertuples(index=False, name=None)) if keys else [()] * len(rows)
    seen: Counter[tuple[Any, ...]] = Counter()
    found = {}
    for name, row in zip(named, rows, strict=True):
        seen[name] += 1
        found[(*name, seen[name])] = row
    return found


def _named(row: tuple[Any, ...]) -> str:
    *names, number = row
    return " / ".join(names) + (f" (row {number})" if number > 1 or not names else "")


def same(a: str, b: str, tolerance: float) -> bool:
    """Whether two cells of a CSV file say the same."""
    if a == b or not tolerance:
        return a == b
    if (one := _number(a)) is not None and (other := _number(b)) is not None:
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    if _NUMBER.sub("#", a) != _NUMBER.sub("#", b):
        return False
    pairs = zip(_NUMBER.findall(a), _NUMBER.findall(b), strict=True)
    for one_text, other_text in pairs:
        numbers = [float(text.replace(",", "")) for text in (one_text, other_text)]
        last_digit = 1.001 * 10.0 ** -len(one_text.partition(".")[2])
        if not math.isclose(*numbers, rel_tol=tolerance, abs_tol=max(tolerance, last_digit)):
            return False
    return True


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
