"""What became of a fit, and finished fits on disk, after which an interrupted row goes on."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celllm.corpus.splits import Parts
from celllm.io import atomic, sha256
from celllm.methods.method import Probabilities
from celllm.scores import scores

log = logging.getLogger(__name__)

# With these a fit on the same data gives other numbers.
LIBRARIES = ("numpy", "scikit-learn", "scipy", "torch")


@dataclass(frozen=True)
class Predicted:
    """What was predicted of the test rows of a fold."""

    values: NDArray[Any]
    probabilities: Probabilities | None = None


@dataclass(frozen=True)
class Fitted:
    """What became of a fit; no predictions, and a reason, where it failed."""

    predicted: Predicted | None
    status: str
    reason: str
    seconds: float
    peak_mib: float
    chosen: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    last: Predicted | None = None  # by the model as the search left it


def identity(inputs: Mapping[str, str | Path | None], settings: Mapping[str, Any]) -> str:
    """Digest of everything that decides the fits of a row: files, settings, this code, its libraries."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, path in sorted(inputs.items()):
        if path is not None:
            digest.update(f"{name} {sha256(path)}".encode())
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    for library in LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class FitStore:
    """Finished fits of one row of a table on one data set, a file each.

    A file is read back only where the digest of what decided the fit, in its name and in it, and the
    checksums of its content are right; anything else is fitted anew.
    """

    folder: Path  # of this row alone; `clear` removes it
    identity: str  # what the function of this name gives
    lost: Fitted | None = None  # taken for every fit that is not there, instead of making it

    def place(self, task: str, fold: Parts, number: int, *words: str) -> Path:
        """File of a fit: of a fold of a task, learned from and chosen on as the words say."""
        digest = hashlib.sha256(json.dumps([self.identity, task, number, *words]).encode())
        for rows in (fold.train, fold.validation, fold.test):
            digest.update(np.asarray(rows, dtype=np.int64).tobytes() + b"|")
        return self.folder / f"{digest.hexdigest()}.npz"

    def read(self, place: Path) -> Fitted | None:
        """A finished fit; None where there is none, or no whole one."""
        try:
            with np.load(place, allow_pickle=False) as stored:
                arrays = dict(stored)  # all of it, each array held to its checksum
            facts: dict[str, Any] = json.loads(str(arrays.pop("facts")))
            if facts.pop("key") != place.stem:
                raise ValueError("the fit of another row")
            return Fitted(**facts, predicted=_predicted(arrays, "predicted"), last=_predicted(arrays, "last"))
        except FileNotFoundError:
            return self.lost
        except Exception as error:  # noqa: BLE001 - whatever a damaged file makes of it
            log.warning("%s: not a whole fit (%s); it is made again", place, type(error).__name__)
            return self.lost

    def write(self, place: Path, fitted: Fitted) -> None:
        """Keep a fit, if it succeeded: another attempt may do better than a failed one."""
        if fitted.status != scores.OK:
            return
        names = ("status", "reason", "seconds", "peak_mib", "chosen")
        facts = {"key": place.stem} | {name: getattr(fitted, name) for name in names}
        arrays = {"facts": np.array(json.dumps(facts))}
        for name in ("predicted", "last"):
            predicted: Predicted | None = getattr(fitted, name)
            if predicted is not None:
                arrays[f"{name}.values"] = predicted.values
                if predicted.probabilities is not None:
                    arrays[f"{name}.probabilities"] = predicted.probabilities.values
                    arrays[f"{name}.classes"] = predicted.probabilities.classes
        with atomic(place) as partial, open(partial, "wb") as handle:
            np.savez(handle, **arrays)  # type: ignore[arg-type]

    @property
    def n_kept(self) -> int:
        """Finished fits on disk."""
        return len(list(self.folder.glob("*.npz")))

    def clear(self) -> None:
        """Remove the fits of a row whose scores are written."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # of another row there may be some
            for parent in self.folder.parents:
                parent.rmdir()
                if parent.name == ".fits":
                    break


def _predicted(arrays: Mapping[str, NDArray[Any]], name: str) -> Predicted | None:
    if f"{name}.values" not in arrays:
        return None
    probabilities = None
    if f"{name}.probabilities" in arrays:
        probabilities = Probabilities(arrays[f"{name}.probabilities"], arrays[f"{name}.classes"])
    return Predicted(arrays[f"{name}.values"], probabilities)
