"""The method of docs/extending.md runs as it stands."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from celllm.methods.method import Part

PAGE = Path(__file__).parents[2] / "docs/extending.md"


@pytest.fixture
def method() -> Any:
    (code,) = re.findall(r"```python\n(import numpy.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    module: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), module)
    return module["METHOD"]


def part(labelled: bool) -> Part:
    """Twenty cells of two classes that express different halves of six genes."""
    labels = np.array(["a", "b"] * 10)
    rates = np.where(labels[:, None] == "a", [9, 9, 9, 1, 1, 1], [1, 1, 1, 9, 9, 9])
    counts = csr_matrix(np.random.default_rng(0).poisson(rates).astype(np.float32))
    ids = np.array([f"cell{i}" for i in range(20)])
    return Part(np.arange(20), ids, counts, labels if labelled else None)


@pytest.mark.parametrize(("shrink", "right"), [(0.0, 1.0), (1.0, 0.5)])
def test_the_method_of_the_page_predicts(method: Any, shrink: float, right: float) -> None:
    predict = method.fit(part(labelled=True), method.settings(shrink=shrink), 0)
    assert (predict(part(labelled=False)) == part(labelled=True).labels).mean() == right
