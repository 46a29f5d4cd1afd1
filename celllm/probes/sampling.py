"""Random cells for a probe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celllm.errors import UserError


def draw(
    fitting: NDArray[np.bool_], n: int, seed: int | Sequence[int], least: int, where: str | Path
) -> NDArray[np.int64]:
    """Rows of ``n`` random cells among those that fit, or of all where fewer do.

    When fewer than ``least`` fit it is a :class:`UserError` that names the file ``where``.
    """
    rows: NDArray[Any] = np.flatnonzero(fitting)
    if len(rows) < least:
        raise UserError(f"{where}: {len(rows)} cell(s) with an expressed gene; expected {least} or more")
    return np.random.default_rng(seed).choice(rows, min(n, len(rows)), replace=False)
