"""Seconds to draw all figures of a finished run from its files.

python benchmarks/figures.py results/toy
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from celllm.figures.attended_genes import run_figc1, run_figc2
from celllm.figures.confusion import run_confusion
from celllm.figures.fig4 import run_fig4
from celllm.figures.geometry import run_geometry_figure
from celllm.figures.loss_curves import run_loss_curves
from celllm.figures.scaling import run_scaling
from celllm.figures.tsne import run_embedding_map_figure


def calls(run: Path, out: Path) -> dict[str, Callable[[], None]]:
    """Figures of a run by name; those whose files are missing are left out."""
    made: dict[str, Callable[[], None]] = {}
    for path in sorted(run.glob("scores/annotation/*/celllm/strict.predictions.csv")):
        name = path.parts[-3]
        made[f"fig3_{name}"] = lambda p=path, n=name: run_confusion(p, {"data_set": n}, out / f"fig3_{n}")
    for path in sorted(run.glob("embeddings/*.csv")):
        name = path.stem
        made[f"tsne_{name}"] = lambda p=path, n=name: run_embedding_map_figure(
            p, out / f"tsne_{n}", {"data_set": n}
        )
    genes, cells = run / "interpretation/genes.csv", run / "interpretation/cells.csv"
    metrics = {p.parent.name: p for p in sorted(run.glob("checkpoints/*/metrics.csv"))}
    others: dict[str, tuple[Path, Callable[[], None]]] = {
        "fig4": (run / "memory.csv", lambda: run_fig4(run / "memory.csv", out / "fig4")),
        "figc1": (genes, lambda: run_figc1(genes, out / "figc1")),
        "figc2": (cells, lambda: run_figc2(cells, run / "facts/interpretation.json", out / "figc2")),
        "geometry": (
            run / "geometry.csv",
            lambda: run_geometry_figure(run / "geometry.csv", out / "geometry"),
        ),
        "scaling": (
            run / "tables/tableb2.csv",
            lambda: run_scaling(run / "tables/tableb2.csv", out / "scaling"),
        ),
        "loss_curves": (run / "checkpoints", lambda: run_loss_curves(metrics, out / "loss_curves")),
    }
    return made | {name: call for name, (path, call) in others.items() if path.exists()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, help="keep the figures there")
    options = parser.parse_args()
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, call in calls(options.run, options.out or Path(folder)).items():
            start = time.perf_counter()
            call()
            seconds[name] = round(time.perf_counter() - start, 2)
    print(json.dumps(seconds, indent=2))
    print(f"{len(seconds)} figures in {sum(seconds.values()):.1f} s (one process, imports included)")


if __name__ == "__main__":
    main()
