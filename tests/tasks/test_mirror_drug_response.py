"""Reference figures on measured cell lines: a leak, or a fault of a reader, would move them."""

from pathlib import Path

import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from celllm import methods
from celllm.cells.genes import run_genes
from celllm.cells.prepare import run_prepare
from celllm.cells.responses import read_responses, run_responses
from celllm.corpus.splits import pair_folds
from celllm.io import read_yaml
from celllm.scores import scores
from celllm.tasks.drug_response import DrugResponse
from celllm.tasks.runner import Runner
from celllm.tasks.score import run_score, run_splits
from tests.places import ROOT

# Pearson correlation over all test pairs, mean of five splits: CCLE's 460 lines x DeepCDR's pairs.
WARM = {
    "drug_mean": 0.845,
    "drug_mean_line_mean": 0.882,
    "ridge_by_drug": 0.873,
    "line_mean_ridge_by_drug": 0.897,
}
COLD = {"drug_mean": 0.845, "ridge_by_drug": 0.873, "shuffled_ridge_by_drug": 0.843}


@pytest.fixture(scope="module")
def screen(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared expression, responses and splits."""
    folder = tmp_path_factory.mktemp("screen")
    (hgnc,) = (mirror / "hgnc").glob("hgnc_complete_set_*.txt")
    run_genes(hgnc, folder / "genes.tsv", folder / "aliases.tsv")
    rows = read_yaml(ROOT / "config/data_sets.yaml")
    files = {
        data_set: {name: mirror / file["path"] for name, file in rows[data_set]["files"].items()}
        for data_set in ("ccle", "gdsc")
    }
    genes = folder / "genes.tsv", folder / "aliases.tsv"
    run_prepare("ccle", files["ccle"], *genes, rows["ccle"]["options"], folder / "ccle.h5ad")
    run_responses("gdsc", files["gdsc"], rows["gdsc"]["options"], folder / "gdsc.csv")
    for kind in ("warm", "cold"):
        out = folder / f"{kind}.json"
        run_splits(f"response_{kind}", folder / "ccle.h5ad", "gdsc_ccle", out, folder / "gdsc.csv")
    return folder


def pearson(screen: Path, folder: Path, kind: str, method: str) -> float:
    run_score(
        cells=screen / "ccle.h5ad",
        responses=screen / "gdsc.csv",
        data_set="gdsc_ccle",
        genes=screen / "genes.tsv",
        splits=[screen / f"{kind}.json"],
        model={"name": method, "kind": "baseline"},
        protocols=["strict"],
        out=folder,
    )
    frame = scores.read_many([folder / f"response_{kind}/gdsc_ccle/{method}/strict.csv"])
    assert set(frame["status"]) == {"ok"}
    values: pd.Series[float] = frame.loc[frame["metric"] == "pearson", "value"]
    assert len(values) == 5
    return float(values.mean())


@pytest.mark.mirror
@pytest.mark.slow
def test_the_screen_is_the_one_that_was_counted(screen: Path) -> None:
    data = DrugResponse.read(screen / "ccle.h5ad", screen / "gdsc.csv")
    assert len(data.pairs) == 89_288
    assert (len(data.pairs.screen.lines), len(data.pairs.screen.drugs)) == (460, 223)


@pytest.mark.mirror
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "method", "expected"),
    [("warm", "drug_mean", 0.848), ("cold", "drug_mean", 0.848), ("warm", "drug_mean_line_mean", 0.885)],
)
def test_means_on_all_pairs_of_deepcdr(screen: Path, kind: str, method: str, expected: float) -> None:
    """Of 107,446 pairs of 561 lines: what looks at no expression needs none."""
    lines = pd.Index(sorted(set(read_responses(screen / "gdsc.csv")["cell_line"])))
    data = DrugResponse.join(csr_matrix((len(lines), 1)), pd.DataFrame(index=lines), screen / "gdsc.csv")
    assert (len(data.pairs), len(lines)) == (107_446, 561)
    chosen = methods.look_up(method, methods.PAIRS)
    runner = Runner(chosen, chosen.settings(), 0)
    found = [
        data.measure(fold.test, runner.fitted(data, fold, 0, "both", "", {}).predicted.values)
        for fold in pair_folds(data.lines.tolist(), data.drugs.tolist(), kind, n_repeats=5, seed=0)
    ]
    assert sum(values["pearson"] for values in found) / 5 == pytest.approx(expected, abs=0.01)


@pytest.mark.mirror
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "method"), [("warm", method) for method in WARM] + [("cold", method) for method in COLD]
)
def test_controls_on_measured_cell_lines(screen: Path, tmp_path: Path, kind: str, method: str) -> None:
    expected = {"warm": WARM, "cold": COLD}[kind][method]
    assert pearson(screen, tmp_path, kind, method) == pytest.approx(expected, abs=0.01)


@pytest.mark.mirror
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "method", "least", "most"),
    [
        ("tissue", "ridge_by_drug", 0.83, 0.90),
        ("tissue", "drug_mean", 0.82, 0.86),
        ("drug", "ridge", -0.2, 0.5),
    ],
)
def test_tissues_and_drugs_held_out(
    screen: Path, tmp_path: Path, kind: str, method: str, least: float, most: float
) -> None:
    """Tissues cost next to nothing where the drug's mean is most of the score; drugs cost most of it."""
    settings = {"group": kind, "n_folds": 5, "validation": "groups"}
    out = screen / f"{kind}.json"
    run_splits(f"response_{kind}", screen / "ccle.h5ad", "gdsc_ccle", out, screen / "gdsc.csv", settings)
    assert least < pearson(screen, tmp_path, kind, method) < most
