"""Tables beyond the paper."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from celllm.errors import UserError
from celllm.report.settings import RunLabel
from celllm.report.supplement import TABLES, read_supplement, run_supplement, within
from celllm.scores.columns import CONTRAST
from celllm.scores.scores import write_predictions, write_probabilities

MODELS = {
    "celllm": {"title": "CellLM"},
    "ridge": {"title": "Ridge", "group": "control"},
    "drug_mean": {"title": "Drug mean", "group": "control"},
    "frozen": {"title": "Frozen", "group": "ablation"},
}


def made(name: str, tmp_path: Path, **sources) -> pd.DataFrame:
    run_supplement(name, tmp_path / name, json.dumps(MODELS), settings=RunLabel(run="x"), **sources)
    for suffix in ("csv", "md", "tex", "html"):
        assert (tmp_path / f"{name}.{suffix}").stat().st_size > 0
    frame = pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False)
    return frame.set_index(["block", "title", "over", "column"])


def predictions(path: Path, predicted) -> Path:
    """Six lines, two drugs apart by 10, one split; the label of line i is drug + i."""
    rows = [
        (f"line{i}|{drug}|GDSC:1", "0", str(10.0 * d + i), str(predicted(d, i)))
        for d, drug in enumerate(("a", "b"))
        for i in range(6)
    ]
    write_predictions(path, rows)
    return path


def test_a_pooled_correlation_is_the_drugs_in_disguise(tmp_path: Path) -> None:
    files = {
        "response_cold/gdsc/drug_mean": predictions(tmp_path / "a.csv", lambda d, i: 10.0 * d + 2.5),
        "response_cold/gdsc/ridge": predictions(tmp_path / "b.csv", lambda d, i: 10.0 * d + i + (i % 2)),
        "response_cold/gdsc/celllm": predictions(tmp_path / "c.csv", lambda d, i: 10.0 * d - i),
    }
    frame = made("table_s2", tmp_path, predictions=files)["value"].astype(float)
    cold = "Cell-line drug response (cold start)"
    labels, means = [10.0 * d + i for d in (0, 1) for i in range(6)], [2.5] * 6 + [12.5] * 6
    assert frame[cold, "Drug mean", "Pooled", "Pearson"] == pytest.approx(np.corrcoef(labels, means)[0, 1])
    assert frame[cold, "Drug mean", "Pooled", "Pearson"] > 0.9
    assert frame[cold, "Drug mean", "Pearson", "mean over drugs"] == 0.0
    assert frame[cold, "Drug mean", "RMSE", "mean over drugs"] == pytest.approx(np.std(range(6)))
    shifted = np.corrcoef(range(6), [0, 2, 2, 4, 4, 6])[0, 1]
    assert frame[cold, "Ridge", "Pearson", "mean over drugs"] == pytest.approx(shifted)
    assert frame[cold, "CellLM", "Spearman", "mean over drugs"] == pytest.approx(-1.0)
    assert frame[cold, "CellLM", "", "drugs"] == 2
    block = read_supplement(tmp_path / "table_s2.csv", "x", False)["blocks"][0]
    assert [section["title"] for section in block["sections"]] == [
        "Rows of the paper",
        "Controls: no encoder of ours",
    ]


def test_quartiles_are_those_over_drugs(tmp_path: Path) -> None:
    """Two drugs, one with a correlation of 1 and one with -1: halfway between are the quartiles."""
    path = predictions(tmp_path / "p.csv", lambda d, i: float(i if d else -i))
    frame = made("table_s2", tmp_path, predictions={"response_cold/gdsc/ridge": path})
    for name in ("Pearson", "Spearman"):
        cells = frame.loc[("Cell-line drug response (cold start)", "Ridge", name)]
        assert float(cells.loc["quartiles", "value"]) == pytest.approx(1.0)
        assert cells.loc["quartiles", "text"] == "−0.50 to 0.50"


@pytest.mark.parametrize(("labels", "known"), [([1, 2, 3, 4, 5], True), ([1, 2, 3], False), ([1] * 5, False)])
def test_few_or_equal_pairs_have_no_correlation(labels: list[int], known: bool) -> None:
    part = pd.DataFrame({"label": np.array(labels, float), "predicted": np.arange(len(labels), dtype=float)})
    assert np.isfinite(within(part)).all() == known


def test_a_model_without_predictions_says_so(tmp_path: Path) -> None:
    write_predictions(tmp_path / "none.csv", [])
    frame = made("table_s2", tmp_path, predictions={"response_warm/gdsc/ridge": tmp_path / "none.csv"})
    assert frame["reason"].tolist() == ["no predictions"]


def test_contrast_beside_score_and_geometry(tmp_path: Path, score_file) -> None:
    scores = score_file({("celllm", "baron", "strict", "macro_f1"): [0.5, 0.7]})
    contrast = tmp_path / "contrast.csv"
    lines = [
        ",".join(CONTRAST),
        "celllm,divide_and_conquer,pooled,0.05,2,3.46574,0.026,0.001,99,baron,mean,32,9,0.9,-0.5,0.01,8",
        "celllm,divide_and_conquer,pooled,0.05,2,3.46574,0.026,0.001,99,baron,cls,32,9,0.9,-0.4,0.02,4",
        "frozen,none,,,1,,,,99,baron,mean,32,9,0.9,-0.3,0.01,16",
    ]
    contrast.write_text("\n".join(lines) + "\n")
    frame = made("table_s1", tmp_path, scores=[scores], contrast=contrast)["text"]
    of_row = frame["Pre-trained rows", "CellLM"]
    assert of_row["Contrast", "on"] == "pooled, τ = 0.05"
    assert [of_row["Loss of the contrast", name] for name in ("ignorant", "start", "end")] == [
        "3.5", "0.026", "0.001",
    ]  # fmt: skip
    assert of_row["macro F1 (%)", "Baron"] == "60.0 ± 14.1"
    assert of_row["Uniformity", "Baron"] == "−0.500"
    assert of_row["Effective rank / dim (%)", "Baron"] == "25.0"
    without = frame["Pre-trained rows", "Frozen"]
    assert (without["Contrast", "on"], without["Loss of the contrast", "start"]) == ("none", "")
    assert "trained without contrast" in Path(tmp_path / "table_s1.md").read_text()


def test_classes_one_by_one(tmp_path: Path) -> None:
    truth = ["beta"] * 4 + ["alpha"] * 2 + ["new"]
    found = ["beta"] * 3 + ["alpha"] * 3 + ["beta"]
    rows = [(f"c{i}", str(i % 2), a, b) for i, (a, b) in enumerate(zip(truth, found, strict=True))]
    write_predictions(tmp_path / "p.csv", rows)
    certain = np.array([[float(a == name) for name in ("alpha", "beta", "new")] for a in found])
    write_probabilities(tmp_path / "p.csvprobabilities.npz", ["alpha", "beta", "new"], 0.7 * certain + 0.1)
    frame = made("table_s4", tmp_path, predictions={"annotation/baron/celllm": tmp_path / "p.csv"})["value"]
    calibration = frame["Baron: calibration", "CellLM"].astype(float)
    assert calibration["Likeliest class", "accuracy"] == pytest.approx(500 / 7)
    assert calibration["Likeliest class", "mean probability"] == pytest.approx(80, rel=1e-6)
    of_splits = abs(3 / 4 - 0.8), abs(2 / 3 - 0.8)  # cells 0, 2, 4, 6 and 1, 3, 5
    assert calibration["Likeliest class", "calibration error"] == pytest.approx(50 * sum(of_splits), rel=1e-5)
    assert calibration["Splits", "one class only"] == 0
    assert calibration["All classes", "Brier score"] == pytest.approx(
        (5 * (0.2**2 + 2 * 0.1**2) + 2 * (0.8**2 + 0.9**2 + 0.1**2)) / 7, rel=1e-5
    )
    frame = frame.drop("Baron: calibration")
    assert list(dict.fromkeys(frame.index.get_level_values("title"))) == [
        "Alpha (2 cells)", "Beta (4 cells)", "new (1 cells)",
    ]  # fmt: skip
    beta = frame["Baron", "Beta (4 cells)", "CellLM"].astype(float)
    assert beta.to_dict() == {"precision": 75.0, "recall": 75.0, "F1": 75.0}
    assert float(frame["Baron", "new (1 cells)", "CellLM", "F1"]) == 0.0


def test_probabilities_of_other_predictions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "strict.predictions.csv"
    write_predictions(path, [("c", "0", "a", "a"), ("d", "0", "b", "a")])
    write_probabilities(tmp_path / "strict.probabilities.npz", ["a", "b"], np.full((3, 2), 0.5))
    with pytest.raises(UserError, match="2 predictions, 3 rows of probabilities beside it"):
        made("table_s4", tmp_path, predictions={"annotation/baron/ridge": path})
    write_probabilities(tmp_path / "strict.probabilities.npz", [], np.empty((2, 0)))
    assert made("table_s4", tmp_path, predictions={"annotation/baron/ridge": path}).empty


def test_cost_stands_beside_the_score(tmp_path: Path, score_file) -> None:
    failed = {("ridge", "baron", "strict", "macro_f1"): {0: ("failed", "no room")}}
    path = score_file({("celllm", "baron", "strict", "macro_f1"): [0.5, 0.7]}, failed)
    frame = made("table_s5", tmp_path, scores=[path])
    row = frame["text"]["Cell annotation", "CellLM", "Baron"]
    assert row.to_dict() == {"macro F1": "60.0 ± 14.1", "seconds": "1.0", "peak GiB": "0.01"}
    assert frame["reason"]["Cell annotation", "Ridge", "Baron", "macro F1"] == "no room"


def test_tasks_that_the_paper_lacks(tmp_path: Path, score_file) -> None:
    values = {("celllm", "baron", "strict", "macro_f1"): [0.5, 0.7]}
    held = {("celllm", "baron", "strict", "macro_f1"): [0.2, 0.3]}
    failed = {("ridge", "baron", "strict", "macro_f1"): {0: ("failed", "no room")}}
    paths = [score_file(values, name="mixed"), score_file(held, failed, task="annotation_donor")]
    second = pd.read_csv(paths[0], keep_default_na=False).assign(seed=1, value=0.9)
    second.to_csv(tmp_path / "seed1.csv", index=False)  # of a pre-training that the other has no score of
    frame = made("table_s3", tmp_path, scores=[*paths, tmp_path / "seed1.csv"])
    where = ("Cell annotation, donors held out", "CellLM", "Baron macro F1")
    ridge = ("Cell annotation, donors held out", "Ridge", "Baron macro F1", "held out")
    assert frame["text"].to_dict() == {
        (*where, "held out"): "25.0 ± 7.1", (*where, "mixed"): "60.0 ± 14.1", ridge: "",
    }  # fmt: skip
    assert frame.loc[ridge, "reason"] == "no room"
    run_supplement("table_s3", tmp_path / "table_s3", MODELS, scores=[paths[0]], settings=RunLabel())
    assert "This run has nothing for this table." in (tmp_path / "table_s3.html").read_text()
    assert read_supplement(tmp_path / "table_s3.csv", "x", True)["blocks"] == []


def test_several_seeds_are_told_from_several_splits(tmp_path: Path, score_file) -> None:
    path = score_file({("celllm", "baron", "strict", "macro_f1"): [0.5, 0.7]})
    pd.read_csv(path, keep_default_na=False).assign(seed=1).to_csv(tmp_path / "seed1.csv", index=False)
    frame = made("table_s5", tmp_path, scores=[path, tmp_path / "seed1.csv"])
    text = frame.loc[("Cell annotation", "CellLM", "Baron", "macro F1"), "text"]
    assert text == "60.0 ± 14.1 (seeds ± 0.0)"


def permuted(path: Path, leak: float) -> Path:
    """Five splits of 200 cells of two classes; a share of the answers is given away."""
    rng, rows = np.random.default_rng(0), []
    for split in range(5):
        truth = rng.choice(["a", "b"], 200, p=[0.7, 0.3])
        found = np.where(rng.random(200) < leak, truth, rng.permutation(truth))
        rows += [(f"c{i}", str(split), *pair) for i, pair in enumerate(zip(truth, found, strict=True))]
    write_predictions(path, rows)
    return path


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_permuted_labels_are_at_chance_or_there_is_a_leak(tmp_path: Path, score_file, leak: float) -> None:
    files = {"annotation/baron/permuted": permuted(tmp_path / "p.csv", leak)}
    inside = [leak + v for v in (0.02, -0.05, 0.04, -0.01, 0.01)]
    values = {("permuted", "gdsc_ccle", "strict", "pearson_within_drug"): inside}
    path = score_file(values, task="response_warm")
    frame = made("table_s6", tmp_path, predictions=files, scores=[path])
    block = "Permuted labels against chance"
    cells = frame.loc[(block, "Cell annotation, Baron: accuracy", "")]
    assert cells.loc["leak", "text"] == ("above chance" if leak else "none found")
    assert (float(cells.loc["p (Holm)", "value"]) < 0.01) == bool(leak)
    assert float(cells.loc["chance", "value"]) == pytest.approx(0.7**2 + 0.3**2, abs=0.03)
    assert float(cells.loc["above chance", "value"]) == pytest.approx(0.42 * leak, abs=0.04)
    cells = frame.loc[
        (block, "Cell-line drug response (warm start), GDSC and CCLE: Pearson within drugs", "")
    ]
    error = np.std(inside, ddof=1) / 5**0.5  # independent deals: no correction for cells that splits share
    p = 2 * stats.t.sf(np.mean(inside) / error, 4)
    assert float(cells.loc["standard errors", "value"]) == pytest.approx(stats.norm.isf(p / 2))
    low, high = np.mean(inside) - 2.7764 * error, np.mean(inside) + 2.7764 * error
    assert cells.loc["95 % interval", "text"] == f"{low:.3f} to {high:.3f}".replace("-", "−")


def test_names_of_data_sets_are_those_that_readers_know(tmp_path: Path, score_file) -> None:
    paths = [
        score_file(
            {("ridge", "gdsc_ccle", "strict", "pearson"): [0.5, 0.6]}, task="response_tissue", name="a"
        ),
        score_file({("ridge", "gdsc_ccle", "strict", "pearson"): [0.7, 0.8]}, task="response_cold", name="b"),
        score_file({("ridge", "gse117872", "strict", "f1"): [0.7, 0.8]}, task="drug_patient", name="c"),
        score_file({("ridge", "lung", "strict", "f1"): [0.7, 0.8]}, task="drug_full", name="d"),
    ]
    text = "".join(
        " ".join(made(name, tmp_path, scores=paths).index.get_level_values(2))
        for name in ("table_s3", "table_s5")
    )
    assert "GDSC and CCLE Pearson" in text and "GSE117872 F1" in text and "lung" in text
    assert "gdsc_ccle" not in text and "gse117872" not in text
    # Lines are new either way where tissues are held out: beside them stand new lines of all tissues.
    mixed = made("table_s3", tmp_path, scores=paths)["text"].xs("mixed", level="column")
    assert mixed.to_list() == ["0.750 ± 0.071"]


def test_unknown_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such table of the supplement; known are table_s1, "):
        run_supplement("table_s9", tmp_path / "x", MODELS, settings=RunLabel())
    assert list(TABLES) == [f"table_s{n}" for n in range(1, 7)]
