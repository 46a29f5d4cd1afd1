"""Under ``strict`` no test row has a part in any choice: whatever is written there, the predictions stay."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from celllm.cells.genes import Vocabulary
from celllm.corpus.splits import Parts
from celllm.methods import _MODULES, _RESPONSE_MODULES
from celllm.tasks import annotation, drug_response
from celllm.tasks.annotation import DataSet
from celllm.tasks.folds import Offer, offer, read_folds
from celllm.tasks.runner import Runner
from celllm.tasks.screen import ScreenData
from tests.tasks import test_drug_response as screen
from tests.tasks.conftest import Files

files_of_screen = screen.files

ENCODERS: dict[str, dict[str, Any]] = {
    "fine-tuned": {},
    "linear probe": {"trainable_layers": 0, "head": []},
    "all layers": {"trainable_layers": -1},
    "as scBERT": {"frozen_top": 1, "class_weights": "none", "select_by": "accuracy"},
}
QUICK = {"epochs": 3, "accumulation": 1, "learning_rate": 0.005, "precision": "float32"}
RESPONSE_ENCODERS = {"fine-tuned": {}, "frozen": {"trainable_layers": 0}}
QUICK_DEEPCDR = {"epochs": 2, "drug_layers": [8, 8], "cell_layers": [8, 8], "batch_size": 32}


def annotator(name: str, files: Files, data: DataSet) -> Runner:
    """A registered method, or one of the ways to use an encoder."""
    encoder = files.encoder if name in ENCODERS else None
    row = screen.CELLLM if encoder else {"name": name, "kind": "baseline"}
    settings = QUICK | ENCODERS[name] if encoder else None
    return annotation.make_runner(row, encoder, settings, 0, data)


def cells(files: Files) -> tuple[DataSet, Parts]:
    """The planted data set and its first fold."""
    data = DataSet.read(files.cells, Vocabulary.read(files.genes))
    return data, read_folds(files.splits, "planted", data.ids.tolist())[1][0]


def poisoned_cells(data: DataSet, rows: NDArray[np.int64]) -> DataSet:
    """The same with the labels of some cells turned round: each has another class than before."""
    labels = data.truth.copy()
    classes = np.unique(labels)
    labels[rows] = classes[(np.searchsorted(classes, labels[rows]) + 1) % len(classes)]
    return dataclasses.replace(data, cells=dataclasses.replace(data.cells, labels=labels))


def screen_runner(name: str, files: screen.Files, data: ScreenData) -> Runner:
    """The same for drug response."""
    encoder = files.encoder if name in RESPONSE_ENCODERS else None
    row = screen.CELLLM if encoder else {"name": name, "kind": "baseline"}
    quick = screen.QUICK | {"epochs": 2}
    settings = quick | RESPONSE_ENCODERS[name] if encoder else QUICK_DEEPCDR if name == "deepcdr" else None
    return drug_response.make_runner(row, encoder, settings, 0, data, Vocabulary.read(files.genes))


def pairs(files: screen.Files, kind: str) -> tuple[ScreenData, Parts]:
    """The planted screen and its first split."""
    data = ScreenData.read(files.cells, files.responses, Vocabulary.read(files.genes))
    return data, read_folds(getattr(files, kind), "planted", data.ids.tolist())[1][0]


def poisoned_pairs(data: ScreenData, rows: NDArray[np.int64]) -> ScreenData:
    """The same with other responses to some pairs."""
    responses = data.truth.copy()
    responses[rows] = 20 - 3 * responses[rows]
    return dataclasses.replace(data, pairs=dataclasses.replace(data.pairs, responses=responses))


@pytest.mark.parametrize("name", [*_MODULES, *ENCODERS])
def test_labels_of_test_cells_have_no_part_in_a_prediction(files: Files, name: str) -> None:
    data, fold = cells(files)
    found = []
    for one in (data, poisoned_cells(data, fold.test)):
        runner = annotator(name, files, one)
        found.append(runner.predict(one, fold, offer(fold, "strict", runner.method.chooses), 0))
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("name", ["knn_pca", "logistic_regression_2000", "fine-tuned"])
def test_a_planted_leak_shows(files: Files, name: str) -> None:
    """The check above has power: with test cells among those learned from, the predictions move."""
    data, fold = cells(files)
    leak = Offer(np.concatenate([fold.train, fold.test]), fold.validation)
    found = []
    for one in (data, poisoned_cells(data, fold.test)):
        runner = annotator(name, files, one)
        rows = leak if runner.method.chooses else Offer(leak.train, None)
        found.append(runner.predict(one, fold, rows, 0))
    assert (found[0] != found[1]).any()


# There is no mean of a line that was never seen.
COLD = [name for name in (*_RESPONSE_MODULES, *RESPONSE_ENCODERS) if "line_mean" not in name]


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "warm") for name in (*_RESPONSE_MODULES, *RESPONSE_ENCODERS)] + [(name, "cold") for name in COLD],
)
def test_responses_of_test_pairs_have_no_part_in_a_prediction(
    files_of_screen: screen.Files, name: str, kind: str
) -> None:
    data, fold = pairs(files_of_screen, kind)
    found = []
    for one in (data, poisoned_pairs(data, fold.test)):
        runner = screen_runner(name, files_of_screen, one)
        found.append(runner.predict(one, fold, offer(fold, "strict", runner.method.chooses), 0))
    assert np.array_equal(found[0], found[1])


@pytest.mark.parametrize("name", ["drug_mean", "ridge_by_drug", "fine-tuned"])
def test_a_planted_leak_of_responses_shows(files_of_screen: screen.Files, name: str) -> None:
    data, fold = pairs(files_of_screen, "warm")
    leak = Offer(np.concatenate([fold.train, fold.test]), fold.validation)
    found = []
    for one in (data, poisoned_pairs(data, fold.test)):
        runner = screen_runner(name, files_of_screen, one)
        rows = leak if runner.method.chooses else Offer(leak.train, None)
        found.append(runner.predict(one, fold, rows, 0))
    assert np.abs(found[0] - found[1]).max() > 0.1


@pytest.mark.parametrize("name", [*_MODULES, *ENCODERS])
def test_a_class_of_one_cell_and_one_that_is_only_tested(files: Files, name: str) -> None:
    """Every method trains beside them; the class that no training cell has is wrong, not a failure."""
    data, fold = cells(files)
    labels = data.truth.astype("U12")
    labels[fold.test[0]], labels[fold.train[0]] = "only tested", "only one"
    data = dataclasses.replace(data, cells=dataclasses.replace(data.cells, labels=labels))
    runner = annotator(name, files, data)
    found = runner.predict(data, fold, offer(fold, "strict", runner.method.chooses), 0)
    assert set(found) <= set(labels)
    assert found[0] != "only tested"
    assert data.measure(fold.test, found)["accuracy"] < 1
