"""A fit that the search of another protocol comes by is read off there: the same bits, and no leak."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from celllm.methods.method import Choice, Method, Part
from celllm.methods.settings import LogisticSettings
from celllm.scores import scores
from celllm.tasks.annotation import Annotation
from celllm.tasks.fits import Fitted
from celllm.tasks.runner import Runner
from tests.tasks.conftest import Files
from tests.tasks.test_poison import annotator, cells, poisoned_cells
from tests.tasks.test_protocols import BOTH, FOLD, Cells

PROTOCOLS = ("strict", "no_refit", "paper")


@dataclass
class Search:
    """Comes by c = 1, 2 ... and chooses the last; its models answer with c and what they learned from."""

    ends: dict[int, int]
    """Rows learned from -> where the search on them ends, or minus where it fails."""
    broken: int = 0
    """The model of this c cannot predict."""
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def model(self, c: int, train: Part) -> Any:
        def predict(part: Part) -> Any:
            assert part.labels is None
            if c == self.broken:
                raise ValueError("broken")
            return np.full(len(part), f"c{c:.0f} of {len(train)}")

        return predict

    def fit(self, train: Part, settings: LogisticSettings, seed: int) -> Any:
        self.calls.append(("fit", len(train), settings.c))
        return self.model(int(settings.c), train)

    def choose(
        self, train: Part, selection: Part, settings: LogisticSettings, seed: int, announce: Any = None
    ) -> Choice[Part, Any]:
        self.calls.append(("choose", len(train)))
        end = self.ends[len(train)]
        for c in range(1, abs(end) + 1):
            if announce:
                announce({"c": c}, self.model(c, train), 100.0 * c)
        if end < 0:
            raise MemoryError("out of memory")
        return Choice({"c": end}, self.model(end, train))


def outcomes(search: Search, *protocols: str) -> list[Fitted]:
    data: Any = Cells(dict(Annotation.rules))
    data.truth = np.array([f"c{c} of {n}" for c in range(1, 6) for n in (6, 8)])
    method = Method(search.fit, LogisticSettings, search.choose, announces=True)
    return Runner(method, LogisticSettings(), 0).outcomes(data, FOLD, 0, protocols)


def values(found: list[Fitted]) -> list[str]:
    return [str(one.predicted.values[0]) if one.predicted else one.status for one in found]


@pytest.mark.parametrize("protocols", [PROTOCOLS, PROTOCOLS[::-1]])
def test_a_refit_is_read_off_the_search_of_paper(protocols: tuple[str, ...]) -> None:
    search = Search({6: 2, 8: 4})
    found = outcomes(search, *protocols)
    expected = {"strict": "c2 of 8", "no_refit": "c2 of 6", "paper": "c4 of 8"}
    assert values(found) == [expected[protocol] for protocol in protocols]
    assert search.calls == [("choose", 6), ("choose", 8)]
    strict = found[protocols.index("strict")]
    assert 200 < strict.seconds < 201, "the fit's own seconds are in, not those of the whole search"
    assert strict.peak_mib > 0


@pytest.mark.parametrize(
    ("ends", "paper"), [({6: 3, 8: 2}, "c2 of 8"), ({6: 3, 8: -2}, scores.OUT_OF_MEMORY)]
)
def test_where_the_search_does_not_come_by_it_is_fitted(ends: dict[int, int], paper: str) -> None:
    search = Search(ends)
    assert values(outcomes(search, *PROTOCOLS)) == ["c3 of 8", "c3 of 6", paper]
    assert search.calls == [("choose", 6), ("choose", 8), ("fit", 8, 3)]


def test_a_search_that_fails_later_takes_no_other_protocol_along() -> None:
    search = Search({6: 1, 8: -3})
    assert values(outcomes(search, *PROTOCOLS)) == ["c1 of 8", "c1 of 6", scores.OUT_OF_MEMORY]
    assert search.calls == [("choose", 6), ("choose", 8)]


def test_a_model_that_cannot_predict_fails_its_own_protocol_alone() -> None:
    search = Search({6: 2, 8: 4}, broken=2)
    assert values(outcomes(search, *PROTOCOLS)) == [scores.FAILED, scores.FAILED, "c4 of 8"]


def test_without_paper_nothing_is_searched_for_a_refit() -> None:
    search = Search({6: 2, 8: 4})
    assert values(outcomes(search, "strict")) == ["c2 of 8"]
    assert search.calls == [("choose", 6), ("fit", len(BOTH), 2)]


NAMES = [
    "fine-tuned",
    "as scBERT",
    "all layers",
    "logistic_regression",
    "l1_logistic_regression",
    "linear_svm",
]


@pytest.mark.parametrize("name", [*NAMES, "logistic_regression_2000"])
def test_what_is_read_off_is_what_fitting_gives_to_the_bit_whatever_the_test_labels(
    files: Files, name: str
) -> None:
    """With other labels of the test part the search of paper ends elsewhere; strict's answer stays."""
    data, fold = cells(files)
    runner = annotator(name, files, data)
    (alone,) = runner.outcomes(data, fold, 0, ["strict"])
    for one in (data, poisoned_cells(data, fold.test)):
        beside, paper = annotator(name, files, one).outcomes(one, fold, 0, ["strict", "paper"])
        assert alone.predicted and beside.predicted and paper.predicted
        assert (alone.predicted.values == beside.predicted.values).all()
        if alone.predicted.probabilities:
            assert beside.predicted.probabilities
            assert np.array_equal(alone.predicted.probabilities.values, beside.predicted.probabilities.values)
        assert beside.seconds > 0
    (paper_alone,) = annotator(name, files, one).outcomes(one, fold, 0, ["paper"])
    assert paper_alone.predicted and replace(
        paper_alone, seconds=0, peak_mib=0, predicted=None, last=None
    ) == (replace(paper, seconds=0, peak_mib=0, predicted=None, last=None))
    assert (paper_alone.predicted.values == paper.predicted.values).all()
