import re
from pathlib import Path

import openpyxl
import pytest

from celllm.cells.responses import counts, read_responses, run_responses
from celllm.errors import UserError

IC50 = (
    '"","ACH-000001","ACH-000002","ACH-000003","ACH-000004"\n'
    '"GDSC:1",NA,1.5,-2.25,3\n"GDSC:11",0.5,NA,4,1\n"GDSC:2",1,2,3,4\n"GDSC:3",1,1,1,1\n"GDSC:4",7,7,7,7\n'
)
ANNOTATION = (
    "CCLE_ID\tdepMapID\tName\ttcga_code\n"
    "A_LUNG\tACH-000001\tHé\tLUAD\nB\tACH-000002\tB\tNA\nC\tACH-000003\tC\tPRAD\n"
)
LINES = "ACH-000001\tA\tLUAD\nACH-000002\tB\tNA\nACH-000003\tC\tPRAD\nACH-000004\tD\tLUAD\n"
DRUGS = (
    "drug_id,Name,Synonyms,Targets,Target pathway,PubCHEM,Sample Size,Count\n"
    '1,Erlotinib,"Tarceva, RG-1415",EGFR,EGFR signaling,176870,945,266\n'
    "11,Erlotinib,,EGFR,EGFR signaling,176870,945,266\n2,PD-0325901,,MEK,ERK,9826528,945,266\n"
    "3,Bleomycin,,DNA,DNA,several,945,266\n4,Nostructure,,X,Y,999,945,266\n"
)
SMILES = "176870\tC#Cc1cccc(Nc2ncnc3cc(OCCOC)c(OCCOC)cc23)c1\n9826528\tOCC(O)CONC(=O)c1ccc(F)c(F)c1\n"
RESPONSE = (
    "DATASET,COSMIC_ID,CELL_LINE_NAME,SANGER_MODEL_ID,DRUG_ID,DRUG_NAME,LN_IC50,AUC\n"
    "GDSC2,905933,NIH-OVCAR-3,,1,Erlotinib,1.25,0.9\nGDSC2,1,HL-60,SIDM00829,11,Erlotinib,-3.5,0.9\n"
    "GDSC2,905933,NIH-OVCAR-3,,1060,PD0325901,2.5,0.9\nGDSC2,777,UNKNOWN,,1,Erlotinib,9,0.9\n"
    "GDSC2,905933,NIH-OVCAR-3,,4444,Nosuchdrug,9,0.9\n"
)
SAMPLE_INFO = (
    "DepMap_ID,cell_line_name,primary_disease,COSMICID,Sanger_Model_ID\n"
    "ACH-000001,NIH:OVCAR-3,Ovarian,905933,\nACH-000002,HL-60,Leukemia,905938,SIDM00829\n"
)
DEEPCDR = {
    "ic50": ("GDSC_IC50.csv", IC50),
    "annotation": ("Cell_lines_annotations.txt", ANNOTATION),
    "lines": ("cancer_cell_line.info", LINES),
    "drugs": ("1.Drug_list Mon.csv", DRUGS),
    "smiles": ("223drugs_pubchem_smiles.txt", SMILES),
}
RELEASE = {
    "response": ("GDSC2_fitted.csv", RESPONSE),
    "lines": ("sample_info.csv", SAMPLE_INFO),
    "drugs": DEEPCDR["drugs"],
    "smiles": DEEPCDR["smiles"],
}


def _write(folder: Path, layout: dict[str, tuple[str, str]], **changes: str) -> dict[str, Path]:
    paths = {}
    for key, (name, text) in layout.items():
        paths[key] = folder / name
        paths[key].write_bytes(changes.get(key, text).encode("latin-1"))
    return paths


def test_deepcdr_s_rule(tmp_path):
    run_responses("gdsc", _write(tmp_path, DEEPCDR), "{}", tmp_path / "out.csv")
    table = read_responses(tmp_path / "out.csv")
    assert table.columns.tolist() == ["cell_line", "drug", "drug_name", "smiles", "screen", "ln_ic50"]
    # ACH-000004 has no annotation, drug 3 no PubChem id, drug 4 no structure
    assert counts(table) == {"n_pairs": 7, "n_distinct_pairs": 6, "n_lines": 3, "n_drugs": 2}
    first = table.iloc[0].tolist()
    assert first == ["ACH-000002", "176870", "Erlotinib", SMILES.split("\t")[1].split("\n")[0], "GDSC:1", 1.5]


