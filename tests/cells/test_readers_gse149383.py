from pathlib import Path

import numpy as np
import pytest

from celllm.cells.readers.gse149383 import Options, read
from celllm.errors import UserError

MATRIX = (
    ",resis_GCGAGCCGAGGC,sens_GTTTGCTGTTTC,sens_AATCAAACCAAN\nGATA1,3,0,0\nhsa-mir-490,0,0,1\nACTB,0,120,7\n"
)
META = (
    "sens_GTTTGCTGTTTC,erl,20925,sensitive\nsens_AATCAAACCAAN,erl,18430,sensitive\n"
    "resis_GCGAGCCGAGGC,erlres,228,resistant\n"
)


def _write(folder: Path, matrix: str = MATRIX, meta: str = META) -> dict[str, Path]:
    paths = {"matrix": folder / "erl_total_data_2K.csv", "labels": folder / "erl_total_2K_meta.csv"}
    paths["matrix"].write_text(matrix)
    paths["labels"].write_text(meta)
    return paths


def test_labels_are_joined_by_id_and_not_by_position(tmp_path):
    raw = read(_write(tmp_path), Options())
    assert raw.obs.index.tolist() == ["resis_GCGAGCCGAGGC", "sens_GTTTGCTGTTTC", "sens_AATCAAACCAAN"]
    assert raw.obs["label"].tolist() == ["resistant", "sensitive", "sensitive"]
    assert raw.obs["sample"].tolist() == ["erlres", "erl", "erl"]
    assert raw.genes == ["GATA1", "hsa-mir-490", "ACTB"]
    np.testing.assert_array_equal(raw.matrix.toarray(), [[3, 0, 0], [0, 0, 120], [0, 1, 7]])
    assert raw.report == {"n_labels_without_cell": 0}


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (
            META.replace("erlres", "erl"),
            "line 3: the group 'erl' and the label 'resistant' do not go together",
        ),
        (
            META.replace(",sensitive", ",Sensitive"),
            "line 1: the group 'erl' and the label 'Sensitive' do not go",
        ),
        (
            META.replace("sens_AATCAAACCAAN", "sens_GTTTGCTGTTTC"),
            "the cell 'sens_GTTTGCTGTTTC' occurs twice",
        ),
        (META[: META.index("resis")], "1 of 3 cells have no label, e.g. 'resis_GCGAGCCGAGGC'"),
        (META.replace("erlres", "erLres"), "line 3: the group 'erLres' and the label 'resistant' do not go"),
        (META[:-12], "line 3 has 3 fields, expected 4"),
        ("", "the file is empty"),
    ],
)
def test_bad_labels_are_one_line_that_names_their_file(tmp_path, meta, message):
    files = _write(tmp_path, meta=meta)
    with pytest.raises(UserError, match=message) as raised:
        read(files, Options())
    assert str(raised.value).startswith(str(files["labels"]))


def test_totals_in_the_labels_are_those_of_the_matrix_where_most_are(tmp_path):
    meta = META.replace("20925", "120").replace("18430", "8").replace("228", "3")
    assert len(read(_write(tmp_path, meta=meta), Options()).obs) == 3
    with pytest.raises(UserError, match=r"the counts of cell 'sens_AATCAAACCAAN' sum to 12, but .* says 8"):
        read(_write(tmp_path, MATRIX.replace("120,7", "120,11"), meta), Options())


def test_a_truncated_matrix_is_refused(tmp_path):
    with pytest.raises(UserError, match="line 4 has 3 fields, expected 4"):
        read(_write(tmp_path, matrix=MATRIX[:-3]), Options())


@pytest.mark.mirror
def test_the_real_cells(mirror):
    folder = mirror / "gse149383"
    raw = read(
        {"matrix": folder / "erl_total_data_2K.csv", "labels": folder / "erl_total_2K_meta.csv"}, Options()
    )
    raw.check("gse149383")
    assert raw.matrix.shape == (400, 15442)
    assert raw.obs["label"].value_counts().to_dict() == {"sensitive": 200, "resistant": 200}
    rows = [line.split(",") for line in (folder / "erl_total_2K_meta.csv").read_text().splitlines()]
    umis = {cell: int(n) for cell, _, n, _ in rows}
    totals = np.asarray(raw.matrix.sum(axis=1)).ravel().tolist()
    assert totals == [umis[cell] for cell in raw.obs.index]
