"""Scores made elsewhere, as rows of the tables: their splits, their form, what they lack."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from celllm.errors import UserError
from celllm.scores import scores
from celllm.tasks.score import run_score, run_splits
from tests.tasks.conftest import Files
from tests.tasks.test_annotation import baseline, place, run

ROW = {"name": "theirs", "kind": "scores"}


@pytest.fixture(scope="module")
def theirs(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A score file as the benchmark writes it, of a method that stands for somebody's own program."""
    folder = tmp_path_factory.mktemp("theirs")
    run(files, folder, baseline("logistic_regression"))
    return place(folder, baseline("logistic_regression")) / "strict.csv"


def taken(files: Files, folder: Path, given: str, protocol: str = "strict") -> pd.DataFrame:
    return run(files, folder, ROW | {"scores": given}, protocol)


def changed(path: Path, folder: Path, column: str, value: Any, row: int | slice = 0) -> Path:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[row, column] = value
    frame.to_csv(folder / "changed.csv", index=False)
    return folder / "changed.csv"


def test_scores_on_the_same_splits_are_taken_as_they_are(files: Files, theirs: Path, tmp_path: Path) -> None:
    found = taken(files, tmp_path, f"{theirs} + {files.splits}")
    original = scores.read_many([theirs])
    pd.testing.assert_frame_equal(found, original.assign(model="theirs"))
    predictions = place(tmp_path, ROW) / "strict.predictions.csv"
    assert scores.read_predictions(predictions).empty
    assert scores.read_probabilities(scores.probabilities_of(predictions))[1].size == 0


def test_a_protocol_or_a_data_set_without_scores_says_so(files: Files, theirs: Path, tmp_path: Path) -> None:
    found = taken(files, tmp_path, f"{theirs} + {files.splits}", "paper")
    assert set(found["status"]) == {"not-applicable"} and len(found) == 9
    assert found["reason"].str.startswith("no score under protocol paper of annotation in ").all()
    run_score(files.cells, "planted", files.genes, [files.splits], ROW, ["strict"], tmp_path)
    found = scores.read_many([place(tmp_path, ROW) / "strict.csv"])
    assert set(found["reason"]) == {"the row's `file` names no scores of this data set"}


def test_scores_on_other_splits_are_refused(files: Files, theirs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    run_splits("annotation", files.cells, "planted", other, settings={"n_folds": 3, "seed": 1})
    with pytest.raises(UserError, match="scored on other splits of planted than those of this run"):
        taken(files, tmp_path, f"{theirs} + {other}")
    with pytest.raises(UserError, match=r"expected ' \+ SPLITS.json' behind the scores, the splits"):
        taken(files, tmp_path, str(theirs))
    edited = tmp_path / "edited.json"
    content = json.loads(files.splits.read_text())
    content["folds"][0]["test"].pop()
    edited.write_text(json.dumps(content))
    with pytest.raises(UserError, match="the folds were changed after they were drawn"):
        taken(files, tmp_path, f"{theirs} + {edited}")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("split", "7", "split '7'; expected one of 0, 1, 2"),
        ("value", "81.2", "macro_f1 is 81.2; expected a fraction, 1 at most"),
        ("value", "nan", "line 2: value is 'nan', expected a finite number"),
        ("metric", "auc", "line 2: metric is 'auc', expected one of macro_f1"),
        ("protocol", "loose", "line 2: protocol is 'loose', expected one of strict"),
        ("model", "another", "scores of another, my_logistic_regression; name one of them 'theirs'"),
        ("status", "failed", "line 2: value is"),
    ],
)
def test_a_score_file_of_another_form_is_refused(
    column: str, value: str, words: str, files: Files, theirs: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        taken(files, tmp_path, f"{changed(theirs, tmp_path, column, value)} + {files.splits}")


def test_scores_of_other_cells_or_other_columns(files: Files, theirs: Path, tmp_path: Path) -> None:
    other = changed(theirs, tmp_path, "data_set", "baron", slice(None))
    with pytest.raises(UserError, match="no score of the data set 'planted'"):
        taken(files, tmp_path, f"{other} + {files.splits}")
    pd.read_csv(theirs).drop(columns="seconds").to_csv(other, index=False)
    with pytest.raises(UserError, match=r"columns are .*; expected exactly table,task"):
        taken(files, tmp_path, f"{other} + {files.splits}")


def test_one_of_several_models_by_the_name_of_the_row(files: Files, theirs: Path, tmp_path: Path) -> None:
    both = pd.concat([pd.read_csv(theirs), pd.read_csv(theirs).assign(model="theirs", value=0.5)])
    both.to_csv(tmp_path / "both.csv", index=False)
    found = taken(files, tmp_path, f"{tmp_path / 'both.csv'} + {files.splits}")
    assert set(found["value"]) == {0.5}
