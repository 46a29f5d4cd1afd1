"""The loss of an untrained encoder's contrast, and the page that says what was found."""

import re
import sys

import pytest
import torch

from celllm.model.encoder import Encoder
from celllm.model.settings import EncoderConfig
from celllm.training.contrastive import info_nce
from celllm.training.masked_batches import Batch
from celllm.training.objectives import MaskedCells
from tests.places import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import contrast_at_start as at_start

PAGE = (ROOT / "docs/pretraining.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("temperature", at_start.TEMPERATURES)
def test_the_loss_at_as_many_cells_as_there_are_is_the_papers(temperature: float) -> None:
    torch.manual_seed(0)
    h = torch.randn(9, 5, dtype=torch.float64)
    h_plus = h + 0.3 * torch.randn(9, 5, dtype=torch.float64)
    found = at_start.info_nce(*at_start.cosines(h, h_plus), temperature, 9)
    assert found == pytest.approx(float(info_nce(h, h_plus, temperature)), rel=1e-9)


def test_the_page_has_every_reading_of_both_data_sets_with_all_seeds() -> None:
    """A row for each reading that the benchmark measures; of pooled ones mean and range of five heads."""
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(n_genes=8, dim=16, depth=1, heads=2, dim_head=8))
    ids, bins = torch.tensor([[8, 0, 3, 9], [8, 1, 2, 7]]), torch.tensor([[6, 1, 2, 7], [6, 3, 1, 2]])
    none = torch.zeros(2, 4, dtype=torch.bool)
    cells = MaskedCells(ids, bins, ids < 9, none, torch.empty(0, dtype=torch.int64), torch.zeros(2))
    readings = at_start.two_views(encoder, Batch(2, [], [cells], {}), 5)
    pooled = {name for name, seeds in readings.items() if len(seeds) == 5}
    assert len(readings) == 6 and pooled == {name for name in readings if name.startswith("pooled")}
    for data_set in ("Baron", "PBMC"):
        rows = [row for row in PAGE.splitlines() if f"| {data_set} | 0." in row and row.count("|") == 9]
        assert len(rows) == len(readings)
        losses = {row.split(" | ")[0][2:]: row.strip("| ").split(" | ")[4:] for row in rows}
        for name, values in losses.items():
            ranged = [re.fullmatch(r"\S+ \(\S+ to \S+\)", value) is not None for value in values]
            assert ranged == [name.startswith("pooled")] * len(at_start.TEMPERATURES), (name, values)
        of_set = [
            row.strip("| ").split(" | ") for row in PAGE.splitlines() if row.startswith(f"| {data_set} |")
        ]
        (norms,) = ([float(norm) for norm in row[1:]] for row in of_set)
        assert len(norms) == len(at_start.TEMPERATURES) + 2  # beside the other two objectives