def test_a_drug_screened_twice_can_be_merged_into_its_mean(tmp_path):
    run_responses("gdsc", _write(tmp_path, DEEPCDR), {"deduplicate": True}, tmp_path / "out.csv")
    table = read_responses(tmp_path / "out.csv").set_index(["cell_line", "drug"])
    assert len(table) == 6
    twice = table.loc[("ACH-000003", "176870")]
    assert (twice["ln_ic50"], twice["screen"]) == (0.875, "GDSC:1;GDSC:11")


def test_lines_can_be_limited_to_deepcdr_s_cancer_types(tmp_path):
    run_responses("gdsc", _write(tmp_path, DEEPCDR), {"tcga_label": True}, tmp_path / "out.csv")
    assert set(read_responses(tmp_path / "out.csv")["cell_line"]) == {"ACH-000001"}


def _as_workbook(path: Path) -> Path:
    book = openpyxl.Workbook()
    for line in path.read_text().splitlines():
        book.active.append(line.split(","))
    book.save(path.with_suffix(".xlsx"))
    return path.with_suffix(".xlsx")


@pytest.mark.parametrize("workbook", [False, True])
def test_a_release_of_gdsc_is_joined_by_ids_and_names(tmp_path, caplog, workbook):
    files = _write(tmp_path, RELEASE)
    if workbook:
        files["response"] = _as_workbook(files["response"])
    with caplog.at_level("INFO"):
        run_responses("gdsc2", files, "{}", tmp_path / "out.csv")
    table = read_responses(tmp_path / "out.csv")
    assert table[["cell_line", "drug", "ln_ic50"]].values.tolist() == [
        ["ACH-000001", "176870", 1.25],
        ["ACH-000002", "176870", -3.5],
        ["ACH-000001", "9826528", 2.5],
    ]
    assert "gdsc2: n_without_line 1" in caplog.messages
    assert "gdsc2: n_without_drug 1" in caplog.messages


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ic50": IC50.replace("-2.25", "resistant")}, "line 2: ACH-000003: 'resistant' is not a number"),
        ({"ic50": IC50.replace("-2.25", "inf")}, "line 2: ACH-000003: 'inf' is not a finite number"),
        ({"ic50": IC50.replace("GDSC:11", "11")}, "line 3 starts with '11', expected an id such as GDSC:1"),
        ({"ic50": IC50.replace("ACH-000004", "ACH-000001")}, "the column 'ACH-000001' occurs twice"),
        ({"ic50": IC50[:-3]}, "line 6 has 4 fields, expected 5"),
        ({"ic50": "<html>"}, r"a web page \(HTML\)"),
        ({"drugs": DRUGS.replace("PubCHEM", "PubChem")}, "the column 'PubCHEM' is missing"),
        ({"annotation": ANNOTATION.replace("depMapID", "id")}, "the column 'depMapID' is missing"),
        ({"annotation": ANNOTATION[: ANNOTATION.index("PRAD") - 3]}, "line 4 has 2 fields, expected 4"),
        (
            {"lines": LINES.replace("ACH-0", "ACH-9")},
            "no response is left: no line of it is listed in .*cancer_cell_line.info",
        ),
        ({"lines": LINES.replace("ACH-000003", "ACH-;00003")}, "line 3: 'ACH-;00003' is not a DepMap id"),
        ({"ic50": IC50.replace("ACH-000003", "ACH,000003")}, "'ACH,000003' is not a DepMap id"),
        ({"ic50": IC50 + '"GDSC:1",1,1,1,1\n'}, "line 7: 'GDSC:1' stands there twice"),
        ({"ic50": IC50.replace("-2.25", "-225")}, "-225 of drug GDSC:1 on ACH-000003; expected ln IC50"),
        ({"drugs": DRUGS.replace("\n2,", "\n2;,")}, "the drug_id '2;' is not a whole number"),
        ({"drugs": DRUGS + "1,Another,,,,999,1,1\n"}, "line 7: the drug_id 1 stands for two drugs"),
        ({"smiles": SMILES.replace("176870", "17687O")}, "line 1: '17687O' is not a PubChem id"),
        ({"smiles": SMILES + "999\t\n"}, "line 3: the PubChem id 999 has no SMILES"),
        ({"smiles": SMILES.replace("\t", " ")}, "line 1 has 1 fields, expected 2"),
    ],
)
def test_a_bad_file_is_one_line_and_nothing_is_written(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as raised:
        run_responses("gdsc", _write(tmp_path, DEEPCDR, **changes), "{}", tmp_path / "out" / "out.csv")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "1 of 4 lines of .* are not in .*annotations.txt: ACH-000004"),
        ({}, "1 of 3 PubChem ids of .*list Mon.csv are not in .*smiles.txt: 999"),
        ({"ic50": IC50.replace('"GDSC:2",1,2,3,4\n', "")}, "1 of 3 drugs of .* are not in .*IC50.csv: 2"),
        ({"smiles": SMILES.replace("9826528", "9826529")}, "1 of 2 PubChem ids of .*smiles.txt are not in"),
        (
            {"smiles": SMILES.replace("C(=O)c1", "C(<O)c1")},
            r"smiles.txt: line 2: 'OCC.*' is not a SMILES that",
        ),
        ({"drugs": DRUGS.replace("Nostr", "@ostr")}, "line 6: '@' in the name of the drug '@ostructure'"),
        ({"smiles": SMILES[:-3]}, "the last line has no line end; is the file complete"),
    ],
)
def test_what_does_not_match_between_the_files_is_a_warning(tmp_path, caplog, changes, message):
    run_responses("gdsc", _write(tmp_path, DEEPCDR, **changes), "{}", tmp_path / "out.csv")
    assert any(
        re.search(message, told.getMessage()) for told in caplog.records if told.levelname == "WARNING"
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [(lambda i: i / 60, "values from 0.01667 to 1, as AUC has"), (lambda i: 10.0, "one value for all lines")],
)
def test_another_column_in_place_of_ln_ic50_is_refused(tmp_path, value, message):
    rows = [f"GDSC2,905933,A,,1,Erlotinib,{value(i)},0.5" for i in range(1, 61)]
    response = "\n".join([RESPONSE.splitlines()[0], *rows, ""])
    with pytest.raises(UserError, match=f"{message}.*; expected ln IC50 .*are the columns in order"):
        run_responses("gdsc2", _write(tmp_path, RELEASE, response=response), "{}", tmp_path / "out.csv")


