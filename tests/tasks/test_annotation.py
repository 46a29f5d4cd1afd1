import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from celllm import methods
from celllm.cells import h5ad
from celllm.cells.genes import Vocabulary
from celllm.corpus.splits import read_splits
from celllm.errors import UserError
from celllm.methods.controls import fit_majority
from celllm.methods.method import Method, NotApplicableError, Part, Predict
from celllm.methods.settings import NoSettings
from celllm.model.weights import save_failure
from celllm.scores import metrics, scores
from celllm.tasks import runner
from celllm.tasks.annotation import Annotation
from celllm.tasks.protocols import STRICT, LeakError
from celllm.tasks.score import run_score
from tests.tasks.conftest import SIZE, Files

CLASSES = ("B cell", "NK, dim", "T cell")
QUICK = {"epochs": 8, "accumulation": 1, "learning_rate": 0.005, "precision": "float32"}
CELLLM = {"name": "celllm", "kind": "encoder", "size": SIZE, "title": "CellLM"}
UNTRAINED = {**CELLLM, "name": "random_init", "pretrained": False}


def trained(files: Files) -> dict[str, Any]:
    """A row with a pre-trained encoder."""
    return {**CELLLM, "encoder": str(files.encoder)}


def baseline(name: str) -> dict[str, str]:
    return {"name": f"my_{name}", "kind": "baseline", "method": name}


def run(files: Files, folder: Path, model: Any, protocol: str = "strict", **more: Any) -> pd.DataFrame:
    run_score(
        **{
            "cells": files.cells,
            "data_set": "planted",
            "genes": files.genes,
            "splits": [files.splits],
            "model": model,
            "protocols": [protocol],
            "out": folder,
        }
        | more
    )
    return scores.read_many([place(folder, model) / f"{protocol}.csv"])


def place(folder: Path, model: Any) -> Path:
    """Where the scores of a row go."""
    return folder / "annotation/planted" / model["name"]


@pytest.mark.parametrize("method", ["logistic_regression", "knn_pca", "encoder", "majority"])
def test_calibration_can_be_recomputed_from_what_is_saved(files: Files, tmp_path: Path, method: str) -> None:
    model = trained(files) if method == "encoder" else baseline(method)
    settings = {**QUICK, "epochs": 2} if method == "encoder" else {}
    frame = run(files, tmp_path, model, settings=settings)
    path = place(tmp_path, model) / "strict.predictions.csv"
    found, (classes, values) = (
        scores.read_predictions(path),
        scores.read_probabilities(scores.probabilities_of(path)),
    )
    assert len(found) == len(values) == 150
    scored = frame[frame["metric"] == "calibration_error"].set_index("split")["value"]
    if not len(classes):  # names labels only
        assert values.shape == (150, 0) and scored.empty
        return
    np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)
    assert (classes[values.argmax(axis=1)] == found["predicted"]).mean() > 0.99
    for split, rows in found.groupby("split").indices.items():
        right = (found["label"] == found["predicted"]).to_numpy()[rows]
        error = metrics.calibration_error(right, values[rows].max(axis=1))
        assert error == pytest.approx(scored[split], abs=1e-12)


def test_a_replicate_has_a_folder_of_its_own_and_the_name_of_its_row(files: Files, tmp_path: Path) -> None:
    row = {**trained(files), "name": "celllm.seed1", "replicate_of": "celllm"}
    short = {**QUICK, "epochs": 1}
    own = run(files, tmp_path, trained(files), settings=short, seed=0)
    further = run(files, tmp_path, row, settings=short, seed=1)
    assert set(further["model"]) == {"celllm"} == set(own["model"])
    assert (set(own["seed"]), set(further["seed"])) == ({0}, {1})
    together = scores.read_many([place(tmp_path, m) / "strict.csv" for m in (trained(files), row)])
    assert len(together) == len(own) + len(further)


def predictions(folder: Path, model: Any) -> pd.DataFrame:
    return scores.read_predictions(place(folder, model) / "strict.predictions.csv")


def mean(frame: pd.DataFrame, metric: str) -> float:
    return float(frame.loc[frame["metric"] == metric, "value"].mean())


def with_method(monkeypatch: pytest.MonkeyPatch, fit: Callable[..., Predict]) -> None:
    """Let every name of a baseline mean a method of this test."""
    monkeypatch.setattr(methods, "look_up", lambda name, modules: Method(fit, NoSettings))


def test_logistic_regression_beats_majority(files: Files, tmp_path: Path) -> None:
    majority = run(files, tmp_path, baseline("majority"))
    regression = run(files, tmp_path, baseline("logistic_regression"))
    assert mean(majority, "accuracy") == pytest.approx(0.5, abs=0.08)
    assert mean(regression, "accuracy") > 0.95
    assert mean(regression, "macro_f1") > mean(majority, "macro_f1") + 0.6


