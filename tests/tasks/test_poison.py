"""Under ``strict`` no test row has a part in any choice: whatever is written there, the predictions stay."""

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from celllm.cells.genes import Vocabulary
from celllm.corpus.splits import Parts
from celllm.methods import CELLS, PAIRS
from celllm.tasks.annotation import Annotation
from celllm.tasks.drug_response import DrugResponse
from celllm.tasks.folds import places, saved_splits
from celllm.tasks.protocols import STRICT
from celllm.tasks.runner import Fitted, Runner
from celllm.tasks.task import Task
from tests.tasks import test_drug_response as screen
from tests.tasks.conftest import Files
from tests.tasks.test_annotation import trained

files_of_screen = screen.files

ENCODERS: dict[str, dict[str, Any]] = {
    "fine-tuned": {},
    "linear probe": {"trainable_layers": 0, "head": []},
    "all layers": {"trainable_layers": -1},
    "as scBERT": {"frozen_top": 1, "class_weights": "none", "select_by": "accuracy"},
}
QUICK = {"epochs": 3, "accumulation": 1, "learning_rate": 0.005, "precision": "float32"}
RESPONSE_ENCODERS = {"fine-tuned": {}, "frozen": {"trainable_layers": 0}}
APART = {"encoder"} if find_spec("scvi") else {"encoder", "scanvi"}  # scANVI needs an extra
BASELINES, RESPONSE_BASELINES = ([name for name in names if name not in APART] for names in (CELLS, PAIRS))
QUICK_NETWORKS = {
    "deepcdr": {"epochs": 2, "drug_width": 8, "expression_layers": [8, 8], "batch_size": 32},
    "deepcdr_original": {"epochs": 2, "drug_layers": [8, 8], "cell_layers": [8, 8], "batch_size": 32},
}


def prepared(row: dict[str, Any], settings: dict[str, Any] | None, data: Task) -> Runner:
    return Runner.of_row(row, settings, 0, type(data)).prepared(data, row)


def annotator(name: str, files: Files, data: Annotation) -> Runner:
    """A registered method, or one of the ways to use an encoder."""
    if name in ENCODERS:
        return prepared(trained(files), QUICK | ENCODERS[name], data)
    return prepared({"name": name, "kind": "baseline"}, None, data)


def first_fold(path: Path, data: Task) -> Parts:
    ((name, splits),) = saved_splits([path], "planted").items()
    return places(name, splits, data.ids.tolist())[0]


def cells(files: Files) -> tuple[Annotation, Parts]:
    """The planted data set and its first fold."""
    data = Annotation.read(files.cells, vocabulary=Vocabulary.read(files.genes))
    return data, first_fold(files.splits, data)


def poisoned_cells(data: Annotation, rows: NDArray[np.int64]) -> Annotation:
    """The same with the labels of some cells turned round: each has another class than before."""
    labels = data.truth.copy()
    classes = np.unique(labels)
    labels[rows] = classes[(np.searchsorted(classes, labels[rows]) + 1) % len(classes)]
    return dataclasses.replace(data, cells=dataclasses.replace(data.cells, labels=labels))


def screen_runner(name: str, files: screen.Files, data: DrugResponse) -> Runner:
    """The same for drug response."""
    if name in RESPONSE_ENCODERS:
        quick = screen.QUICK | {"epochs": 2}
        return prepared(screen.trained(files), quick | RESPONSE_ENCODERS[name], data)
    settings = QUICK_NETWORKS.get(name)
    return prepared({"name": name, "kind": "baseline"}, settings, data)


def pairs(files: screen.Files, kind: str) -> tuple[DrugResponse, Parts]:
    """The planted screen and its first split."""
    data = DrugResponse.read(files.cells, files.responses, Vocabulary.read(files.genes))
    return data, first_fold(getattr(files, kind), data)


def poisoned_pairs(data: DrugResponse, rows: NDArray[np.int64]) -> DrugResponse:
    """The same with other responses to some pairs."""
    responses = data.truth.copy()
    responses[rows] = 20 - 3 * responses[rows]
    return dataclasses.replace(data, pairs=dataclasses.replace(data.pairs, responses=responses))


def predicted(runner: Runner, data: Any, fold: Parts) -> NDArray[Any]:
    """What is scored of the test part under strict: chosen on validation, fitted again on both."""

    def fitted(learn: str, choose: str = "", chosen: dict[str, Any] | None = None) -> Fitted:
        return runner.fitted(data, fold, 0, learn, choose, chosen or {})

    found = runner.outcome(STRICT, fitted)
    assert found.predicted is not None, found.reason
    return found.predicted.values


@pytest.mark.parametrize("name", [*BASELINES, *ENCODERS])
def test_labels_of_test_cells_have_no_part_in_a_prediction(files: Files, name: str) -> None:
    data, fold = cells(files)
    found = []
    for one in (data, poisoned_cells(data, fold.test)):
        runner = annotator(name, files, one)
        found.append(predicted(runner, one, fold))
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("name", ["knn_pca", "logistic_regression_2000", "fine-tuned"])
def test_a_planted_leak_shows(files: Files, name: str) -> None:
    """The check above has power: with test cells among those learned from, the predictions move."""
    data, fold = cells(files)
    leak = fold._replace(train=np.concatenate([fold.train, fold.test]))
    found = []
    for one in (data, poisoned_cells(data, fold.test)):
        runner = annotator(name, files, one)
        found.append(predicted(runner, one, leak))
    assert (found[0] != found[1]).any()


WARM = [*RESPONSE_BASELINES, *RESPONSE_ENCODERS]
# There is no mean of a line that was never seen.
COLD = [name for name in WARM if "line_mean" not in name]


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "warm") for name in WARM] + [(name, "cold") for name in COLD],
)
def test_responses_of_test_pairs_have_no_part_in_a_prediction(
    files_of_screen: screen.Files, name: str, kind: str
) -> None:
    data, fold = pairs(files_of_screen, kind)
    found = []
    for one in (data, poisoned_pairs(data, fold.test)):
        runner = screen_runner(name, files_of_screen, one)
        found.append(predicted(runner, one, fold))
    assert np.array_equal(found[0], found[1])


@pytest.mark.parametrize("name", ["drug_mean", "ridge_by_drug", "fine-tuned"])
def test_a_planted_leak_of_responses_shows(files_of_screen: screen.Files, name: str) -> None:
    data, fold = pairs(files_of_screen, "warm")
    leak = fold._replace(train=np.concatenate([fold.train, fold.test]))
    found = []
    for one in (data, poisoned_pairs(data, fold.test)):
        runner = screen_runner(name, files_of_screen, one)
        found.append(predicted(runner, one, leak))
    assert np.abs(found[0] - found[1]).max() > 0.1


@pytest.mark.parametrize("name", [*BASELINES, *ENCODERS])
def test_a_class_of_one_cell_and_one_that_is_only_tested(files: Files, name: str) -> None:
    """Every method trains beside them; the class that no training cell has is wrong, not a failure."""
    data, fold = cells(files)
    labels = data.truth.astype("U12")
    labels[fold.test[0]], labels[fold.train[0]] = "only tested", "only one"
    data = dataclasses.replace(data, cells=dataclasses.replace(data.cells, labels=labels))
    runner = annotator(name, files, data)
    found = predicted(runner, data, fold)
    assert set(found) <= set(labels)
    assert found[0] != "only tested"
    assert data.measure(fold.test, found)["accuracy"] < 1
