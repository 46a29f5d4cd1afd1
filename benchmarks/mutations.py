"""Damage the raw files of a mirror at random and count what the readers make of it.

    python benchmarks/mutations.py MIRROR [--n 12] [--seed 0]

Each file of each reader is changed ``n`` times, by :data:`CHANGES` in turn, and read twice: as a file that
data.lock knows, and as one supplied by hand. What comes out is

same        the numbers are those of the file before
refused     one line says what is wrong
warned      other numbers, and a WARNING that the file before did not give
unknowable  other numbers without a word, and no reader could know: one digit or letter is another, the lines
            at the end are missing, or two names of columns have changed places
silent      other numbers without a word although the file shows that something is wrong
traceback   anything else

Exit status 1 for *silent* and *traceback*, and for a file that data.lock knows and that is not refused.
"""

import argparse
import csv
import gzip
import hashlib
import io
import logging
import re
import shutil
import sys
import tempfile
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from celllm.cells import h5ad
from celllm.cells.genes import run_genes
from celllm.cells.prepare import run_prepare
from celllm.cells.responses import read_responses, run_responses
from celllm.errors import UserError
from celllm.sources.catalogue import Catalogue, InputFile
from celllm.sources.lock import DataLock, Entry
from celllm.sources.samples import run_samples

ROOT = Path(__file__).resolve().parents[1]
OUTCOMES = ("same", "refused", "warned", "unknowable", "silent", "traceback")
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t", ".info": "\t"}


def flipped(content: bytes, random: np.random.Generator, name: str) -> bytes:
    """One bit is another."""
    place = int(random.integers(len(content)))
    return content[:place] + bytes([content[place] ^ 1 << int(random.integers(8))]) + content[place + 1 :]


def cut(content: bytes, random: np.random.Generator, name: str) -> bytes:
    """The end is missing."""
    return content[: int(random.integers(1, len(content)))]


def exchanged(content: bytes, random: np.random.Generator, name: str) -> bytes:
    """Two columns of a text have changed places, with their names where there are any."""
    return _with_columns(content, random, name, whole=True)


def renamed(content: bytes, random: np.random.Generator, name: str) -> bytes:
    """Two fields of the first line have changed places."""
    return _with_columns(content, random, name, whole=False)


def doubled(content: bytes, random: np.random.Generator, name: str) -> bytes:
    """A line of a text stands there twice."""
    if _separator(name) is None:
        return cut(content, random, name)
    lines = _unpacked(content).splitlines(keepends=True)
    place = int(random.integers(len(lines)))
    return _packed(b"".join([*lines[:place], lines[place], *lines[place:]]), content)


CHANGES = (flipped, cut, exchanged, renamed, doubled, flipped)


def _separator(name: str) -> str | None:
    return SEPARATORS.get(Path(name.removesuffix(".gz")).suffix)


def _unpacked(content: bytes) -> bytes:
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def _packed(text: bytes, like: bytes) -> bytes:
    return gzip.compress(text) if like.startswith(b"\x1f\x8b") else text


def _with_columns(content: bytes, random: np.random.Generator, name: str, whole: bool) -> bytes:
    separator = _separator(name)
    if separator is None:
        return flipped(content, random, name)
    lines = _unpacked(content).decode("latin-1").splitlines(keepends=True)
    rows = list(csv.reader(lines, delimiter=separator))
    if len(rows[0]) < 2:
        return flipped(content, random, name)
    a, b = random.choice(len(rows[0]), 2, replace=False)
    for row in rows if whole else rows[:1]:
        shift = int(len(row) == len(rows[0]) + 1)  # R names no column of row names
        row[a + shift], row[b + shift] = row[b + shift], row[a + shift]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(rows)
    return _packed(text.getvalue().encode("latin-1"), content)


def is_unknowable(before: bytes, after: bytes, change: Callable[..., bytes]) -> bool:
    """Whether the changed file is as good as the one before: see above."""
    try:
        old, new = _unpacked(before), _unpacked(after)
    except (OSError, EOFError, zlib.error):
        return False
    if change is renamed:
        return True
    if old.startswith(new):
        return new.endswith(b"\n")
    places = [i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b]
    if len(old) != len(new) or len(places) != 1:
        return False
    a, b = (chr(text[places[0]]) for text in (old, new))
    return (a.isdigit() and b.isdigit()) or (a.isascii() and a.isalpha() and b.isascii() and b.isalpha())


def digest_of_cells(path: Path) -> str:
    """Of cells, labels and values, in whatever order the cells came."""
    adata = h5ad.read(path)
    adata = adata[np.argsort(adata.obs_names.to_numpy(), kind="stable")]
    said = adata.obs[[c for c in ("sample", "label", "tumour") if c in adata.obs]].astype(str).to_csv()
    matrix = adata.X.tocsr()
    parts = (matrix.indptr.tobytes(), matrix.indices.tobytes(), matrix.data.tobytes())
    return hashlib.sha256(said.encode() + "".join(adata.var_names).encode() + b"".join(parts)).hexdigest()


