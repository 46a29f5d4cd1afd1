"""Drug sensitivity: the score of the sensitive cells, on the machinery of cell annotation."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from celllm import methods
from celllm.cells import h5ad
from celllm.cells.genes import Vocabulary
from celllm.cli import main
from celllm.corpus.splits import read_splits
from celllm.errors import UserError
from celllm.methods.method import Method, NotApplicableError
from celllm.methods.settings import NoSettings
from celllm.scores import scores
from celllm.tasks.annotation import Annotation
from celllm.tasks.protocols import STRICT, LeakError
from celllm.tasks.score import run_score, run_splits
from tests.tasks.conftest import N_CELLS, Files, planted
from tests.tasks.test_annotation import trained

SPLITS = {
    "drug_few_shot": {"n_folds": 5, "train_fraction": 0.2, "validation_fraction": 0.2},
    "drug_full": {"n_folds": 5, "train_fraction": 0.8, "validation_fraction": 0.1},
}
HEAD = {"head": [32, 16], "activation": "leaky_relu", "batch_size": 4, "weight_decay": 0.001}
QUICK = HEAD | {"epochs": 4, "accumulation": 1, "learning_rate": 0.005, "precision": "float32"}


@pytest.fixture(scope="module")
def drug(files: Files, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    """The planted cells, one of the three classes resistant, with splits for both tasks."""
    folder = tmp_path_factory.mktemp("drug")
    data = planted(Vocabulary.read(files.genes))
    data.obs["label"] = np.where(data.obs["label"] == "B cell", "resistant", "sensitive")
    cells = folder / "cells.h5ad"
    h5ad.write(data, cells)
    for task, settings in SPLITS.items():
        run_splits(task, cells, "drugged", folder / f"{task}.json", settings=settings)
    return {task: replace(files, cells=cells, splits=folder / f"{task}.json") for task in SPLITS}


def run(
    files: Files, folder: Path, task: str, model: Any, protocol: str = "strict", **more: Any
) -> pd.DataFrame:
    arguments = {
        "cells": files.cells,
        "data_set": "drugged",
        "genes": files.genes,
        "splits": [files.splits],
        "model": model,
        "protocols": [protocol],
        "out": folder,
    }
    run_score(**arguments | more)
    return scores.read_many([place(folder, task, model) / f"{protocol}.csv"])


def place(folder: Path, task: str, model: Any) -> Path:
    """Where the scores of a row go."""
    return folder / task / "drugged" / model["name"]


def baseline(name: str) -> dict[str, str]:
    return {"name": name, "kind": "baseline", "method": name}


def f1(frame: pd.DataFrame) -> list[float]:
    return frame.loc[frame["metric"] == "f1", "value"].tolist()


@pytest.mark.parametrize("task", SPLITS)
def test_score_file(drug: dict[str, Files], tmp_path: Path, task: str) -> None:
    frame = run(drug[task], tmp_path, task, baseline("majority"), seed=2)
    by_class = [
        f"{name}:{one}" for name in ("precision", "recall", "f1") for one in ("resistant", "sensitive")
    ]
    assert frame["metric"].tolist() == ["f1", "macro_f1", "accuracy", *by_class] * 5
    for column, value in {"table": "table2", "task": task, "data_set": "drugged", "seed": 2}.items():
        assert set(frame[column]) == {value}


def test_f1_is_that_of_the_sensitive_cells(drug: dict[str, Files], tmp_path: Path) -> None:
    frame = run(drug["drug_full"], tmp_path, "drug_full", baseline("logistic_regression"))
    folder = place(tmp_path, "drug_full", baseline("logistic_regression"))
    found = scores.read_predictions(folder / "strict.predictions.csv")
    for number, value in enumerate(f1(frame)):
        here = found[found["split"] == str(number)]
        true, told = here["label"] == "sensitive", here["predicted"] == "sensitive"
        assert value == pytest.approx(2 * (true & told).sum() / (true.sum() + told.sum()), abs=1e-12)
    assert np.mean(f1(frame)) > 0.9


def test_calling_all_resistant_scores_zero(
    drug: dict[str, Files], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: Any) -> Any:
        return lambda part: np.full(len(part), "resistant")

    monkeypatch.setattr(methods, "look_up", lambda name, modules: Method(fit, NoSettings))
    frame = run(drug["drug_full"], tmp_path, "drug_full", baseline("resistant"))
    assert f1(frame) == [0.0] * 5
    assert (frame.loc[frame["metric"] == "accuracy", "value"] > 0.3).all()


@pytest.mark.parametrize(("task", "n_train"), [("drug_few_shot", 30), ("drug_full", 120)])
def test_draws_have_the_size_of_their_task_and_differ(
    drug: dict[str, Files], task: str, n_train: int
) -> None:
    folds = read_splits(drug[task].splits).folds
    assert [len(f.train) + len(f.validation) for f in folds] == [n_train] * 5
    assert [len(f.test) for f in folds] == [N_CELLS - n_train] * 5
    assert len({f.test for f in folds}) == 5


@pytest.mark.parametrize("protocol", ["strict", "paper"])
def test_an_encoder_with_the_papers_head(drug: dict[str, Files], tmp_path: Path, protocol: str) -> None:
    files = drug["drug_full"]
    frame = run(files, tmp_path, "drug_full", trained(files), protocol, settings=QUICK)
    assert set(frame["status"]) == {"ok"}
    assert np.mean(f1(frame)) > 0.75


def test_a_failed_split_is_rows_with_a_reason(
    drug: dict[str, Files], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: Any) -> Any:
        raise NotApplicableError("too few cells")

    monkeypatch.setattr(methods, "look_up", lambda name, modules: Method(fit, NoSettings))
    frame = run(drug["drug_few_shot"], tmp_path, "drug_few_shot", baseline("none"))
    assert len(frame) == 15
    assert set(frame["status"]) == {"not-applicable"}
    assert set(frame["reason"]) == {"too few cells"}


def test_a_planted_leak_stops_the_command(
    drug: dict[str, Files], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Annotation.rules, "strict", replace(STRICT, choose="test"))
    with pytest.raises(LeakError, match="choose on under 'strict'"):
        run(drug["drug_full"], tmp_path, "drug_full", baseline("knn_pca"))
    assert not list(tmp_path.iterdir())


def test_tasks_run_together_score_as_each_alone_and_encode_a_cell_once(
    drug: dict[str, Files], tmp_path: Path, encoded: list[int]
) -> None:
    model, how = trained(drug["drug_full"]), {"settings": {**QUICK, "epochs": 2}}
    alone = [run(drug[task], tmp_path / "alone", task, model, **how) for task in SPLITS]
    encoded.clear()
    together = tmp_path / "together"
    both = [files.splits for files in drug.values()]
    run(drug["drug_full"], together, "drug_full", model, splits=both, **how)
    for task, frame in zip(SPLITS, alone, strict=True):
        again = scores.read_many([place(together, task, model) / "strict.csv"])
        assert again["value"].tolist() == frame["value"].tolist()
    assert sum(encoded) == N_CELLS


def test_splits_of_another_task_and_two_of_one_are_refused(
    drug: dict[str, Files], files: Files, tmp_path: Path
) -> None:
    made = tmp_path / "annotation.json"
    run_splits("annotation", drug["drug_full"].cells, "drugged", made)
    other = "annotation.json: splits for the task 'annotation', expected those for drug_few_shot or drug_full"
    with pytest.raises(UserError, match=other):
        both = [drug["drug_full"].splits, made]
        run(drug["drug_full"], tmp_path, "drug_full", baseline("majority"), splits=both)
    twice = [drug["drug_full"].splits] * 2
    with pytest.raises(UserError, match="a second file of splits for the task 'drug_full'"):
        run(drug["drug_full"], tmp_path, "drug_full", baseline("majority"), splits=twice)


def test_other_labels_are_refused(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds B cell, NK, dim, T cell; drug sensitivity needs") as caught:
        run_splits("drug_full", files.cells, "planted", tmp_path / "splits.json")
    assert "\n" not in str(caught.value)


def test_the_command(drug: dict[str, Files], tmp_path: Path) -> None:
    files = drug["drug_few_shot"]
    flags = {
        "--cells": files.cells,
        "--data-set": "drugged",
        "--genes": files.genes,
        "--splits": files.splits,
        "--model": '{"name": "random", "kind": "baseline", "method": "random"}',
        "--protocols": "paper",
        "--out": tmp_path,
    }
    assert not main(["score", *(str(text) for pair in flags.items() for text in pair)])
    folder = place(tmp_path, "drug_few_shot", {"name": "random"})
    assert len(scores.read_many([folder / "paper.csv"])) == 5 * 9
    assert len(scores.read_predictions(folder / "paper.predictions.csv")) == 5 * (N_CELLS - 30)
