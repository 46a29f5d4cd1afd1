"""Files as users have them, from a folder of cases (CELLLM_CASES): all forms of a table give its numbers."""

import os
from pathlib import Path

import numpy as np
import pytest

from celllm.cells import h5ad
from celllm.cells.check import run_check
from celllm.cells.prepare import run_prepare
from celllm.cells.responses import read_responses, run_responses
from celllm.errors import UserError

CASES = Path(os.environ.get("CELLLM_CASES", "/nowhere"))
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="CELLLM_CASES names no folder of cases")
GENES = {"genes": CASES / "00-common/genes.tsv", "aliases": CASES / "00-common/aliases.tsv"}
META = CASES / "30-trailing-blank-line/good_meta.csv"


def _files(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in CASES.glob(pattern))


def _cells(matrix: Path, out: Path) -> np.ndarray:
    run_prepare("gse149383", {"matrix": matrix, "labels": META}, settings={}, out=out, **GENES)
    return h5ad.read(out).X.toarray()


@pytest.mark.parametrize("matrix", _files("1[23]-*/*.csv", "3[0-4]-*/*.csv"), ids=lambda path: path.name)
def test_every_form_of_a_matrix_gives_its_counts_or_one_line(tmp_path: Path, matrix: Path) -> None:
    if "meta" in matrix.name:
        pytest.skip("a table of labels")
    expected = _cells(CASES / "30-trailing-blank-line/good.csv", tmp_path / "good.h5ad")
    if matrix.name in ("decimal_comma.csv", "thousands.csv"):
        with pytest.raises(UserError, match=r"line 2: '.*' has a decimal or thousands comma"):
            _cells(matrix, tmp_path / "x.h5ad")
    else:
        np.testing.assert_array_equal(_cells(matrix, tmp_path / "x.h5ad"), expected)


@pytest.mark.parametrize(
    "response", _files("5[12]-*/*.csv", "51-*/*.xlsx", "51-*/*.XLSX"), ids=lambda path: path.name
)
def test_every_form_of_a_response_table_gives_its_values_or_one_line(tmp_path: Path, response: Path) -> None:
    if response.stem in ("drugs", "lines"):
        pytest.skip("another table")
    others = {name: CASES / f"51-gdsc-releases/{name}.csv" for name in ("lines", "drugs")}
    others["smiles"] = CASES / "51-gdsc-releases/smiles.tsv"
    out = tmp_path / "out.csv"
    run_responses("gdsc2", {"response": CASES / "51-gdsc-releases/good.csv", **others}, {}, out)
    expected = read_responses(out)
    try:
        run_responses("gdsc2", {"response": response, **others}, {}, out)
    except UserError as error:
        assert "\n" not in str(error)
        assert response.name in str(error)
        return
    found = read_responses(out).merge(expected, on=["cell_line", "drug"], suffixes=("", "_expected"))
    if response.stem in ("na_ic50", "blank_ic50"):  # other values, one of them missing
        assert len(found) == len(expected) - 1
    elif "repeated" not in response.name:
        assert found["ln_ic50"].equals(found["ln_ic50_expected"])


@pytest.mark.parametrize(
    "file",
    _files("0*/*.h5ad*", "0*/*.zarr", "1*/*.h5ad", "2*/*.h5*"),
    ids=lambda path: f"{path.parent.name[:2]}-{path.name}",
)
def test_cells_are_described_or_refused_in_one_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = ("01-log2", "14-negative", "07-no-counts", "19-repeated", "21-genes", "24-nan")
    must_be = file.parent.name.startswith(refused) or "02-" in str(file.parent)
    if must_be and file.name != "smoothed_dense.h5ad":
        with pytest.raises(UserError) as raised:
            run_check(file, **GENES)
        assert "\n" not in str(raised.value)
    else:
        run_check(file, **GENES)
        assert "genes are in the vocabulary" in capsys.readouterr().out
