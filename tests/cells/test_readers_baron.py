import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from celllm.cells.readers.baron import Options, read
from celllm.errors import UserError

HEADER = ",barcode,assigned_cluster,A1BG,GATA1,pk\n"
HUMAN1 = (
    HEADER
    + "human1_lib1.final_cell_0001,GATG-GGG,beta,0,3,1\nhuman1_lib1.final_cell_0002,GATC-GGG,t_cell,2,0,0\n"
)
HUMAN3 = HEADER + "human3_lib1.final_cell_0001,GATG-GGG,alpha,0,0,9\n"
MOUSE = ",barcode,assigned_cluster,Actb\nmouse1_lib1.final_cell_0001,GATG-GGG,beta,4\n"


def _write(folder: Path, **donors: str) -> dict[str, Path]:
    path = folder / "GSE84133_RAW.tar"
    with tarfile.open(path, "w") as archive:
        for number, (donor, text) in enumerate(donors.items()):
            content = gzip.compress(text.encode())
            entry = tarfile.TarInfo(f"GSM22307{number:02d}_{donor}_umifm_counts.csv.gz")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return {"matrix": path}


def test_the_human_members_are_read_and_no_mouse(tmp_path):
    raw = read(_write(tmp_path, human1=HUMAN1, mouse1=MOUSE, human3=HUMAN3), Options())
    assert raw.obs.index.tolist() == [
        "human1_lib1.final_cell_0001", "human1_lib1.final_cell_0002", "human3_lib1.final_cell_0001",
    ]  # fmt: skip
    assert raw.obs["sample"].tolist() == ["human1", "human1", "human3"]
    assert raw.obs["label"].tolist() == ["beta", "t_cell", "alpha"]
    assert raw.genes == ["A1BG", "GATA1", "pk"]
    np.testing.assert_array_equal(raw.matrix.toarray(), [[0, 3, 1], [2, 0, 0], [0, 0, 9]])
    assert raw.report == {"n_donors": 2}
    assert Options().drop_labels == ("t_cell",)


@pytest.mark.parametrize(
    ("human3", "message"),
    [
        (
            HUMAN3.replace("A1BG", "A1CF"),
            "human3_umifm_counts.csv.gz: its genes are not those of GSM2230700_human1",
        ),
        (HUMAN3.replace(",9", ""), "line 2 has 5 fields, expected 6"),
        (HUMAN3.replace("barcode", "id"), "expected the columns barcode, assigned_cluster after the cell id"),
        (HEADER, "a header and no rows"),
        (HUMAN3.replace(",9", ",x9"), "line 2: 'x9' is not a number"),
    ],
)
def test_a_bad_member_is_one_line(tmp_path, human3, message):
    with pytest.raises(UserError, match=message) as raised:
        read(_write(tmp_path, human1=HUMAN1, human3=human3), Options())
    assert "\n" not in str(raised.value)


def test_an_archive_without_human_members_is_refused(tmp_path):
    with pytest.raises(UserError, match="no member matches"):
        read(_write(tmp_path, mouse1=MOUSE), Options())


def test_a_truncated_archive_is_refused(tmp_path):
    files = _write(tmp_path, human1=HUMAN1, human3=HUMAN3)
    files["matrix"].write_bytes(files["matrix"].read_bytes()[:600])
    with pytest.raises(UserError, match="truncated or damaged"):
        read(files, Options())


@pytest.mark.mirror
def test_the_real_cells(mirror):
    raw = read({"matrix": mirror / "baron" / "GSE84133_RAW.tar"}, Options())
    raw.check("baron")
    assert raw.matrix.shape == (240, 12473)
    assert raw.obs["sample"].value_counts().to_dict() == {
        "human1": 76,
        "human2": 65,
        "human3": 71,
        "human4": 28,
    }
    assert raw.obs["label"].value_counts().to_dict() == {
        "macrophage": 55, "beta": 35, "delta": 35, "activated_stellate": 35, "alpha": 35, "mast": 25,
        "epsilon": 18, "t_cell": 2,
    }  # fmt: skip