def test_a_response_table_of_positive_values_and_an_id_of_two_lines_are_warnings(tmp_path, caplog):
    rows = [f"GDSC2,905933,A,,1,Erlotinib,{i / 7},0.5\n" for i in range(1, 61)]
    files = _write(tmp_path, RELEASE, response=RESPONSE.splitlines()[0] + "\n" + "".join(rows))
    run_responses("gdsc2", files, "{}", tmp_path / "out.csv")
    assert any("no value is below 0; ln IC50 in µM is expected" in told for told in caplog.messages)
    files = _write(tmp_path, RELEASE, lines=SAMPLE_INFO.replace("905938", "905933"))
    run_responses("gdsc2", files, "{}", tmp_path / "out.csv")
    assert any("ids of two lines are passed over: 905933" in told for told in caplog.messages)
    assert set(read_responses(tmp_path / "out.csv")["cell_line"]) == {"ACH-000002"}


def test_a_row_that_stands_twice_and_an_id_that_is_none(tmp_path, caplog):
    twice = RESPONSE + RESPONSE.splitlines()[1] + "\n"
    run_responses("gdsc2", _write(tmp_path, RELEASE, response=twice), "{}", tmp_path / "out.csv")
    assert any(
        "1 rows repeat the drug and line of another one, e.g. drug GDSC:1 on ACH-000001" in told
        for told in caplog.messages
    )
    wrong = RESPONSE.replace(",1060,", ",1O60,")
    with pytest.raises(UserError, match="line 4: the id '1O60' is not a whole number"):
        run_responses("gdsc2", _write(tmp_path, RELEASE, response=wrong), "{}", tmp_path / "out.csv")


