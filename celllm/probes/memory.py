"""How long cells may be in a given memory (section 4.3 of the paper): end-to-end against divide-and-conquer.

The peak of a training step is measured at a few sizes, on CUDA where there is a device and by accounting on
the meta device elsewhere, and is close to linear in what the kept graphs hold:

    peak = base + per_token * tokens + per_cell * cells + contrast(T)

End-to-end keeps the graphs of both views of all T cells: 2 T (L + 1) tokens. Divide-and-conquer keeps that of
one view of one cell: L + 1 tokens. The last term is the contrastive loss itself, T x T, measured for each T.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from celllm.io import write_csv, write_json
from celllm.model.settings import EncoderConfig
from celllm.probes.peak_memory import PeakMeter, contrast_peak
from celllm.probes.settings import MemorySettings
from celllm.scores.columns import MEMORY, PAPER_LENGTHS
from celllm.settings import as_settings

log = logging.getLogger(__name__)

GIB = 2**30
MOST_OF_A_DEVICE = 0.8  # of a CUDA device's memory is filled at most in a measurement
FACTS = {"end_to_end": "max_length_end_to_end", "divide_and_conquer": "max_length_divided"}


@dataclass(frozen=True)
class Point:
    """A measured step: cells of its batch, genes of a cell, bytes at its peak."""

    n_cells: int
    length: int
    peak: int


@dataclass(frozen=True)
class Fit:
    """The line through some measured steps of one scheme; see the head of this module."""

    contrast: str  # end_to_end or divide_and_conquer
    fitted: tuple[Point, ...]
    checked: tuple[Point, ...]  # what the line is held to
    loss: Callable[[int], int]  # bytes of the contrastive loss by batch size

    @cached_property
    def coefficients(self) -> np.ndarray:
        """Bytes of nothing, of a token and, end to end, of a cell."""
        rows = [self._terms(point.n_cells, point.length) for point in self.fitted]
        rest = [point.peak - self.loss(point.n_cells) for point in self.fitted]
        return np.linalg.lstsq(np.array(rows), np.array(rest))[0]

    def _terms(self, n_cells: int, length: float) -> list[float]:
        if self.contrast == "end_to_end":
            return [1.0, 2.0 * n_cells * (length + 1), float(n_cells)]
        return [1.0, length + 1.0]

    def peak(self, n_cells: int, length: float) -> float:
        """Bytes at the peak of a step."""
        return float(np.dot(self.coefficients, self._terms(n_cells, length))) + self.loss(n_cells)

    def max_length(self, budget: float, n_cells: int) -> int:
        """Genes of a cell at most, so that ``n_cells`` of them stay within ``budget`` bytes; or 0."""
        of_none, of_one = self.peak(n_cells, 0), self.peak(n_cells, 1)
        return max(0, int((budget - of_none) // (of_one - of_none)))

    @property
    def residual(self) -> float:
        """Largest relative error of the line at a step that it was not drawn through."""
        return max(abs(self.peak(p.n_cells, p.length) / p.peak - 1) for p in self.checked)


def run_memory(out: str | Path, table: str | Path, settings: MemorySettings) -> None:
    """Peak memory of training steps -> the longest cells that fit a budget, as facts and curves.

    Parameters
    ----------
    out
        JSON file of facts: ``memory.max_length_end_to_end``, ``memory.max_length_divided`` and how they were
        found.
    table
        CSV with :data:`MEMORY`: measured steps, and the points of the curves.
    """
    fits = {kind: measure(settings, kind) for kind in settings.attention}
    budget, n_cells = settings.budget_gib * GIB, settings.n_cells
    facts = {
        kind: {FACTS[name]: fit.max_length(budget, n_cells) for name, fit in of.items()}
        | {"largest_error_of_the_line": round(max(fit.residual for fit in of.values()), 5)}
        for kind, of in fits.items()
    }
    described = {
        "budget_gib": settings.budget_gib,
        "n_cells": n_cells,
        "tracker": torch.cuda.get_device_name(0) if _on_cuda(settings) else "accounting on the meta device",
        **facts[settings.attention[0]],
        "by_attention": facts,
    }
    lines: list[list[Any]] = []
    for kind, contrast, fit in ((kind, *pair) for kind, of in fits.items() for pair in of.items()):
        for what, points in (("fitted", fit.fitted), ("checked", fit.checked)):
            for p in points:
                peaks = [f"{x / 2**20:.1f}" for x in (p.peak, fit.peak(p.n_cells, p.length))]
                lines.append([what, kind, contrast, p.n_cells, p.length, *peaks])
        for size in settings.batch_sizes:
            length = fit.max_length(budget, size)
            at_it = f"{fit.peak(size, length) / 2**20:.1f}"
            lines.append(["curve", kind, contrast, size, length, "", at_it])
    write_csv(table, MEMORY, lines)
    write_json(out, {"memory": described})


def measure(settings: MemorySettings, attention: str) -> dict[str, Fit]:
    """The lines of both schemes for one attention."""
    values = {**settings.size, "n_genes": settings.n_genes, "attention": attention}
    config = as_settings(EncoderConfig, values, "memory.size")

    on_cuda = _on_cuda(settings)
    meter = PeakMeter(config, "cuda" if on_cuda else "meta")

    def peak(contrast: str, n_cells: int, length: int) -> Point:
        length = max(1, length)
        found = meter.peak(contrast, n_cells, length)
        log.info("%s, %s, %d x %d genes: %.2f GiB", attention, contrast, n_cells, length, found / GIB)
        return Point(n_cells, length, found)

    limit = settings.budget_gib * GIB
    if on_cuda:
        limit = min(limit, MOST_OF_A_DEVICE * torch.cuda.get_device_properties(0).total_memory)
    # End to end: two lengths and two batch sizes, checked at a third.
    kind, n = "end_to_end", settings.n_cells
    first = peak(kind, n, PAPER_LENGTHS[kind])
    near = _scaled(first, limit)
    fitted = (first, peak(kind, n, near), peak(kind, 4 * n, near // 8))
    whole = Fit(kind, fitted, (peak(kind, n // 4, 2 * near),), contrast_peak)
    # Divided: two lengths near the limit, checked at the limit. Far below it FAVOR+ has smaller blocks.
    kind = "divide_and_conquer"
    close = peak(kind, 1, _scaled(peak(kind, 1, PAPER_LENGTHS[kind]), limit))
    divided = Fit(kind, (close, peak(kind, 1, _scaled(close, limit))), (), contrast_peak)
    divided = replace(divided, checked=(peak(kind, 1, divided.max_length(limit, 1)),))
    for fit in (whole, divided):
        log.info("%s, %s: off by at most %.2g", attention, fit.contrast, fit.residual)
    return {fit.contrast: fit for fit in (whole, divided)}


def _scaled(point: Point, limit: float) -> int:
    """A length whose peak is somewhat below ``limit``: in proportion, as if the model itself took nothing."""
    scaled = int(point.length * limit / point.peak)
    return scaled + (scaled == point.length)


def _on_cuda(settings: MemorySettings) -> bool:
    return settings.tracker != "meta" and torch.cuda.is_available()
