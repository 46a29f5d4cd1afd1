"""What a method is: fitted on cells that are known, it returns a function that predicts others.

The two steps are apart on purpose. While it is fitted, a method is given the cells it may learn from and the
labelled cells it may choose on, and nothing else; the test cells reach it only afterwards, without labels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Labels = NDArray[np.str_]


class NotApplicableError(Exception):
    """A method cannot be used on these cells for a reason that lies in them, not in a mistake."""


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
    """

    rows: NDArray[np.int64]
    ids: Labels
    counts: csr_matrix
    labels: Labels | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def known(self) -> Labels:
        """The labels; asking for those of test cells is a mistake in the method."""
        if self.labels is None:
            raise ValueError("a method asked for the labels of cells that it has to predict")
        return self.labels


Predict = Callable[[Part], Labels]

Rows = TypeVar("Rows")  # Part in cell annotation, Pairs in drug response
Values = TypeVar("Values")


@dataclass(frozen=True)
class Method(Generic[Rows, Values]):
    """A method and what a protocol must know of it.

    Attributes
    ----------
    fit : callable
        ``fit(train, selection, settings, seed)`` returns ``predict(part) -> labels``. ``selection`` holds the
        labelled cells to choose on: the validation part under ``strict``, the test part under ``paper``.
    settings : type
        Dataclass of its settings.
    chooses : bool
        Whether it chooses anything on ``selection``. A method that does not is given None there, and trains
        on training and validation cells together under both protocols.
    """

    fit: Callable[[Rows, Rows | None, Any, int], Callable[[Rows], Values]]
    settings: type
    chooses: bool = False


@dataclass(frozen=True)
class NoSettings:
    """Settings of a method that has none."""
