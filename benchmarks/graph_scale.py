"""Cost of the gene network and of GraphMAE at STRING's size, on a made-up network.

    python benchmarks/graph_scale.py links                # reads 11.8 M links
    python benchmarks/graph_scale.py training --dim 512   # 19,283 genes, 650 k directed edges
    python benchmarks/graph_scale.py prediction --dim 512 --epochs 30

``links`` prints rows per second and peak memory; ``training`` prints seconds per epoch, peak memory, the time
of the default number of epochs, and the seconds per edge at full size over those at a tenth (1.0 = linear);
``prediction`` trains on nine tenths of the edges and prints the AUC on the rest, beside simpler methods.
"""

import argparse
import gzip
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from celllm.graph.graphmae import GraphMAESettings, embed_genes
from celllm.probes.link_prediction import LinkPredictionSettings, score_methods
from celllm.graph.network import GeneNetwork, read_links

PROTEINS, STRING_ROWS = 19_354, 11_759_454
ROWS_AT_ONCE = 200_000


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_links(path: Path, n_rows: int) -> None:
    """Write random links of STRING's form: 5.5 % of them above 900."""
    rng = np.random.default_rng(0)
    names = np.array([f"9606.ENSP{i:011}" for i in range(PROTEINS)])
    with gzip.open(path, "wt", compresslevel=1) as out:
        out.write("protein1 protein2 combined_score\n")
        for start in range(0, n_rows, ROWS_AT_ONCE):
            n = min(ROWS_AT_ONCE, n_rows - start)
            ends, strong = rng.integers(PROTEINS, size=(2, n)), rng.random(n) < 0.055
            scores = np.where(strong, rng.integers(901, 1000, n), rng.integers(150, 901, n))
            out.writelines(map("{} {} {}\n".format, *names[ends].tolist(), scores.tolist()))


def measure_links(n_rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "links.txt.gz"
        write_links(path, n_rows)
        before, start = peak_mib(), time.perf_counter()
        proteins = {f"9606.ENSP{i:011}": i for i in range(PROTEINS)}
        network = read_links(path, proteins, PROTEINS, "", 900)
        seconds = time.perf_counter() - start
    print(f"{n_rows} links, {network.n_edges} edges: {seconds:.1f} s, {n_rows / seconds:.0f} rows/s")
    print(f"peak memory {peak_mib():.0f} MiB ({before:.0f} before reading)")


def made_up_network(n_genes: int, n_edges: int) -> GeneNetwork:
    """Groups of 100 genes with most of the links, a few hubs: 45 % of the genes have none, as in STRING."""
    rng = np.random.default_rng(0)
    genes = rng.permutation(n_genes)[: int(0.55 * n_genes)]
    weight = rng.pareto(1.5, len(genes)) + 1
    source = rng.choice(len(genes), 2 * n_edges, p=weight / weight.sum())
    near = np.minimum(source // 100 * 100 + rng.integers(0, 100, len(source)), len(genes) - 1)
    target = np.where(rng.random(len(source)) < 0.8, near, rng.integers(len(genes), size=len(source)))
    low, high = np.sort(genes[np.stack([source, target])], axis=0).astype(np.int64)
    keys = rng.permutation(np.unique((low * n_genes + high)[low != high]))[:n_edges]
    low, high = (part.astype(np.int32) for part in np.divmod(np.sort(keys), n_genes))
    return GeneNetwork(low, high, np.full(len(low), 950, np.int32), n_genes, "")


def seconds_per_epoch(network: GeneNetwork, dim: int, epochs: int) -> float:
    """Mean over the epochs after the first."""
    _, record = embed_genes(network, GraphMAESettings(dim=dim, epochs=epochs + 1))
    return (record[-1].seconds - record[0].seconds) / epochs


def measure_training(n_genes: int, n_edges: int, dim: int, epochs: int) -> None:
    small = made_up_network(n_genes // 10, n_edges // 10)
    tenth = seconds_per_epoch(small, dim, epochs) / small.n_edges
    network = made_up_network(n_genes, n_edges)
    start = time.perf_counter()
    full = seconds_per_epoch(network, dim, epochs)
    rest = time.perf_counter() - start - (epochs + 1) * full
    planned = GraphMAESettings().epochs
    print(
        f"{n_genes} genes, {2 * network.n_edges} directed edges, dim {dim}, {torch.get_num_threads()} threads"
    )
    print(f"{full:.2f} s per epoch; features and embedding {rest:.1f} s; peak memory {peak_mib():.0f} MiB")
    print(f"{planned} epochs: {(planned * full + rest) / 60:.1f} min")
    print(f"seconds per edge, full size / tenth: {full / network.n_edges / tenth:.2f}")


def measure_prediction(n_genes: int, n_edges: int, dim: int, epochs: int) -> None:
    start = time.perf_counter()
    chosen = LinkPredictionSettings(graphmae={"dim": dim, "epochs": epochs})
    scores = score_methods(made_up_network(n_genes, n_edges), chosen)
    print(f"{n_genes} genes, {2 * n_edges} directed edges, a tenth held out, dim {dim}, {epochs} epochs")
    for score in scores:
        print(f"  AUC {score.auc:.3f}  {score.method} ({score.score}), non-links {score.non_links}")
    print(f"{time.perf_counter() - start:.0f} s, peak memory {peak_mib():.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["links", "training", "prediction"])
    parser.add_argument("--rows", type=int, default=STRING_ROWS)
    parser.add_argument("--genes", type=int, default=19_283)
    parser.add_argument("--edges", type=int, default=324_152, help="undirected")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=3, help="epochs to time, or of the training")
    given = parser.parse_args()
    if given.part == "links":
        measure_links(given.rows)
    elif given.part == "prediction":
        measure_prediction(given.genes, given.edges, given.dim, given.epochs)
    else:
        measure_training(given.genes, given.edges, given.dim, given.epochs)


if __name__ == "__main__":
    main()
