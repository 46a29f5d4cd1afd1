from pathlib import Path

import numpy as np
import pytest

from celllm.cells.readers.ccle import Options, read
from celllm.errors import UserError

OLD = ",TSPAN6 (7105),GATA1 (2623),HLA-A (3105)\nACH-000001,3.0,0.0,1.584963\nACH-000002,0.0,15.0,0\n"
NEW = (
    ",SequencingID,ModelID,IsDefaultEntryForModel,TSPAN6 (7105),GATA1 (2623)\n"
    "0,CDS-1,ACH-000001,Yes,3,0\n1,CDS-2,ACH-000001,No,4,0\n2,CDS-3,ACH-000002,Yes,0,1\n"
)
SAMPLE_INFO = (
    "DepMap_ID,cell_line_name,CCLE_Name,COSMICID,primary_disease,Sanger_Model_ID\n"
    'ACH-000001,NIH:OVCAR-3,NIHOVCAR3_OVARY,905933.0,"Ovarian, Cancer",SIDM00105\n'
)
MODEL = (
    "ModelID,CellLineName,COSMICID,OncotreePrimaryDisease,SangerModelID\n"
    "ACH-000002,HL-60,905938,AML,SIDM00829\n"
)


def _write(folder: Path, expression: str = OLD, lines: str | None = None) -> dict[str, Path]:
    paths = {"expression": folder / "CCLE_expression.csv"}
    paths["expression"].write_text(expression)
    if lines is not None:
        paths["lines"] = folder / "lines.csv"
        paths["lines"].write_text(lines)
    return paths


def test_logarithms_become_tpm(tmp_path):
    raw = read(_write(tmp_path), Options())
    assert raw.genes == ["TSPAN6", "GATA1", "HLA-A"]
    assert raw.obs.index.tolist() == raw.obs["sample"].tolist() == ["ACH-000001", "ACH-000002"]
    np.testing.assert_allclose(raw.matrix.toarray(), [[7, 0, 2], [0, 32767, 0]], rtol=1e-6)
    assert (raw.values, raw.take_log) == ("tpm", False)
    assert read(_write(tmp_path), Options(values="log2_tpm")).take_log


def test_of_the_later_layout_the_default_profiles_are_taken(tmp_path):
    raw = read(_write(tmp_path, NEW), Options())
    assert raw.obs.index.tolist() == ["ACH-000001", "ACH-000002"]
    np.testing.assert_allclose(raw.matrix.toarray(), [[7, 0], [0, 1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("lines", "names", "diseases"),
    [(SAMPLE_INFO, ["NIH:OVCAR-3", ""], ["Ovarian, Cancer", ""]), (MODEL, ["", "HL-60"], ["", "AML"])],
)
def test_names_of_the_lines_come_from_either_table(tmp_path, lines, names, diseases):
    obs = read(_write(tmp_path, lines=lines), Options()).obs
    assert obs["name"].tolist() == names
    assert obs["disease"].tolist() == diseases


@pytest.mark.parametrize(
    ("lines", "column", "tissues"),
    [(SAMPLE_INFO, "lineage", ["ovary", ""]), (MODEL, "OncotreeLineage", ["", "ovary"])],
)
def test_tissues_are_read_where_the_table_has_them(tmp_path, lines, column, tissues):
    header, row = lines.splitlines()
    obs = read(_write(tmp_path, lines=f"{header},{column}\n{row},ovary\n"), Options()).obs
    assert obs["tissue"].tolist() == tissues
    assert "tissue" not in read(_write(tmp_path, lines=lines), Options()).obs


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            OLD.replace("3.0,", "3000.0,"),
            r"the largest value, 3000, is too large for log2\(TPM \+ 1\); are these TPM\?",
        ),
        (
            OLD.replace("3.0,", "-0.7,"),
            r"the value -0.7 of cell 'ACH-000001', gene 'TSPAN6 \(7105\)' is negative; log2",
        ),
        (OLD.replace("3.0,", "nan,"), "line 2: 'nan' is not a finite number"),
        (OLD.replace("3.0,", "inf,"), "line 2: 'inf' is not a finite number"),
        (OLD.replace("ACH-000002", "A549_LUNG"), "row: 'A549_LUNG' is not a DepMap id such as ACH-000001"),
        (OLD[:-6], "line 3 has 3 fields, expected 4"),
    ],
)
def test_a_table_of_another_kind_is_one_line(tmp_path, expression, message):
    with pytest.raises(UserError, match=message) as raised:
        read(_write(tmp_path, expression), Options())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("change", [np.log1p, lambda tpm: np.log10(tpm + 1)])
def test_a_logarithm_of_another_base_of_a_whole_genome_is_refused(tmp_path, change):
    tpm = np.random.default_rng(0).lognormal(0, 3, (2, 16_000))
    tpm *= 950_000 / tpm.sum(1, keepdims=True)
    header = "," + ",".join(f"G{i} ({i})" for i in range(16_000))

    def text(values):
        rows = [f"ACH-00000{i}," + ",".join(f"{v:.5f}" for v in row) for i, row in enumerate(values)]
        return "\n".join([header, *rows, ""])

    assert len(read(_write(tmp_path, text(np.log2(tpm + 1))), Options()).obs) == 2
    with pytest.raises(UserError, match="expected is up to 1,000,000; is the logarithm another one"):
        read(_write(tmp_path, text(change(tpm))), Options())


@pytest.mark.mirror
def test_the_real_layout(mirror):
    files = {
        "expression": mirror / "ccle" / "CCLE_expression.csv",
        "lines": mirror / "ccle" / "sample_info.csv",
    }
    raw = read(files, Options())
    raw.check("ccle")
    assert raw.matrix.shape == (460, 2506)
    assert raw.matrix.max() == pytest.approx(2**15 - 1, rel=1e-5)
    assert raw.obs.loc["ACH-000001", "name"] == "NIH:OVCAR-3"
    assert (raw.obs["name"] != "").all()
