"""Libraries of the tasks that pre-training may have seen under other counts: same barcodes, same accessions.

A cell that another pipeline counted anew has another hash, but its library keeps its barcodes: two random
libraries of 3,000 of 737,000 barcodes share a dozen, 0.4 %.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celllm.cells import h5ad

FEWEST, SHARE = 10, 0.1
"""Barcodes in common, and their share of the smaller library, from which two libraries are suspicious."""

_BARCODE = re.compile(r"(?<![A-Za-z])[ACGT]{12,}(?![A-Za-z])")
_ACCESSION = re.compile(r"(?<![A-Z])(?:GSE|GSM|[SED]R[APRSX]|PRJ(?:NA|EB|DB)|E-MTAB-)\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Library:
    """The cells of one sample: their barcodes alone, and the accession numbers in any name of it."""

    source: str
    sample: str
    barcodes: frozenset[str]
    accessions: frozenset[str]


def libraries(path: str | Path) -> Iterator[Library]:
    """The samples of a prepared data set."""
    with h5ad.opened(path) as data:
        said = data.uns["celllm"]
        source = str(said["source"])
        files = " ".join(json.loads(said["files"]).values()) if isinstance(said["files"], str) else ""
        of_source = _accessions(source, files)
        names = data.obs_names.astype(str).to_series()
        for sample, cells in names.groupby(data.obs["sample"].astype(str).to_numpy()):
            barcodes = {match[0] for name in cells if (match := _BARCODE.search(name))}
            found = of_source | _accessions(str(sample), " ".join(cells.iloc[:1]))
            yield Library(source, str(sample), frozenset(barcodes), found)


def _accessions(*texts: str) -> frozenset[str]:
    return frozenset(match.upper() for text in texts for match in _ACCESSION.findall(text))


def common(cells: Mapping[str, str | Path], pretraining: Sequence[str | Path]) -> list[dict[str, Any]]:
    """List pairs of a task's and a pre-training library that share accessions or too many barcodes.

    Both are prepared ``.h5ad``: of the tasks by data set, and of the samples of pre-training.
    """
    known = [library for path in pretraining for library in libraries(path)]
    found = []
    for name, path in cells.items():
        for one in libraries(path):
            for other in known:
                n_common = len(one.barcodes & other.barcodes)
                share = n_common / max(min(len(one.barcodes), len(other.barcodes)), 1)
                accessions = sorted(one.accessions & other.accessions)
                if accessions or (n_common >= FEWEST and share >= SHARE):
                    found.append(
                        {
                            "data_set": name, "library": one.sample, "source": other.source,
                            "sample": other.sample, "n_barcodes": n_common,
                            "share_of_barcodes": round(share, 4), "accessions": accessions,
                        }
                    )  # fmt: skip
    return found
