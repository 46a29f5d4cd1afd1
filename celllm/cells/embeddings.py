"""Embeddings of cells made elsewhere: ``emb.h5ad#obsm/X_scgpt``, or ``emb.npy + names.txt``.

One row for each cell of a prepared data set, in any order, under the names that its ``obs_names`` has.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celllm.errors import UserError, one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def files_of(place: str) -> list[str]:
    """The files of a place: ``a.npy + b.txt`` has two, ``a.h5ad#obsm/X`` one."""
    return [part.partition("#")[0] for part in place.split(" + ")]


def read_embeddings(place: str, cells: Sequence[str]) -> "NDArray[np.float32]":
    """Read embeddings, (n_cells, dim) in the order of ``cells``, the names of the data set's cells.

    ``place`` is ``FILE.h5ad#obsm/KEY`` (or ``#X``); or ``FILE.npy + NAMES``, a text file with the name of one
    cell a line, in the order of the rows. :class:`UserError` for a file that is missing or of another kind,
    other rows than one finite vector for each cell, and cells that the data set does not have.
    """
    import numpy as np

    values, names = _read(place)
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not values.size:
        shape = " x ".join(map(str, values.shape))
        raise UserError(f"{place}: expected numbers, cells x dimensions, got {values.dtype} of {shape}")
    if len(values) != len(names):
        raise UserError(f"{place}: {len(values)} rows for {len(names)} names; expected one row for each cell")
    row = {name: number for number, name in enumerate(names)}
    twice = [name for name, times in Counter(names).items() if times > 1]
    _refuse(place, twice, "stands there more than once")
    _refuse(place, [name for name in cells if name not in row], f"of {len(cells)} has no row there")
    known = set(cells)
    _refuse(place, [name for name in names if name not in known], "is not in the data set")
    with np.errstate(over="ignore"):
        ordered = values[[row[name] for name in cells]].astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(ordered).all(axis=1))
    _refuse(place, [cells[number] for number in bad.tolist()], "holds NaN or infinity")
    return ordered


def _refuse(place: str, names: Sequence[str], what: str) -> None:
    if names:
        more = f" ({len(names)} such cells)" if len(names) > 1 else ""
        raise UserError(
            f"{place}: the cell '{names[0]}' {what}{more}; expected one row of numbers for every cell of the "
            "prepared data set, under its obs_names"
        )


def _read(place: str) -> "tuple[NDArray[Any], list[str]]":
    """Rows and the names of their cells."""
    import h5py
    import numpy as np
    from anndata.io import read_elem

    from celllm.cells.counts import read_obs

    paths = files_of(place)
    for path in paths:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file")
    file, _, key = place.partition("#")
    if len(paths) == 1 and file.endswith((".h5ad", ".h5")):
        names = [str(name) for name in read_obs(file).index]
        with h5py.File(file, "r") as handle:
            there = ["X", *(f"obsm/{name}" for name in handle.get("obsm", {}))]
            if key not in there or key not in handle:
                raise UserError(
                    f"{file}#{key}: no such array; there are {', '.join(k for k in there if k in handle)}"
                )
            found = read_elem(handle[key])
        return found.toarray() if hasattr(found, "toarray") else np.asarray(found), names  # a data frame too
    if len(paths) == 2 and paths[0].endswith(".npy"):
        try:
            found = np.load(paths[0], allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(
                f"{paths[0]}: not an array of numbers in NumPy's format ({one_line(error)})"
            ) from error
        return found, Path(paths[1]).read_text(encoding="utf-8").splitlines()
    raise UserError(f"{place}: expected FILE.h5ad#obsm/KEY, or FILE.npy + a file with the names of the cells")
