"""Time per pair of cell-line drug response, against encoding the cell line of every pair.

    python benchmarks/drug_response.py --depth 10 --dim 128 --genes 2000 [--responses gdsc.csv] [--lines 120]

Expression is made up; the pairs are those of a table of responses, or as many as DeepCDR's 107,446 of 561
lines and 223 drugs. All sides make optimiser steps of 16 pairs (paper, Table F.1) or of 128 (released code)
with Adam on the last layer, the head, the drug encoder and the regression; they take turns, a few steps each.
With --lines the steps are of pairs of so many lines: what runs once for a line then takes less time.

per pair     every pair's line goes through all layers and its drug through the drug encoder, as released
random       pairs of any lines in a batch; frozen layers run once per line, each line once per step
k lines      the same with the pairs of a batch drawn from k lines (lines_per_batch)
frozen       random, and the last layer stays as it is too: its output is kept as well

Prints milliseconds per pair, the ratio to "per pair", and the hours of an epoch of all pairs at that speed.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse import csr_matrix

from celllm.cells.responses import read_responses
from celllm.corpus.expressed import from_csr
from celllm.corpus.tokens import Tokeniser
from celllm.graph.drugs import Drugs, GinEncoder
from celllm.graph.molecules import read_smiles
from celllm.model import Encoder, EncoderConfig
from celllm.training.finetune_response import ResponseModel, ResponseSettings, ResponseTuner
from celllm.training.regression import KnownPairs, batches

# Where no table is given: as many different molecules of drug-like size as there are drugs.
_SCAFFOLD = "CC(=O)N{}c1ccc(cc1)C(=O)Nc1ccc(F)c(c1)C(=O)N1CCN(C)CC1"


def made_up_screen() -> tuple[KnownPairs, list[str]]:
    """DeepCDR's numbers: 107,446 of the 561 x 223 pairs."""
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.permutation(561 * 223)[:107_446])
    smiles = [_SCAFFOLD.format("C" * (1 + number % 9)) + "C" * (number // 9) for number in range(223)]
    return KnownPairs(chosen // 223, chosen % 223, rng.normal(2.1, 2.7, len(chosen))), smiles


def read_screen(path: str) -> tuple[KnownPairs, list[str]]:
    """Pairs of a table of responses, without asking for expression."""
    table = read_responses(path)
    lines, drugs = (table[name].astype("category").cat for name in ("cell_line", "drug"))
    smiles = table.drop_duplicates("drug").set_index("drug").loc[drugs.categories, "smiles"]
    codes = (column.codes.to_numpy(dtype=np.int64) for column in (lines, drugs))
    return KnownPairs(*codes, table["ln_ic50"].to_numpy(dtype=float)), smiles.tolist()


@dataclass
class Side:
    """One way of making the same steps."""

    name: str
    model: ResponseModel
    lines_per_batch: int = 0
    batch_size: int = 16
    per_pair: bool = False
    seconds: list[float] = field(default_factory=list)
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        self.optimiser = torch.optim.Adam(self.model.parameters(), 1e-4, fused=True)

    def run(self, pairs: KnownPairs, n_steps: int, order: np.random.Generator) -> None:
        """Make some steps, timed per pair."""
        backward: Callable[..., float] = self.backward_per_pair if self.per_pair else self.model.backward
        cut = batches(pairs.lines, self.batch_size, self.lines_per_batch, order)[:n_steps]
        self.model.train()
        start = self.clock()
        for rows in cut:
            backward(pairs.lines[rows], pairs.drugs[rows], pairs.responses[rows])
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
        self.seconds.append((self.clock() - start) / sum(map(len, cut)))

    def backward_per_pair(self, lines: np.ndarray, drugs: np.ndarray, responses: np.ndarray) -> float:
        """What ``ResponseModel.backward`` does, but nothing is shared between pairs."""
        model, vectors = self.model, self.model.drug_encoder(drugs)
        for place, line in enumerate(lines):  # a line at a time, as the processor's cache wants it
            cell = torch.relu(model.cells(model.states.take(np.array([line]))))
            found = model.regression(torch.cat([vectors[place : place + 1], cell], dim=1)).squeeze(1)
            wanted = torch.tensor([responses[place]], dtype=torch.float32)
            ((found - wanted).square().sum() / len(lines)).backward(retain_graph=True)
        return 0.0


def sides(chosen: argparse.Namespace, n_lines: int, smiles: list[str]) -> list[Side]:
    """All sides over the same encoder and lines; those that keep states have filled their store."""
    torch.manual_seed(0)
    config = EncoderConfig(chosen.genes, chosen.dim, chosen.depth, chosen.heads, chosen.dim_head)
    encoder = Encoder(config, torch.randn(chosen.genes, chosen.dim))
    counts = np.random.default_rng(0).poisson(3.0, (n_lines, chosen.genes)).astype(np.float32)
    cells, drugs = (
        from_csr(csr_matrix(counts), np.arange(chosen.genes)),
        Drugs([read_smiles(s) for s in smiles]),
    )
    made = {}
    for name, trained, store in (("trained", 1, 8192), ("frozen", 0, 8192), ("per pair", 1, 0)):
        settings = ResponseSettings(trainable_layers=trained, store_mib=store, precision="float32")
        tuner = ResponseTuner(
            encoder,
            cells,
            Tokeniser(chosen.genes),
            np.arange(chosen.genes),
            lambda: GinEncoder(drugs),
            settings,
        )
        start = time.perf_counter()
        if store:
            for line in range(n_lines):
                tuner.states.take(np.array([line]))
            print(
                f"{name}: frozen layers run once for {n_lines} lines in {time.perf_counter() - start:.1f} s"
            )
        made[name] = lambda tuner=tuner: ResponseModel(
            tuner.states, tuner.genes, tuner.drug_encoder(), tuner.settings
        )
    return [
        Side("per pair", made["per pair"](), per_pair=True),
        Side("random", made["trained"]()),
        Side("4 lines", made["trained"](), 4),
        Side("1 line", made["trained"](), 1),
        Side("128, 8 lines", made["trained"](), 8, 128),
        Side("128, 4 lines", made["trained"](), 4, 128),
        Side("frozen", made["frozen"]()),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    sizes = {"depth": 10, "dim": 128, "heads": 8, "dim-head": 16, "genes": 2000}
    for name, value in (sizes | {"steps": 10, "rounds": 3, "threads": 1}).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--lines", type=int, default=0, help="only pairs of so many lines; 0: of all")
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine, with one thread")
    parser.add_argument("--responses", help="table of responses, what `celllm responses` writes")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    pairs, smiles = read_screen(chosen.responses) if chosen.responses else made_up_screen()
    n_lines, n_pairs = int(pairs.lines.max()) + 1, len(pairs)
    size = f"{chosen.depth} layers, dim {chosen.dim}, {chosen.genes} genes"
    print(f"{n_pairs} pairs of {n_lines} lines and {len(smiles)} drugs; {size}")
    if chosen.lines:
        n_lines, kept = chosen.lines, pairs.lines < chosen.lines
        pairs = KnownPairs(pairs.lines[kept], pairs.drugs[kept], pairs.responses[kept])
        print(f"steps of pairs of {n_lines} lines")
    compared, order = sides(chosen, n_lines, smiles), np.random.default_rng(0)
    for side in compared:
        side.clock = time.process_time if chosen.processor_time else time.perf_counter
    for _ in range(chosen.rounds):
        for side in compared:
            side.run(pairs, 2 if side.per_pair else chosen.steps, order)
    times = {side.name: statistics.median(side.seconds) for side in compared}
    for name, seconds in times.items():
        ratio, hours = times["per pair"] / seconds, seconds * n_pairs / 3600
        print(f"{name:12} {1000 * seconds:9.3f} ms per pair  {ratio:7.1f} times  {hours:8.3f} h per epoch")


if __name__ == "__main__":
    main()
