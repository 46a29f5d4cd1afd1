r"""How hard the contrast is for an encoder that has learnt nothing: InfoNCE of measured cells.

    python benchmarks/contrast_at_start.py --cells baron=prepared/baron.h5ad --genes genes.tsv \
        --gene-embeddings graph/gene_embeddings_512.safetensors

Random cells of each data set go through an untrained model twice, as in pre-training: same hidden tokens,
other dropout masks. Printed are the cosines of the pooled vectors of the same cell (positives) and of
different cells (negatives), the loss of this batch, and what it is for larger ones: each cell's negatives are
then as many more of the same kind. Beside them the loss that the same cells have in other readings of their
final states (mean over genes, [CLS]), and the norm of the gradient that each objective gives the encoder.
"""

import argparse

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from celllm.cells import h5ad
from celllm.cells.genes import Vocabulary
from celllm.corpus.batches import length_buckets
from celllm.corpus.expressed import CellsInMemory, blocks, concatenate, tokens_of
from celllm.corpus.tokens import Tokeniser
from celllm.model import Encoder, cell_embedding, load_gene_embeddings
from celllm.training.distributed import joined
from celllm.training.masked_batches import Batch
from celllm.training.objectives import hide_expressions
from celllm.training.settings import ModelRow, PretrainSettings
from celllm.training.trainer import Trainer

BATCHES = (64, 256, 512, 4096)
OBJECTIVES = ("mlm", "tumour", "contrast")


def read_cells(path: str, vocabulary: Vocabulary) -> CellsInMemory:
    with h5ad.opened(path) as data:
        return CellsInMemory(concatenate([tokens_of(x).ragged for x in blocks(data, vocabulary)]))


def make_batch(cells: CellsInMemory, n_cells: int, n_genes: int, longest: int, budget: int) -> Batch:
    """Random cells, some expressions hidden, in chunks of like length; half of them count as tumour cells."""
    rng, tokeniser = np.random.default_rng(0), Tokeniser(n_genes, max_length=longest)
    rows = rng.permutation(np.flatnonzero(cells.lengths))[:n_cells]
    chunks, places = [], length_buckets(tokeniser.lengths(cells)[rows], budget)
    for place in places:
        numbers = rng.integers(2**64, size=len(place), dtype=np.uint64)
        tumour = rng.integers(0, 2, len(place), dtype=np.uint8)
        chunks.append(hide_expressions(tokeniser(cells.take(rows[place])), numbers, tumour))
    return Batch(len(rows), [rows[place] for place in places], chunks, {})


def make_trainer(size: str, table: Tensor | None, n_genes: int, **settings: float) -> Trainer:
    torch.manual_seed(0)
    with joined("cpu") as processes:
        row = ModelRow(size=size)
        chosen = PretrainSettings(precision="float32", **settings)
        return Trainer(row, chosen, Encoder(row.encoder_config(n_genes), table), processes)


@torch.no_grad()
def two_views(trainer: Trainer, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
    """Each reading of all cells in both views, (n_cells, d)."""
    trainer.model.train()
    found: dict[str, list[list[Tensor]]] = {}
    for chunk in batch.chunks:
        for view in range(2):
            pooled, (cells, states) = trainer.encode(chunk)
            readings = {"pooled": pooled}
            readings |= {how: cell_embedding(states, cells.mask, how) for how in ("mean", "cls")}
            for name, value in readings.items():
                found.setdefault(name, [[], []])[view].append(value)
    return {name: (torch.cat(one), torch.cat(other)) for name, (one, other) in found.items()}


def losses(h: Tensor, h_plus: Tensor, temperature: float) -> tuple[Tensor, Tensor, dict[int, float]]:
    """Cosines of positives and of negatives, and InfoNCE at several sizes of the batch."""
    cosine = functional.normalize(h.double()) @ functional.normalize(h_plus.double()).T
    different = ~torch.eye(len(h), dtype=torch.bool)
    positives, negatives = cosine.diagonal(), cosine[different].view(len(h), -1)
    potential = ((negatives - positives[:, None]) / temperature).exp().mean(1)
    at = {n: float((1 + (n - 1) * potential).log().mean()) for n in sorted({len(h), *BATCHES})}
    return positives, negatives, at


def report(name: str, batch: Batch, readings: dict[str, tuple[Tensor, Tensor]], temperature: float) -> None:
    lengths = np.concatenate([chunk.mask.sum(1).numpy() for chunk in batch.chunks])
    print(f"{name}: {batch.n_cells} cells, median {int(np.median(lengths)) - 1} genes")
    for reading, views in readings.items():
        positives, negatives, at = losses(*views, temperature)
        spread = torch.quantile(negatives.flatten(), torch.tensor([0.5, 0.99], dtype=torch.float64))
        told = "  ".join(f"{n}: {loss:.2e}" for n, loss in at.items())
        print(
            f"  {reading:6s} positives {positives.mean():.3f} (least {positives.min():.3f}), negatives "
            f"{negatives.mean():.3f} (median {spread[0]:.3f}, 99 % below {spread[1]:.3f}); loss at {told}"
        )


def gradient_norms(trainer: Trainer, batch: Batch) -> dict[str, float]:
    """Norm of the encoder's gradient from each objective by itself: its weight alone is not nearly zero."""
    norms = {}
    for objective in OBJECTIVES:
        weights = {f"{name}_weight": 1.0 if name == objective else 1e-9 for name in OBJECTIVES}
        trainer.settings = PretrainSettings(precision="float32", **weights)
        torch.manual_seed(0)
        trainer.add_gradients(batch)
        parts = [p.grad.norm() for p in trainer.model.encoder.parameters() if p.grad is not None]
        norms[objective] = float(torch.stack(parts).norm())
        trainer.optimiser.zero_grad(set_to_none=True)
    return norms


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", required=True, help="NAME=h5ad.h5ad")
    parser.add_argument("--genes", required=True)
    parser.add_argument("--gene-embeddings", help="random ones without")
    parser.add_argument("--size", default="50m")
    parser.add_argument("--batch", type=int, default=64, help="cells of each data set")
    parser.add_argument("--longest", type=int, default=6000, help="genes of a cell, the highest of them")
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--gradients", action="store_true", help="norm of each objective's gradient")
    args = parser.parse_args()
    vocabulary = Vocabulary.read(args.genes)
    table = load_gene_embeddings(args.gene_embeddings, vocabulary.sha256) if args.gene_embeddings else None
    trainer = make_trainer(args.size, table, len(vocabulary), temperature=args.temperature)
    for name, path in (pair.split("=") for pair in args.cells):
        cells = read_cells(path, vocabulary)
        batch = make_batch(cells, args.batch, len(vocabulary), args.longest, budget=8192)
        report(name, batch, two_views(trainer, batch), args.temperature)
        if args.gradients:
            norms = gradient_norms(trainer, batch)
            print("  norm of the gradient: " + "  ".join(f"{k} {v:.2e}" for k, v in norms.items()))


if __name__ == "__main__":
    main()
