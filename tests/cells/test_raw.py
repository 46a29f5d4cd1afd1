"""Labels of cells, as columns of tables and of ``obs`` hold them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from celllm.cells.raw import category_names, check_labels, warn_of_missing_words
from celllm.errors import UserError


@pytest.mark.parametrize(
    ("column", "names"),
    [
        (["T cell ", " B\u00a0", "NK"], ["T cell", "B", "NK"]),
        (["", " ", None, np.nan, pd.NA], [None] * 5),
        (["nan", "NA", "None", "-"], ["nan", "NA", "None", "-"]),
        ([0.0, 11.0, np.nan], ["0", "11", None]),
        ([0.5, 1.0], ["0.5", "1"]),
        ([3, 4], ["3", "4"]),
        ([True, False], ["True", "False"]),
        (pd.Categorical(["a", "b", None], categories=["b", "a", "c"]), ["a", "b", None]),
        (pd.array(["a", pd.NA], dtype="string"), ["a", None]),
        (pd.array([1, pd.NA], dtype="Int64"), ["1", None]),
        (["nanocyte", "unknown", "none of these"], ["nanocyte", "unknown", "none of these"]),
    ],
)
def test_labels_are_text(column: Any, names: list[str | None]) -> None:
    assert category_names(pd.Series(column)) == names


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["T", None, None], "2 of 3 cells have no label, e.g. '1'$"),
        (["T cell", "B", "t cell"], "the labels 'T cell' and 't cell' differ only in capitals or spaces"),
        (["T cell", "B", "T  cell"], "the labels 'T cell' and 'T  cell' differ"),
        ([f"c{i}" for i in range(60)], "60 different labels for 60 cells"),
    ],
)
def test_labels_that_would_make_wrong_classes_are_refused(labels: list[str | None], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_labels(pd.Series(labels, dtype=object), "cells.h5ad")
    check_labels(pd.Series(["T cell", "T cells", "B"]), "cells.h5ad")


def test_a_class_that_may_be_a_missing_value_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    labels = pd.Series(["T", "nan", "NA", "nan"])
    check_labels(labels, "cells.h5ad")
    warn_of_missing_words(labels, "cells.h5ad")
    warned = {record.getMessage() for record in caplog.records}
    assert warned == {
        "cells.h5ad: 2 cells have the label 'nan'; it is taken as a class",
        "cells.h5ad: 1 cells have the label 'NA'; it is taken as a class",
    }
