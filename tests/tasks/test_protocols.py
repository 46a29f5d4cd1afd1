"""What a method is shown under each protocol, which of its models is scored, and the guard."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from celllm.corpus.splits import Parts
from celllm.methods.method import Choice, Method, Part
from celllm.methods.settings import LogisticSettings
from celllm.tasks.annotation import Annotation
from celllm.tasks.drug_response import DrugResponse
from celllm.tasks.protocols import STRICT, LeakError, Rule, refuse_leak
from celllm.tasks.runner import Fitted, Runner

FOLD = Parts(np.arange(0, 6), np.arange(6, 8), np.arange(8, 10))
BOTH, TRAIN, VALIDATION, TEST = range(8), range(6), (6, 7), (8, 9)


class Recorder:
    """A method whose models answer with their own name, and that writes down what it learned from."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def fit(self, train: Part, settings: LogisticSettings, seed: int) -> Any:
        self.calls.append(("fit", tuple(train.rows), settings.c))
        return lambda part: np.full(len(part), f"fit{len(train)}")

    def choose(self, train: Part, selection: Part, settings: LogisticSettings, seed: int) -> Any:
        self.calls.append(("choose", tuple(train.rows), tuple(selection.rows)))
        assert len(selection.known) == len(selection)
        best, last = (lambda part, name=name: np.full(len(part), name) for name in ("best", "last"))
        return Choice({"c": 0.5}, best, last)


class Cells:
    """Ten cells, as a task."""

    def __init__(self, rules: dict[str, Rule]) -> None:
        self.rules = rules
        self.truth = np.array(["fit6", "fit8", "best", "last", *"xxxxxx"])

    def part(self, rows: Any, labelled: bool = True) -> Part:
        return Part(np.asarray(rows), self.truth[rows], None, self.truth[rows] if labelled else None)


def outcomes(task: type, chooses: bool, *protocols: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    recorder = Recorder()
    method = Method(recorder.fit, LogisticSettings, recorder.choose if chooses else None)
    cells: Any = Cells(dict(task.rules))
    found = Runner(method, LogisticSettings(), 0).outcomes(cells, FOLD, 0, protocols)
    assert all(isinstance(one, Fitted) and one.predicted is not None for one in found), found
    return [one.predicted.values[0] for one in found], recorder.calls


def test_strict_chooses_on_validation_and_fits_again_on_both_with_the_choice() -> None:
    scored, calls = outcomes(Annotation, True, "strict", "no_refit")
    assert scored == ["fit8", "best"]
    assert calls == [("choose", tuple(TRAIN), VALIDATION), ("fit", tuple(BOTH), 0.5)]


def test_paper_chooses_on_the_test_part_in_annotation() -> None:
    scored, calls = outcomes(Annotation, True, "paper")
    assert scored == ["best"]
    assert calls == [("choose", tuple(BOTH), TEST)]


def test_paper_scores_the_last_epoch_of_a_search_on_validation_in_drug_response() -> None:
    scored, calls = outcomes(DrugResponse, True, "strict", "paper")
    assert scored == ["fit8", "last"]
    assert calls == [("choose", tuple(TRAIN), VALIDATION), ("fit", tuple(BOTH), 0.5)]


@pytest.mark.parametrize(("task", "paper"), [(Annotation, "fit8"), (DrugResponse, "fit6")])
def test_all_rows_learn_from_the_same_cells(task: type, paper: str) -> None:
    """What chooses nothing learns from what the models that choose were scored after learning from."""
    scored, calls = outcomes(task, False, "strict", "no_refit", "paper")
    assert scored == ["fit8", "fit6", paper]
    assert calls == [("fit", tuple(BOTH), 1.0), ("fit", tuple(TRAIN), 1.0)]


LEAKY = replace(STRICT, choose="test")


@pytest.mark.parametrize(("protocol", "n_leaks"), [("strict", 1), ("no_refit", 1), ("paper", 0)])
def test_only_paper_may_choose_on_the_test_part(protocol: str, n_leaks: int) -> None:
    if n_leaks:
        with pytest.raises(LeakError, match=f"2 test rows among those to choose on under '{protocol}'"):
            refuse_leak(FOLD, protocol, LEAKY)
    else:
        refuse_leak(FOLD, protocol, LEAKY)


@pytest.mark.parametrize("protocol", ["strict", "no_refit", "paper"])
@pytest.mark.parametrize("task", [Annotation, DrugResponse])
def test_test_rows_to_learn_from_are_refused_under_all(task: type, protocol: str) -> None:
    overlapping = Parts(np.arange(0, 9), FOLD.validation, FOLD.test)
    refuse_leak(FOLD, protocol, task.rules[protocol])
    with pytest.raises(LeakError, match="1 test rows among those to learn from"):
        refuse_leak(overlapping, protocol, task.rules[protocol])