def test_score_file(files: Files, tmp_path: Path) -> None:
    frame = run(files, tmp_path, baseline("majority"), "paper", seed=3)
    by_class = [f"{name}:{one}" for name in ("precision", "recall", "f1") for one in CLASSES]
    assert frame["metric"].tolist() == ["macro_f1", "weighted_f1", "accuracy", *by_class] * 3
    assert frame["split"].tolist() == [name for name in "012" for _ in range(12)]
    for column, value in {
        "table": "table1",
        "task": "annotation",
        "data_set": "planted",
        "model": "my_majority",
        "protocol": "paper",
        "seed": 3,
        "status": "ok",
        "reason": "",
    }.items():
        assert set(frame[column]) == {value}
    assert frame["value"].between(0, 1).all()
    assert frame["seconds"].between(0, 60).all()
    assert (frame["peak_mib"] > 10).all()


def test_every_cell_is_predicted_once_and_the_scores_are_those_of_the_predictions(
    files: Files, tmp_path: Path
) -> None:
    frame = run(files, tmp_path, baseline("logistic_regression"))
    found = predictions(tmp_path, baseline("logistic_regression"))
    data = h5ad.read(files.cells)
    assert sorted(found["cell"]) == sorted(data.obs_names)
    assert (found["label"].to_numpy() == data.obs.loc[found["cell"], "label"].astype(str).to_numpy()).all()
    for number, fold in enumerate(read_splits(files.splits).folds):
        here = found[found["split"] == str(number)]
        assert set(here["cell"]) == set(fold.test)
        told = frame[(frame["split"] == str(number)) & (frame["metric"] == "accuracy")]["value"].item()
        assert told == pytest.approx((here["label"] == here["predicted"]).mean(), abs=1e-12)