def digest_of_responses(path: Path) -> str:
    """Of the rows, in whatever order they came."""
    rows = read_responses(path).sort_values(["cell_line", "drug", "screen"])
    return hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()


class Reading:
    """One reader with its files in a folder of its own."""

    def __init__(
        self, catalogue: Catalogue, source: str, mirror: Path, folder: Path, sample: str | None
    ) -> None:
        self.source, self.sample, self.folder = source, sample, folder
        entry = catalogue.source(source)
        files = [file for file in catalogue.files(source) if file.wanted]
        files += catalogue.sample_files(source, sample) if sample else []
        files += [
            file
            for name, other in entry.get("uses", {}).items()
            for file in catalogue.files(other)
            if file.name == name
        ]
        self.files: list[InputFile] = [file for file in files if (mirror / file.path).is_file()]
        for file in self.files:
            place = folder / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(mirror / file.path, place)
        self.options = {k: v for k, v in entry.get("options", {}).items() if k != "samples"}

    def run(self, genes: Path, aliases: Path, samples: Path) -> str:
        """Read all files; a digest of the numbers."""
        paths = {file.name: self.folder / file.path for file in self.files}
        out = self.folder / "out.h5ad"
        out.unlink(missing_ok=True)
        if self.source.startswith("gdsc"):
            run_responses(self.source, paths, self.options, out)
            return digest_of_responses(out)
        more: dict[str, Any] = {"sample": self.sample, "samples": samples} if self.sample else {}
        run_prepare(self.source, paths, genes, aliases, self.options, out, **more)
        return digest_of_cells(out)


class Warnings(logging.Handler):
    """Collects what is said at WARNING."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self.said.add(re.sub(r" \([\d.]+ % of the counts\).*", "", record.getMessage()))


def outcome(run: Callable[[], str], expected: str, usual: set[str], unknowable: bool, log: Warnings) -> str:
    """Run once; one of :data:`OUTCOMES`."""
    log.said.clear()
    try:
        if run() == expected:
            return "same"
    except UserError as error:
        return "traceback" if "\n" in str(error) else "refused"
    except Exception:  # noqa: BLE001 - any error is an outcome
        traceback.print_exc()
        return "traceback"
    if log.said - usual:
        return "warned"
    return "unknowable" if unknowable else "silent"


def main() -> int:
    """Run all; print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mirror", type=Path)
    parser.add_argument("--n", type=int, default=12, help="changes of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="each outcome but same and refused")
    parser.add_argument("--only", nargs="*", default=[], help="readers")
    arguments = parser.parse_args()
    log = Warnings()
    logging.getLogger().addHandler(log)
    warnings.simplefilter("ignore")
    random = np.random.default_rng(arguments.seed)
    catalogue = Catalogue.read(ROOT / "config" / "data_sets.yaml")
    counts: dict[tuple[str, str], Counter[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        genes, aliases = folder / "genes.tsv", folder / "aliases.tsv"
        run_genes(next(arguments.mirror.glob("hgnc/*.txt")), genes, aliases)
        for source, row in catalogue.sources.items():
            if row["role"] in ("genes", "network", "markers") or (
                arguments.only and source not in arguments.only
            ):
                continue
            samples, sample = folder / f"{source}.tsv", None
            if "sample_files" in row:
                own = {f.name: arguments.mirror / f.path for f in catalogue.files(source)}
                run_samples(source, own, samples, {"samples": "mirrored"}, arguments.mirror)
                sample = samples.read_text().splitlines()[1].split("\t")[0]
            reading = Reading(catalogue, source, arguments.mirror, folder / source, sample)
            run = lambda reading=reading, samples=samples: reading.run(genes, aliases, samples)  # noqa: E731
            log.said.clear()
            expected, usual = run(), set(log.said)
            for file in reading.files:
                place, lock = reading.folder / file.path, DataLock(reading.folder / "data.lock")
                content = place.read_bytes()
                for i in range(arguments.n):
                    change = CHANGES[i % len(CHANGES)]
                    for known in ("locked", "supplied"):
                        if known == "locked":
                            place.write_bytes(content)
                            lock.write(file.path, Entry.of(place, "supplied"))
                            changed = change(content, random, file.path)
                        else:
                            lock.path.unlink()
                        place.write_bytes(changed)
                        found = outcome(run, expected, usual, is_unknowable(content, changed, change), log)
                        counts.setdefault((source, known), Counter())[found] += 1
                        if arguments.show and found not in ("same", "refused"):
                            print(
                                f"{found}: {file.path}, {change.__name__} ({i}): {sorted(log.said - usual)}"
                            )
                place.write_bytes(content)
            for known in ("locked", "supplied"):
                row_of = counts[source, known]
                print(
                    f"| {source} | {known} | {' | '.join(str(row_of[one]) for one in OUTCOMES)} |", flush=True
                )
    print(f"seed {arguments.seed}, {arguments.n} changes of each file")
    wrong = sum(found["silent"] + found["traceback"] for found in counts.values())
    wrong += sum(
        found.total() - found["refused"] for (_, known), found in counts.items() if known == "locked"
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
