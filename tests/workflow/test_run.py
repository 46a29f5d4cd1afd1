"""The whole graph of jobs, as a user runs it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from celllm.config import load
from celllm.evaluation import scores

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
NEURAL = ["scbert", "celllm_wo_cl", "celllm_moco", "celllm"]


@pytest.fixture(scope="module")
def toy(snakemake, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "zwei Wörter"
    done = snakemake(folder, "--", "all")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return folder


@pytest.fixture(scope="module")
def measured(snakemake, mirror, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    done = snakemake(folder, "--", "all", mirror=str(mirror))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return folder / f"results/toy-{mirror.name}"


def table1(results: Path) -> pd.DataFrame:
    return pd.read_csv(results / "tables/table1.csv")


def score_files(results: Path, protocol: str = "*") -> list[Path]:
    found = sorted(results.glob(f"scores/annotation/*/*/{protocol}.csv"))
    return [path for path in found if not path.name.endswith(".predictions.csv")]


def check_complete(results: Path) -> None:
    """Nine models x two data sets x three metrics x two protocols, each from five folds, no cell empty."""
    config = load(ROOT / "config/toy.yaml")
    found = scores.read_many(score_files(results))
    ok = found[found["status"] == "ok"]
    counts = ok.groupby(["model", "data_set", "protocol", "metric"])["split"].nunique()
    assert len(counts) == 9 * 2 * 2 * 3
    assert (counts == 5).all()
    assert set(ok["model"]) == set(config["annotation"]["models"])
    table = table1(results)
    ours = table[table["model"].isin(config["annotation"]["models"])]
    assert len(ours) == 9 * 2 * 2 * 3
    assert (ours["mean"].notna() | ours["reason"].fillna("").str.len().gt(0)).all()
    for suffix in ("csv", "md", "tex", "html"):
        assert (results / f"tables/table1.{suffix}").stat().st_size > 0
    for name in ("fig3_zheng68k", "fig3_baron"):
        assert (results / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (results / f"figures/{name}.svg").read_text()[:1000]
    assert set(pd.read_csv(results / "claims.csv")["verdict"]) & {"not comparable: toy"}
    for number in (1, 2, 3):
        assert (results / f"tables/tabled{number}.md").stat().st_size > 0
    assert json.loads((results / "leakage.json").read_text())
    assert json.loads((results / "complete.json").read_text())
    manifest = json.loads((results / "manifest.json").read_text())
    assert manifest["packages"]["torch"]


def beats_majority(results: Path, model: str) -> None:
    found = scores.read_many(score_files(results, "strict"))
    means = found.groupby(["data_set", "metric", "model"])["value"].mean().unstack("model")
    assert (means[model] > means["majority"]).all(), means[[model, "majority"]]


def test_toy_run_is_complete(toy: Path) -> None:
    check_complete(toy / "results/toy")
    assert "toy" in (toy / "results/toy/tables/table1.md").read_text().splitlines()[0].lower()


@pytest.mark.parametrize("model", ["logistic_regression", "celllm"])
def test_toy_models_beat_the_majority(toy: Path, model: str) -> None:
    beats_majority(toy / "results/toy", model)


def test_second_run_does_nothing(toy: Path, snakemake) -> None:
    again = snakemake(toy, "--", "all")
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr


def test_one_changed_value_reruns_what_depends_on_it(toy: Path, snakemake, tmp_path: Path) -> None:
    overlay = tmp_path / "changed.yaml"
    overlay.write_text("annotation: {finetuning: {learning_rate: 0.0015}}\n")
    plan = snakemake(toy, "-n", "--configfile", str(ROOT / "config/toy.yaml"), str(overlay), "--", "all")
    assert plan.returncode == 0, plan.stderr[-3000:]
    rules = planned(plan.stdout + plan.stderr)
    assert rules["annotate"] == len(NEURAL) * 2 * 2
    assert set(rules) == {"annotate", "table", "claims", "confusion", "manifest", "report", "gate", "all"}


def planned(text: str) -> dict[str, int]:
    """Rules of a dry run and how many jobs each has, from its table of job counts."""
    lines = text[text.rindex("Job stats:") :].splitlines()[3:]
    table = [
        line.split() for line in lines[: next(i for i, line in enumerate(lines) if line.startswith("total"))]
    ]
    return {rule: int(count) for rule, count in table}


@pytest.mark.mirror
def test_run_on_measured_cells_is_complete(measured: Path) -> None:
    check_complete(measured)


@pytest.mark.mirror
@pytest.mark.parametrize("model", ["logistic_regression", "celllm"])
def test_models_beat_the_majority_on_measured_cells(measured: Path, model: str) -> None:
    beats_majority(measured, model)


@pytest.mark.mirror
def test_logistic_regression_reaches_its_reference_on_measured_cells(measured: Path) -> None:
    """Macro-F1 and accuracy of pooled predictions as measured beforehand on these cells, within 0.03."""
    from sklearn.metrics import accuracy_score, f1_score

    for data_set, macro_f1, accuracy in (("zheng68k", 0.698, 0.835), ("baron", 0.974, 0.983)):
        path = measured / f"scores/annotation/{data_set}/logistic_regression/strict.predictions.csv"
        frame = pd.read_csv(path)
        assert f1_score(frame["label"], frame["predicted"], average="macro") == pytest.approx(
            macro_f1, abs=0.03
        )
        assert accuracy_score(frame["label"], frame["predicted"]) == pytest.approx(accuracy, abs=0.03)