def test_a_planted_leak_stops_the_command(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the protocol changed so that strict chooses on test cells, no score would come out."""
    monkeypatch.setitem(Annotation.rules, "strict", replace(STRICT, choose="test"))
    with pytest.raises(LeakError, match="choose on under 'strict'"):
        run(files, tmp_path, baseline("knn_pca"))
    assert not list(tmp_path.iterdir())
    assert set(run(files, tmp_path, baseline("knn_pca"), "paper")["status"]) == {"ok"}


def test_labels_of_test_cells_cannot_be_read(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_method(monkeypatch, lambda train, settings, seed: lambda part: part.known)
    frame = run(files, tmp_path, baseline("peek"))
    assert set(frame["status"]) == {"failed"}
    assert frame["reason"].str.contains("asked for the labels of cells that it has to predict").all()


def failing(error: Exception, n: int = 1) -> Callable[..., Predict]:
    """Fail in the n-th fold."""
    calls: list[int] = []

    def fit(train: Part, settings: NoSettings, seed: int) -> Predict:
        calls.append(seed)
        if len(calls) == n:
            raise error
        return fit_majority(train, settings, seed)

    return fit


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("singular\nmatrix"), "failed", "ValueError: singular matrix"),
        (MemoryError("8 TiB"), "out-of-memory", "MemoryError: 8 TiB"),
        (torch.OutOfMemoryError("CUDA out of memory."), "out-of-memory", "CUDA out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out-of-memory", "can't allocate"),
        (NotApplicableError("one class only"), "not-applicable", "one class only"),
    ],
)
def test_a_fold_that_fails_is_a_row(
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: str,
    reason: str,
) -> None:
    with_method(monkeypatch, failing(error, n=2))
    frame = run(files, tmp_path, baseline("fragile"))
    assert frame["status"].tolist() == ["ok"] * 12 + [status] * 3 + ["ok"] * 12
    bad = frame[frame["split"] == "1"]
    assert bad["value"].isna().all()
    assert bad["reason"].str.contains(reason, regex=False).all()
    assert bad["metric"].tolist() == ["macro_f1", "weighted_f1", "accuracy"]
    assert ("Traceback" in caplog.text) == (status != "not-applicable")
    assert set(predictions(tmp_path, baseline("fragile"))["split"]) == {"0", "2"}


def test_too_few_predictions_are_a_failure(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_method(monkeypatch, lambda train, settings, seed: lambda part: np.array(["B cell"]))
    frame = run(files, tmp_path, baseline("short"))
    assert frame["reason"].str.contains("1 values predicted for 50 test rows").all()


def test_the_seed_decides(files: Files, tmp_path: Path) -> None:
    first, again, other = (
        run(files, tmp_path, baseline("random"), seed=seed)["value"].tolist() for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_every_fold_has_a_seed_of_its_own() -> None:
    seeds = {runner.seed_of(seed, fold) for seed in range(20) for fold in range(5)}
    assert len(seeds) == 100
    assert max(seeds) < 2**32


def test_an_encoder_learns_the_planted_classes_and_is_deterministic(files: Files, tmp_path: Path) -> None:
    majority = mean(run(files, tmp_path, baseline("majority")), "accuracy")
    model, how = trained(files), {"settings": QUICK}
    first = run(files, tmp_path, model, **how)
    assert mean(first, "accuracy") > majority + 0.3
    again = run(files, tmp_path, model, **how)
    assert first["value"].tolist() == again["value"].tolist()


def run_both(files: Files, folder: Path, model: Any, **more: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores under strict and paper, of one command."""
    run(files, folder, model, protocols=["strict", "paper"], **more)
    strict, paper = (scores.read_many([place(folder, model) / f"{p}.csv"]) for p in ("strict", "paper"))
    assert (set(strict["protocol"]), set(paper["protocol"])) == ({"strict"}, {"paper"})
    return strict, paper


def test_protocols_run_together_score_as_each_alone_and_share_the_frozen_layers(
    files: Files, tmp_path: Path, encoded: list[int]
) -> None:
    model, how = trained(files), {"settings": {**QUICK, "epochs": 2}}
    alone = [run(files, tmp_path, model, p, **how)["value"].tolist() for p in ("strict", "paper")]
    encoded.clear()
    together = [frame["value"].tolist() for frame in run_both(files, tmp_path, model, **how)]
    assert together == alone
    assert sum(encoded) == 150


def test_a_method_that_chooses_nothing_is_fitted_once_for_both_protocols(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[int] = []

    def fit(train: Part, settings: NoSettings, seed: int) -> Predict:
        fitted.append(len(train))
        return fit_majority(train, settings, seed)

    with_method(monkeypatch, fit)
    strict, paper = run_both(files, tmp_path, baseline("counted"))
    assert len(fitted) == 3
    columns = ["split", "metric", "value"]
    assert strict[columns].equals(paper[columns])
    folder = place(tmp_path, baseline("counted"))
    found = [(folder / f"{p}.predictions.csv").read_bytes() for p in ("strict", "paper")]
    assert found[0] == found[1]


def test_an_encoder_without_pretraining(files: Files, tmp_path: Path) -> None:
    frame = run(files, tmp_path, UNTRAINED, settings={**QUICK, "epochs": 1})
    assert set(frame["status"]) == {"ok"}
    with pytest.raises(UserError, match="model celllm: no encoder"):
        run(files, tmp_path, CELLLM, settings=QUICK)


def test_a_row_whose_file_is_missing_does_not_apply_and_says_why(files: Files, tmp_path: Path) -> None:
    row = {**CELLLM, "missing": "gene2vec: vectors.txt: no such file"}
    frame = run(files, tmp_path, row, settings=QUICK)
    assert set(frame["status"]) == {"not-applicable"}
    assert set(frame["reason"]) == {"gene2vec: vectors.txt: no such file"}


def test_an_encoder_of_other_genes_is_refused(files: Files, tmp_path: Path) -> None:
    symbols = tuple(f"G{i:02d}" for i in range(61))
    Vocabulary(symbols, ("",) * 61).write(tmp_path / "genes.tsv")
    with pytest.raises(UserError, match="trained with another gene list"):
        run(files, tmp_path, trained(files), genes=tmp_path / "genes.tsv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "{"}, "model: not valid JSON"),
        ({"model": {"name": "x"}}, "keys 'name' and 'kind'"),
        ({"model": baseline("svm")}, "unknown method 'svm'"),
        ({"settings": '{"neighbours": 5}'}, "unknown key 'neighbours'; known are k, n_components"),
        ({"protocol": "loose"}, "protocols: expected some of strict, no_refit, paper, got 'loose'"),
        ({"data_set": "baron"}, "splits of 'planted', expected those of 'baron'"),
        ({"model": UNTRAINED, "settings": {"epoch": 5}}, "unknown key 'epoch'"),
    ],
)
def test_bad_input_stops_in_one_line_and_writes_nothing(
    files: Files, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        run(files, tmp_path, **{"model": baseline("knn_pca"), **change})
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_data_set_without_labels_is_refused(files: Files, tmp_path: Path) -> None:
    data = h5ad.read(files.cells)
    del data.obs["label"]
    h5ad.write(data, tmp_path / "cells.h5ad")
    with pytest.raises(UserError, match=r"cells\.h5ad: this task needs a label for every cell"):
        run(files, tmp_path, baseline("majority"), cells=tmp_path / "cells.h5ad")


def test_a_baseline_does_not_load_pytorch(files: Files, tmp_path: Path) -> None:
    code = (
        "import sys; from celllm.tasks.score import run_score;"
        f"run_score(cells={str(files.cells)!r}, data_set='planted', genes={str(files.genes)!r},"
        f" splits=[{str(files.splits)!r}], model={baseline('majority')}, protocols=['strict'],"
        f" out={str(tmp_path)!r});"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("why", "status"),
    [("step 7: loss 'mlm' is nan", scores.FAILED), ("step 1: out of memory; try", scores.OUT_OF_MEMORY)],
)
def test_a_row_whose_encoder_was_not_trained_says_so(
    files: Files, tmp_path: Path, why: str, status: str
) -> None:
    path = tmp_path / "failed.safetensors"
    save_failure(path, why)
    frame = run(files, tmp_path, {**CELLLM, "encoder": str(path)}, settings=QUICK)
    assert set(frame["status"]) == {status} and set(frame["split"].astype(str)) == {"0", "1", "2"}
    assert frame["reason"].str.startswith(f"its encoder was not trained: {why}").all()
