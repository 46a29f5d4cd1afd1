r"""How hard the contrast is for an encoder that has learnt nothing: InfoNCE of measured cells, as Markdown.

    python benchmarks/contrast_at_start.py --cells baron=prepared/baron.h5ad --genes genes.tsv \
        --gene-embeddings graph/gene_embeddings_512.safetensors

Random cells of each data set go through an untrained encoder twice, as in pre-training: same hidden tokens,
other dropout masks. Their final states are read in several ways: pooled over genes as the paper says, each
gene's number at its place among all genes or in the order of the cell, with ReLU behind the convolution or
without, by the head of every seed; the mean over genes; [CLS]. Printed are the cosines of the two views of
one cell and of different cells, and the loss at ``--batch`` cells for each temperature: a cell's negatives
are then as many more of the same kind. Numbers are means over the seeds of the head, with least and largest.
``--gradients`` prints the norm of the gradient that each objective gives the encoder, by temperature.
"""

import argparse
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from celllm.cells import h5ad
from celllm.cells.genes import Vocabulary
from celllm.corpus.batches import length_buckets
from celllm.corpus.expressed import CellsInMemory, blocks, concatenate, tokens_of
from celllm.corpus.tokens import Tokeniser
from celllm.graph.embeddings import load_gene_embeddings
from celllm.model.encoder import Encoder
from celllm.model.heads import ContrastPooling, cell_embedding
from celllm.training.distributed import joined
from celllm.training.masked_batches import Batch
from celllm.training.objectives import hide_expressions
from celllm.training.settings import ModelRow, PretrainSettings
from celllm.training.trainer import Trainer

TEMPERATURES = (0.05, 0.1, 0.2, 1.0)
OBJECTIVES = ("mlm", "tumour", "contrast")
Views = tuple[Tensor, Tensor]


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


def make_trainer(size: str, table: Tensor | None, n_genes: int, settings: PretrainSettings) -> Trainer:
    torch.manual_seed(0)
    row = ModelRow(size=size, cls_vector="trained" if table is None else "ones")
    with joined("cpu") as processes:
        return Trainer(row, settings, Encoder(row.encoder_config(n_genes), table), processes)


@torch.no_grad()
def two_views(encoder: Encoder, batch: Batch, n_seeds: int) -> dict[str, list[Views]]:
    """Each reading of all cells in both views, (n_cells, d), for every seed of a head."""
    encoder.train()
    found: dict[str, list[tuple[list[Tensor], list[Tensor]]]] = {}
    n_genes, dim = encoder.config.n_genes, encoder.config.dim
    for chunk in batch.chunks:
        order = torch.where(chunk.mask, chunk.mask.cumsum(1) - 1, n_genes + 1)
        places = {"its gene": chunk.gene_ids, "the order": order}
        for view in range(2):
            states = encoder(chunk.gene_ids, chunk.bins, chunk.mask)
            for seed in range(n_seeds):
                torch.manual_seed(seed)
                head = ContrastPooling(n_genes, dim)
                for place, ids in places.items():
                    for activation in ("none", "relu"):
                        head.pooling.activation = activation
                        name = f"pooled, places by {place}{', ReLU' if activation == 'relu' else ''}"
                        put(found, name, seed, view, head(states, ids, chunk.mask))
            for how, name in (("mean", "mean over genes"), ("cls", "[CLS]")):
                put(found, name, 0, view, cell_embedding(states, chunk.mask, how))
    return {name: [(torch.cat(a), torch.cat(b)) for a, b in seeds] for name, seeds in found.items()}


def put(
    found: dict[str, list[tuple[list[Tensor], list[Tensor]]]], name: str, seed: int, view: int, x: Tensor
) -> None:
    seeds = found.setdefault(name, [])
    if len(seeds) == seed:
        seeds.append(([], []))
    seeds[seed][view].append(x)


def cosines(h: Tensor, h_plus: Tensor) -> Views:
    """Of the two views of a cell, (n,), and of each cell with all others, (n, n - 1)."""
    cosine = functional.normalize(h.double()) @ functional.normalize(h_plus.double()).T
    different = ~torch.eye(len(h), dtype=torch.bool)
    return cosine.diagonal(), cosine[different].view(len(h), -1)


