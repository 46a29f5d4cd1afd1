"""Damage the raw files of a mirror at random and count what the readers make of it.

    python benchmarks/mutations.py MIRROR [--n 8] [--seed 0]

Each file of each reader is changed ``n`` times by a flipped bit, a cut end or two exchanged columns, and
read twice: as a file that data.lock knows, and as one supplied by hand. What comes out is *same* numbers,
*refused* in one line, *changed* numbers without a word, or a *traceback*. Exit status 1 when a file that
data.lock knows was changed without a word, or anything ended in a traceback.
"""

import argparse
import gzip
import hashlib
import logging
import shutil
import sys
import tempfile
import warnings
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
OUTCOMES = ("same", "refused", "changed", "traceback")
SEPARATORS = {".csv": b",", ".tsv": b"\t", ".txt": b"\t", ".info": b"\t"}


def flipped(content: bytes, random: np.random.Generator, name: str) -> bytes:
    """One bit is another."""
    place = int(random.integers(len(content)))
    return content[:place] + bytes([content[place] ^ 1 << int(random.integers(8))]) + content[place + 1 :]


def cut(content: bytes, random: np.random.Generator, name: str) -> bytes:
    """The end is missing."""
    return content[: int(random.integers(1, len(content)))]


def exchanged(content: bytes, random: np.random.Generator, name: str) -> bytes:
    """Two columns of a text have changed places, with their names where there are any."""
    packed = name.endswith(".gz")
    separator = SEPARATORS.get(Path(name.removesuffix(".gz")).suffix)
    if separator is None:
        return flipped(content, random, name)
    lines = [line.split(separator) for line in (gzip.decompress(content) if packed else content).split(b"\n")]
    if len(lines[0]) < 2:
        return flipped(content, random, name)
    a, b = random.choice(len(lines[0]), 2, replace=False)
    for fields in lines:
        if max(a, b) < len(fields):
            fields[a], fields[b] = fields[b], fields[a]
    text = b"\n".join(separator.join(fields) for fields in lines)
    return gzip.compress(text) if packed else text


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


def outcome(run: Callable[[], str], expected: str) -> str:
    """Run once; one of :data:`OUTCOMES`."""
    try:
        return "same" if run() == expected else "changed"
    except UserError as error:
        return "traceback" if "\n" in str(error) else "refused"
    except Exception:
        logging.exception("a traceback:")
        return "traceback"


def main() -> int:
    """Run all; print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mirror", type=Path)
    parser.add_argument("--n", type=int, default=8, help="changes of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="readers")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
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
            expected = run()
            for file in reading.files:
                place, lock = reading.folder / file.path, DataLock(reading.folder / "data.lock")
                content = place.read_bytes()
                for i in range(arguments.n):
                    change = (flipped, cut, exchanged)[i % 3]
                    for known in ("locked", "supplied"):
                        if known == "locked":
                            place.write_bytes(content)
                            lock.write(file.path, Entry.of(place, "supplied"))
                            changed = change(content, random, file.path)
                        else:
                            lock.path.unlink()
                        place.write_bytes(changed)
                        counts.setdefault((source, known), Counter())[outcome(run, expected)] += 1
                place.write_bytes(content)
            for known in ("locked", "supplied"):
                found = counts[source, known]
                print(
                    f"| {source} | {known} | {' | '.join(str(found[one]) for one in OUTCOMES)} |", flush=True
                )
    print(f"seed {arguments.seed}, {arguments.n} changes of each file")
    silent = sum(found["changed"] for (_, known), found in counts.items() if known == "locked")
    return int(silent + sum(found["traceback"] for found in counts.values()) > 0)


if __name__ == "__main__":
    sys.exit(main())
