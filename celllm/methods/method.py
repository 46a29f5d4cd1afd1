"""What a method is: fitted on cells that are known, it returns a function that predicts others.

The steps are apart on purpose. While it chooses or is fitted, a method is given the cells it may learn from
and the labelled cells it may choose on, and nothing else; the test cells reach it only afterwards, without
labels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from celllm.cells.genes import Vocabulary
from celllm.methods.settings import NoSettings
from celllm.settings import Settings

Labels = NDArray[np.str_]


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Forbid writing to an array that several fits are given: one must not change what another sees."""
    array.setflags(write=False)
    return array


class NotApplicableError(Exception):
    """A method cannot be used on these cells, because of the cells and not of a mistake."""


@dataclass(frozen=True)
class Genes:
    """The columns of some counts.

    Attributes
    ----------
    vocabulary : Vocabulary
        The genes of the run.
    ids : int64 array
        Place of each column's gene in the vocabulary.
    """

    vocabulary: Vocabulary
    ids: NDArray[np.int64]

    @property
    def symbols(self) -> Labels:
        """Approved symbol of each column."""
        return np.array(self.vocabulary.symbols)[self.ids]


@dataclass(frozen=True)
class Part:
    """Some cells of a prepared data set, as a method is given them.

    Attributes
    ----------
    rows : int64 array (n,)
        Places of the cells in the data set.
    ids : str array (n,)
        Their names.
    counts : csr_matrix (n, genes)
        Raw counts, float32, over the genes of the data set.
    labels : str array (n,), optional
        None where the method may not know them.
    genes : Genes, optional
        Of the columns of ``counts``.
    classes : str array
        All classes of the data set, sorted.
    """

    rows: NDArray[np.int64]
    ids: Labels
    counts: csr_matrix
    labels: Labels | None = None
    genes: Genes | None = None
    classes: Labels | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def known(self) -> Labels:
        """The labels; asking for those of test cells is a mistake in the method."""
        if self.labels is None:
            raise ValueError("a method asked for the labels of cells that it has to predict")
        return self.labels


@dataclass(frozen=True)
class Probabilities:
    """Probability of each class for some cells.

    Attributes
    ----------
    values : float array (n, n_classes)
        Rows that add up to 1.
    classes : str array (n_classes,)
        The class of each column.
    """

    values: NDArray[np.floating]
    classes: Labels

    @property
    def labels(self) -> Labels:
        """The likeliest class of each cell; of equals the first."""
        return self.classes[self.values.argmax(axis=1)]


Predict = Callable[[Part], Labels | Probabilities]

Rows = TypeVar("Rows")  # Part in cell annotation, Pairs in drug response
Values = TypeVar("Values")


@dataclass(frozen=True)
class Choice(Generic[Rows, Values]):
    """What a method chose on labelled rows that it did not learn from.

    Attributes
    ----------
    settings : mapping
        The settings chosen, as JSON values: with them in place of its own, ``fit`` learns without a choice.
    predict : callable
        The chosen model, which learned from the training rows alone.
    last : callable, optional
        The model as the search left it, where that is another one: epochs past the best.
    """

    settings: Mapping[str, Any]
    predict: Callable[[Rows], Values]
    last: Callable[[Rows], Values] | None = None


Announce = Callable[[Mapping[str, Any], Callable[[Any], Any], float], None]
"""Takes settings, as in :class:`Choice`; what ``fit`` returns with them; the seconds that this took."""


@dataclass(frozen=True)
class Method(Generic[Rows, Values]):
    """A method and what a protocol must know of it.

    Attributes
    ----------
    fit : callable
        ``fit(train, settings, seed)`` returns ``predict(part) -> labels`` (or :class:`Probabilities`).
    settings : type, optional
        Class of its settings, a subclass of :class:`celllm.settings.Settings`.
    choose : callable, optional
        ``choose(train, selection, settings, seed)`` returns a :class:`Choice` made on the labelled cells of
        ``selection``. None for a method that chooses nothing.
    prepare : callable, optional
        ``prepare(whole, settings, row)`` is called once for a data set, with all cells without their labels
        (a :class:`Part`; in drug response the :class:`celllm.methods.pairs.Screen`), the settings and the
        model's row. What it returns comes to ``fit`` and ``choose`` as the argument ``shared``.
    announces : bool
        Whether ``choose`` also takes ``announce``, an :data:`Announce` or None, and calls it for each of its
        settings while it has the model that ``fit`` would make with them, to the bit. A search on the rows
        of a fit then saves that fit.
    """

    fit: Callable[..., Callable[[Rows], Values]]
    settings: type[Settings] = NoSettings
    choose: Callable[..., Choice[Rows, Values]] | None = None
    prepare: Callable[[Any, Any, Mapping[str, Any]], Any] | None = None
    announces: bool = False