def info_nce(positives: Tensor, negatives: Tensor, temperature: float, n: int) -> float:
    """The loss in a batch of ``n`` cells whose negatives are spread as these."""
    potential = ((negatives - positives[:, None]) / temperature).exp().mean(1)
    return float((1 + (n - 1) * potential).log().mean())


def shown(values: list[float]) -> str:
    mean = f"{np.mean(values):.2g}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2g} to {max(values):.2g})"


def report(name: str, batch: Batch, readings: dict[str, list[Views]], n: int) -> None:
    lengths = np.concatenate([chunk.mask.sum(1).numpy() for chunk in batch.chunks])
    print(f"\n{name}: {batch.n_cells} cells of {int(np.median(lengths)) - 1} genes at the median")
    temperatures = " | ".join(f"τ = {t:g}" for t in TEMPERATURES)
    print(f"\n| what is compared | cosine: same cell | other cells | loss at T = {n}, {temperatures} |")
    print("|---" * (3 + len(TEMPERATURES)) + "|")
    for reading, seeds in readings.items():
        pairs = [cosines(*views) for views in seeds]
        losses = [shown([info_nce(*pair, t, n) for pair in pairs]) for t in TEMPERATURES]
        means = [f"{np.mean([float(pair[i].mean()) for pair in pairs]):.3f}" for i in range(2)]
        print(f"| {reading} | {' | '.join(means)} | {' | '.join(losses)} |")
    print(f"| ln T, of knowing nothing | | | {' | '.join([f'{math.log(n):.2f}'] * len(TEMPERATURES))} |")


def gradient_norm(trainer: Trainer, batch: Batch) -> float:
    """Of the encoder."""
    torch.manual_seed(0)
    trainer.add_gradients(batch)
    parts = [p.grad.norm() for p in trainer.model.encoder.parameters() if p.grad is not None]
    return float(torch.stack(parts).norm())


def alone(objective: str, temperature: float = 1.0) -> PretrainSettings:
    """Settings under which an objective is nearly all of the loss; weights are more than 0."""
    weights = {f"{name}_weight": 1.0 if name == objective else 1e-9 for name in OBJECTIVES}
    return PretrainSettings(precision="float32", temperature=temperature, **weights)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", required=True, help="NAME=h5ad.h5ad")
    parser.add_argument("--genes", required=True)
    parser.add_argument("--gene-embeddings", help="random ones without")
    parser.add_argument("--size", default="50m")
    parser.add_argument("--n-cells", type=int, default=24, help="of each data set")
    parser.add_argument("--batch", type=int, default=512, help="T, at which the loss is printed")
    parser.add_argument("--seeds", type=int, default=5, help="of the pooling head")
    parser.add_argument("--longest", type=int, default=6000, help="tokens of a cell: its highest genes")
    parser.add_argument("--gradients", action="store_true", help="norms of the gradients instead")
    args = parser.parse_args()
    vocabulary = Vocabulary.read(args.genes)
    table = load_gene_embeddings(args.gene_embeddings, vocabulary.sha256) if args.gene_embeddings else None
    alike = {f"contrast, τ = {t:g}": alone("contrast", t) for t in TEMPERATURES}
    alike |= {"masked expressions": alone("mlm"), "tumour or normal": alone("tumour")}
    for name, path in (pair.split("=") for pair in args.cells):
        batch = make_batch(read_cells(path, vocabulary), args.n_cells, len(vocabulary), args.longest, 8192)
        if args.gradients:
            trainers = {k: make_trainer(args.size, table, len(vocabulary), s) for k, s in alike.items()}
            norms = [f"{k}: {gradient_norm(trainer, batch):.2g}" for k, trainer in trainers.items()]
            print(f"{name}, {batch.n_cells} cells: {'  '.join(norms)}")
        else:
            encoder = make_trainer(args.size, table, len(vocabulary), alone("mlm")).model.encoder
            report(name, batch, two_views(encoder, batch, args.seeds), args.batch)


if __name__ == "__main__":
    main()
