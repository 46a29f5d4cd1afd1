import gzip
from pathlib import Path

import numpy as np
import pytest

from celllm.cells.readers.gse117872 import Options, read
from celllm.errors import UserError

TPM = "RHC1\tRHC2\tRHH3\nGATA1\t900000.5\t0\t0\nACTB\t99999.5\t1000000\t250000\nCD4\t0\t0\t750000\n"
HEADER = "groups\tcell_color\tpatient_id\torigin\tdrug_status\tcluster\tpca_clusters\tpagoda_clusters\t\n"
INFO = (
    HEADER
    + "RHH3\tHN137PCRDH\tbrown\tHN137\tPrimary\tHoliday\t3\t1\t1\n"
    + "RHC1\tHN120P\tbisque\tHN120\tPrimary\tSensitive\t1\t1\t1\n"
    + "RHC2\tHN120MCR\tblue\tHN120\tMetastatic\tResistant\t2\t1\t1\n"
)


def _write(folder: Path, tpm: str = TPM, info: str = INFO) -> dict[str, Path]:
    paths = {"matrix": folder / "good_Data_TPM.txt.gz", "labels": folder / "good_Data_cellinfo.txt.gz"}
    paths["matrix"].write_bytes(gzip.compress(tpm.encode()))
    paths["labels"].write_bytes(gzip.compress(info.encode()))
    return paths


@pytest.mark.parametrize(
    ("holiday", "labels"),
    [
        ("sensitive", ["sensitive", "resistant", "sensitive"]),
        ("resistant", ["sensitive", "resistant", "resistant"]),
        ("drop", ["sensitive", "resistant"]),
    ],
)
def test_the_status_stands_under_the_shifted_name_and_holiday_is_an_option(tmp_path, holiday, labels):
    raw = read(_write(tmp_path), Options(holiday=holiday))
    assert raw.obs["label"].tolist() == labels
    assert raw.obs.index.tolist() == ["RHC1", "RHC2", "RHH3"][: len(labels)]
    assert raw.matrix.shape == (len(labels), 3)
    assert raw.report == {"n_sensitive": 1, "n_resistant": 1, "n_holiday": 1}


def test_values_and_the_other_columns(tmp_path):
    raw = read(_write(tmp_path), Options())
    assert raw.values == "tpm"
    assert raw.genes == ["GATA1", "ACTB", "CD4"]
    np.testing.assert_array_equal(raw.matrix.toarray()[0], np.array([900000.5, 99999.5, 0], dtype=np.float32))
    assert raw.obs["sample"].tolist() == ["HN120P", "HN120MCR", "HN137PCRDH"]
    assert raw.obs["patient"].tolist() == ["HN120", "HN120", "HN137"]
    assert raw.obs["site"].tolist() == ["Primary", "Metastatic", "Primary"]
    assert raw.obs["drug_status"].tolist() == ["Sensitive", "Resistant", "Holiday"]


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (
            INFO.replace("drug_status\tcluster", "cluster\tdrug_status"),
            "the header starts with groups, .*; expected groups",
        ),
        (
            INFO.replace("Resistant", "Refractory"),
            "the sixth column holds 'Refractory', expected Sensitive, Resistant",
        ),
        (INFO.replace("RHC2", "RHC1"), "the cell 'RHC1' occurs twice"),
        (INFO[: INFO.index("RHC2")], "1 of 3 cells have no label, e.g. 'RHC2'"),
        (INFO.replace("\t1\t1\n", "\t1\n"), "line 2 has 8 fields, expected 9"),
    ],
)
def test_a_bad_cell_table_is_one_line(tmp_path, info, message):
    with pytest.raises(UserError, match=message) as raised:
        read(_write(tmp_path, info=info), Options())
    assert "\n" not in str(raised.value)


def test_logged_values_are_refused(tmp_path):
    raw = read(_write(tmp_path, tpm="RHC1\tRHC2\tRHH3\nGATA1\t9.5\t0\t0\nACTB\t3.25\t13.5\t2\n"), Options())
    with pytest.raises(
        UserError, match=r"the largest value, 13\.5, is too small for TPM; are the values log-transformed\?"
    ):
        raw.check("tpm")


@pytest.mark.mirror
def test_the_real_layout(mirror):
    folder = mirror / "gse117872"
    files = {
        "matrix": folder / "GSE117872_good_Data_TPM.txt.gz",
        "labels": folder / "GSE117872_good_Data_cellinfo.txt.gz",
    }
    raw = read(files, Options())
    raw.check("gse117872")
    assert raw.matrix.shape == (300, 11727)
    np.testing.assert_allclose(np.asarray(raw.matrix.sum(axis=1)), 1e6, rtol=1e-4)
    assert raw.report == {"n_sensitive": 154, "n_resistant": 112, "n_holiday": 34}
    assert raw.obs["label"].value_counts().to_dict() == {"sensitive": 188, "resistant": 112}
    assert raw.obs["patient"].value_counts().to_dict() == {"HN120": 136, "HN137": 120, "HN148": 44}
    assert set(raw.obs["drug_status"][raw.obs["patient"] == "HN148"]) == {"Sensitive"}