def test_the_options_and_files_are_checked(tmp_path):
    files = _write(tmp_path, RELEASE)
    out = tmp_path / "out.csv"
    with pytest.raises(UserError, match="unknown source of responses 'gdsc3'; known are gdsc, gdsc2"):
        run_responses("gdsc3", files, "{}", out)
    with pytest.raises(UserError, match="tcga_label belongs to DeepCDR's layout"):
        run_responses("gdsc2", files, {"tcga_label": True}, out)
    with pytest.raises(UserError, match=r"options of gdsc2\.dedup: unknown key 'dedup'"):
        run_responses("gdsc2", files, {"dedup": True}, out)
    with pytest.raises(UserError, match="gdsc: the file 'ic50' is missing"):
        run_responses("gdsc", files, "{}", out)


def _real(mirror: Path) -> dict[str, Path]:
    data = mirror / "gdsc" / "deepcdr" / "data"
    return {
        "ic50": data / "CCLE" / "GDSC_IC50.csv",
        "annotation": data / "CCLE" / "Cell_lines_annotations_20181226.txt",
        "lines": data / "cancer_cell_line.info",
        "drugs": data / "GDSC" / "1.Drug_listMon Jun 24 09_00_55 2019.csv",
        "smiles": data / "223drugs_pubchem_smiles.txt",
    }


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("options", "n_pairs", "n_distinct", "n_lines"),
    [
        ({}, 107_446, 101_063, 561),
        ({"tcga_label": True}, 94_314, 88_726, 494),
        ({"deduplicate": True}, 101_063, 101_063, 561),
    ],
)
def test_the_real_table_has_deepcdr_s_counts(mirror, tmp_path, options, n_pairs, n_distinct, n_lines):
    run_responses("gdsc", _real(mirror), options, tmp_path / "out.csv")
    table = read_responses(tmp_path / "out.csv")
    assert counts(table) == {
        "n_pairs": n_pairs, "n_distinct_pairs": n_distinct, "n_lines": n_lines, "n_drugs": 223,
    }  # fmt: skip
    if not options:
        values = table["ln_ic50"]
        found = [values.mean(), values.std(), values.median(), values.min(), values.max()]
        assert found == pytest.approx([2.13, 2.72, 2.59, -9.85, 12.90], abs=0.006)
        twice = table.groupby(["cell_line", "drug"])["ln_ic50"].agg(["size", "min", "max"]).query("size == 2")
        assert len(twice) == 6_383
        assert (twice["max"] - twice["min"]).median() == pytest.approx(1.04, abs=0.006)
        expression = (mirror / "ccle" / "CCLE_expression.csv").read_text().splitlines()[1:]
        expressed = table[table["cell_line"].isin([line.split(",", 1)[0] for line in expression])]
        assert counts(expressed) == {
            "n_pairs": 89_288, "n_distinct_pairs": 83_899, "n_lines": 460, "n_drugs": 223,
        }  # fmt: skip


@pytest.mark.mirror
def test_the_real_layout_of_a_release(mirror, tmp_path):
    files = _real(mirror)
    response = mirror / "gdsc" / "GDSC_release8.5" / "GDSC2_fitted_dose_response_27Oct23.csv"
    files = {
        "response": response,
        "lines": mirror / "ccle" / "sample_info.csv",
        "drugs": files["drugs"],
        "smiles": files["smiles"],
    }
    run_responses("gdsc2", files, "{}", tmp_path / "out.csv")
    table = read_responses(tmp_path / "out.csv")
    assert counts(table)["n_pairs"] == 20_329
    assert counts(table)["n_lines"] == 493
    assert (table["screen"].nunique(), table["drug"].nunique()) == (44, 42)
