"""Every form of a delimited table that is read gives the same numbers; every other one is refused by line."""

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celllm.errors import UserError
from celllm.sources import delimited
from celllm.sources.delimited import identifier, number, read_numbers, rows

TABLE = "name,group,value\na,g 1,1.5\nb,g 2,2\nc,g 1,-3e-2\n"
FIELDS = [("a", "g 1", "1.5"), ("b", "g 2", "2"), ("c", "g 1", "-3e-2")]
NUMBERS = ",c1,c2,c3\nG1,0,1,2.5\nG2,3,0,0\n"
MATRIX = np.array([[0, 1, 2.5], [3, 0, 0]], dtype=np.float32)


def _lines(text: str, change: Callable[[int, str], str]) -> str:
    return "".join(f"{change(i, line)}\n" for i, line in enumerate(text.splitlines()))


HARMLESS: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "gzip": lambda t: gzip.compress(t.encode()),
    "byte order mark": lambda t: t.encode("utf-8-sig"),
    "CRLF": lambda t: t.replace("\n", "\r\n").encode(),
    "BOM and CRLF": lambda t: t.replace("\n", "\r\n").encode("utf-8-sig"),
    "UTF-16": lambda t: t.encode("utf-16"),
    "UTF-16 without mark": lambda t: t.encode("utf-16-le"),
    "UTF-32": lambda t: t.encode("utf-32"),
    "two marks": lambda t: b"\xef\xbb\xbf" + t.encode("utf-8-sig"),
    "old Macintosh": lambda t: t.replace("\n", "\r").encode(),
    "a hint to spreadsheets": lambda t: ("sep=;\n" + t.replace(",", ";")).encode(),
    "gzip in two parts": lambda t: gzip.compress(t[:9].encode()) + gzip.compress(t[9:].encode()),
    "big-endian UTF-16": lambda t: t.encode("utf-16-be"),
    "no last newline": lambda t: t[:-1].encode(),
    "a blank line at the end": lambda t: (t + "\n").encode(),
    "blank lines at the end": lambda t: (t + " \n\r\n\t\n").encode(),
    "a row of separators at the end": lambda t: (t + ",,\n").encode(),
    "a separator behind all lines": lambda t: _lines(t, lambda i, line: line + ",").encode(),
    "a separator behind all rows": lambda t: _lines(t, lambda i, line: line + "," * (i > 0)).encode(),
    "a separator behind the header": lambda t: _lines(t, lambda i, line: line + "," * (i == 0)).encode(),
    "semicolons": lambda t: t.replace(",", ";").encode(),
    "tabs": lambda t: t.replace(",", "\t").encode(),
    "all quoted": lambda t: _lines(t, lambda i, x: ",".join(f'"{f}"' for f in x.split(","))).encode(),
    "a comment in front": lambda t: ("# exported 2024\n" + t).encode(),
    "a comment with commas": lambda t: ("# a, b, c, d, e, f, g\n" + t).encode(),
}


@pytest.mark.parametrize("form", HARMLESS)
def test_harmless_forms_are_read_alike(tmp_path: Path, form: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(HARMLESS[form](TABLE))
    found = list(rows(path, ("name", "group", "value"), ","))
    assert [tuple(row.values()) for row in found] == FIELDS
    assert [tuple(row.values()) for row in rows(path, ("value", "name"), ",")] == [
        (v, n) for n, _, v in FIELDS
    ]
    path.write_bytes(HARMLESS[form](NUMBERS))
    table = read_numbers(path, ",")
    assert (table.row_names, table.columns) == (["G1", "G2"], ["c1", "c2", "c3"])
    np.testing.assert_array_equal(table.matrix.toarray(), MATRIX)


@pytest.mark.parametrize(
    "form", [f for f in HARMLESS if not {"rows", "header"} & set(f.split()) and "comment" not in f]
)
def test_tables_without_a_header_too(tmp_path: Path, form: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(HARMLESS[form](TABLE.partition("\n")[2]))
    found = list(rows(path, ("name", "group", "value"), ",", header=False))
    assert [tuple(row.values()) for row in found] == FIELDS


@pytest.mark.parametrize(
    "text",
    [
        "group,value\na,g 1,1.5\nb,g 2,2\nc,g 1,-3e-2\n",
        '"group","value"\n"a","g 1",1.5\n"b","g 2",2\n"c","g 1",-3e-2\n',
        "group,value\n1,g 1,1.5\n2,g 2,2\n3,g 1,-3e-2\n",
    ],
)
def test_a_header_that_lacks_the_field_above_the_row_names(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    found = [tuple(row.values()) for row in rows(tmp_path / "x.csv", ("group", "value"), ",")]
    assert found == [fields[1:] for fields in FIELDS]


def test_numbers_under_a_header_that_lacks_a_field(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(NUMBERS[1:])
    np.testing.assert_array_equal(read_numbers(tmp_path / "x.csv", ",").matrix.toarray(), MATRIX)


BAD = {
    "a longer row": (TABLE.replace("b,g 2", "b,g, 2"), "line 3 has 4 fields, expected 3; a separator inside"),
    "a shorter row": (TABLE.replace("g 2,", ""), "line 3 has 2 fields, expected 3"),
    "a row that is longer only by blanks": (
        TABLE.replace("g 2,2", "g 2,2,"),
        "line 3 has 4 fields, expected 3",
    ),
    "a cut end": (TABLE[:-8], "line 4 has 2 fields, expected 3"),
    "an empty line in the middle": (TABLE.replace("\nb", "\n\nb"), "line 3 is empty, but line 4 is not"),
    "all rows longer, first column repeated": (
        "set,name,value\nS,a, b,1\nS,c, d,2\n",
        "line 3 has 4 fields, expected 3",
    ),
    "a quote without an end": (TABLE.replace("g 2", '"g 2'), "line 3: a quoted field does not end"),
    "a quoted line break": (TABLE.replace("g 2", '"g\n2"'), "line 3: a quoted field does not end"),
    "a missing column": (
        TABLE.replace("group", "grp"),
        "the column 'group' is missing; .* found name, grp, value",
    ),
    "a doubled column": (TABLE.replace("group,value", "value,group,value"), "fields|occurs twice"),
    "the header again": (TABLE + TABLE, "line 5 is the header again; are two files in one"),
    "a control character": (
        TABLE.replace("g 2", "g\x02"),
        "line 3 has the control character 0x02 at character 4",
    ),
    "a mark of the end": (TABLE + "\x1a", "line 5 has the control character 0x1a at character 1"),
    "quotes behind backslashes": (TABLE.replace("g 2", '"g \\"2\\""'), "line 3: ',' expected after"),
    "a quoted part of a field": (TABLE.replace("g 2", '"g"2'), "line 3: ',' expected after"),
    "separators behind some rows": (TABLE.replace("2\n", "2,\n"), "line 3 has 4 fields, expected 3"),
    "a comment between the rows": (TABLE.replace("b,", "# b,\nb,"), "line 3 has 2 fields, expected 3"),
    "a blank line in front": ("\n" + TABLE, "line 1 is empty, but line 2 is not; remove it"),
    "bars": (TABLE.replace(",", "|"), "the column 'name' is missing; .* found name|group|value"),
    "capitals": (TABLE.upper(), "the column 'name' is missing; .* found NAME, GROUP, VALUE"),
    "a title in front": ("Table 1,,\n" + TABLE, "the column 'name' is missing; .* found Table 1"),
    "an error message": ("404: Not Found", "the column 'name' is missing; .* found 404: Not Found"),
    "JSON": ('{"a": 1}\n', "the column 'name' is missing"),
    "marks of a merge": (TABLE.replace("b,", "<<<<<<< HEAD\nb,"), "line 3 has 1 fields, expected 3"),
    "a pointer of Git LFS": (
        "version https://git-lfs.github.com/spec/v1\nsize 3\n",
        "is a pointer of Git LFS; get",
    ),
    "a web page": ("<!DOCTYPE html>\n<p>", r"a web page \(HTML\)"),
    "nothing": ("", "the file is empty"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_a_table_is_refused_by_line(tmp_path: Path, kind: str) -> None:
    text, message = BAD[kind]
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UserError, match=f"x.csv: {message}") as raised:
        list(
            rows(
                tmp_path / "x.csv",
                ("name", "value") if "repeated" in kind else ("name", "group", "value"),
                ",",
            )
        )
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NUMBERS.replace("G2,3", "G2,3,3"), "line 3 has 5 fields, expected 4"),
        (NUMBERS.replace(",0,0", ",0"), "line 3 has 3 fields, expected 4"),
        (NUMBERS.replace("G2,3", "G,2,3"), "line 3 has 5 fields, expected 4"),
        (NUMBERS.replace("2.5", ""), "line 2: a field is empty|line 2 has"),
        (NUMBERS.replace("0,1", ",1"), "line 2: a field is empty where a number is expected"),
        (NUMBERS.replace("3,0", "NA,0"), "line 3: 'NA' is not a number"),
        (NUMBERS.replace("3,0", "1_0,0"), "line 3: '1_0' is not a number"),
        (NUMBERS.replace("3,0", '"1,046",0'), "line 3: '1,046' has a decimal or thousands comma"),
        (NUMBERS.replace("3,0", "3 4,0"), "line 3: '3 4' is not a number"),
        (NUMBERS.replace(",", "\t").replace("3\t0", "3 4\t"), "line 3: '3 4' is not a number"),
        (NUMBERS.replace(",", ";").replace("2.5", "2,5"), "line 2: '2,5' has a decimal or thousands comma"),
        (NUMBERS.replace(",", "\t").replace("2.5", "2,5"), "line 2: '2,5' has a decimal or thousands comma"),
        (NUMBERS[:10], "a header and no rows"),
    ],
)
def test_numbers_that_are_none_are_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UserError, match=f"x.csv: ({message})"):
        read_numbers(tmp_path / "x.csv", ",")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NUMBERS.replace("3,0", f"{field},0"), f"line 3: '{field}' is not a (finite )?number")
        for field in ("NaN", "inf", "1e400", "1'234", "3D0", "0x3", "3L", "3%", "TRUE", "#DIV/0!", "1/2",
                      "1-Mar", "٣", "−3", "1.2.3", "1e", "n.d.", "3 uM")
    ]
    + [
        (NUMBERS.partition("\n")[2] + "G3,1,1,2\n", "line 1 holds numbers, expected names of the columns"),
        (NUMBERS.replace("G2", ""), "line 3 has no name in its first field"),
        (NUMBERS.replace("c2", ""), "line 1: the column 3 has no name"),
        (NUMBERS.replace(",", " "), "line 1 has 1 fields; expected columns separated by ','"),
        (NUMBERS + "G1,0,1,2.5\n" * 2, None),
        (NUMBERS + "G3,1,2,3\nG3,1,2,3\n", "line 5: 'G3' appears twice with the same numbers"),
    ],
)  # fmt: skip
def test_further_forms_of_numbers_and_names(
    tmp_path: Path, text: str, message: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x.csv").write_text(text)
    if message is None:  # two values can be the same by chance
        assert read_numbers(tmp_path / "x.csv", ",").row_names == ["G1", "G2", "G1", "G1"]
        assert caplog.messages[0].endswith("line 4: 'G1' appears twice with the same numbers")
        return
    with pytest.raises(UserError, match=f"x.csv: {message}"):
        read_numbers(tmp_path / "x.csv", ",")


@pytest.mark.parametrize("field", ["3", "3.0", "+3", "3e0", ".3e1", " 3", "3.", '"3"', "30E-1"])
def test_forms_of_a_number_that_are_read(tmp_path: Path, field: str) -> None:
    (tmp_path / "x.csv").write_text(NUMBERS.replace("3,0", f"{field},-0.0"))
    np.testing.assert_array_equal(read_numbers(tmp_path / "x.csv", ",").matrix.toarray(), MATRIX)


def test_a_last_line_without_an_end_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for text, n in ((TABLE, 0), (TABLE[:-1], 1)):
        (tmp_path / "x.csv").write_text(text)
        list(rows(tmp_path / "x.csv", ("name",), ","))
        assert [
            m for m in caplog.messages if "the last line has no line end; is the file complete?" in m
        ] == (caplog.messages)
        assert len(caplog.messages) == n


def test_a_zip_archive_is_no_workbook(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.csv", "w") as archive:
        archive.writestr("x.csv", TABLE)
    with pytest.raises(UserError, match="is a zip archive, and no workbook; unpack it"):
        list(rows(tmp_path / "x.csv", ("name",), ","))


def test_text_that_is_not_utf8_is_named_by_line_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(TABLE.replace("g 2", "µM").encode("latin-1"))
    with pytest.raises(
        UserError, match=r"line 3 is not UTF-8 text \(byte 0xb5 at character 3\); save it as UTF-8"
    ):
        list(rows(path, ("name",), ","))
    found = [row["group"] for row in rows(path, ("group",), ",", encoding="latin-1")]
    assert found == ["g 1", "µM", "g 1"]


def _workbook(path: Path, tables: list[list[list[object]]]) -> Path:
    book = openpyxl.Workbook()
    for i, table in enumerate(tables):
        sheet = book.active if i == 0 else book.create_sheet()
        for line in table:
            sheet.append(line)
    book.save(path)
    return path


SHEET: list[list[object]] = [["name", "value"], ["a", 1.5], ["b", None], ["c", 7]]


@pytest.mark.parametrize("suffix", [".xlsx", ".XLSX", ".csv", ""])
@pytest.mark.parametrize("before", [[], [[["read me"], [], ["first"]]]])
def test_a_workbook_is_read_by_its_content_from_the_sheet_that_has_the_columns(
    tmp_path: Path, suffix: str, before: list[list[list[object]]]
) -> None:
    path = _workbook(tmp_path / f"x{suffix}", [*before, SHEET])
    found = [tuple(row.values()) for row in rows(path, ("name", "value"), ",")]
    assert found == [("a", "1.5"), ("b", ""), ("c", "7")]


def test_rows_outside_the_declared_range_of_a_sheet_are_read(tmp_path: Path) -> None:
    import zipfile

    path, other = _workbook(tmp_path / "x.xlsx", [SHEET]), tmp_path / "y.xlsx"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "xl/worksheets/sheet1.xml":
                assert b'<dimension ref="A1:B4"' in content
                content = content.replace(b'ref="A1:B4"', b'ref="A1:A2"')
            target.writestr(name, content)
    assert [row["value"] for row in rows(other, ("name", "value"), ",")] == ["1.5", "", "7"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([["name"], ["a"]], "the column 'value' is missing"),
        ([*SHEET, [], ["d", 1]], "row 5 is empty, but row 6 is not"),
        ([*SHEET, ["d", 1, "spilled"]], "line 5 has 3 fields, expected 2"),
    ],
)
def test_a_sheet_of_another_form_is_refused(tmp_path: Path, table: list[list[object]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(rows(_workbook(tmp_path / "x.xlsx", [table]), ("name", "value"), ","))


def test_a_bad_cell_is_one_line(tmp_path: Path) -> None:
    import zipfile

    path, other = _workbook(tmp_path / "x.xlsx", [SHEET]), tmp_path / "y.xlsx"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b"<v>1.5</v>", b"<v>one</v>"))
    with pytest.raises(UserError, match=r"y\.xlsx: row 2 or a part behind it cannot be read"):
        list(rows(other, ("name", "value"), ","))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1010", "1010"), ("1010.0", "1010"), ("2244.00", "2244"), ("1,046", "1046"),
        ("1,234,567.0", "1234567"),
        ("905933.", "905933"), ("", ""), ("NA", ""), ("nan", ""), ("-", ""), ("None", ""), ("#N/A", ""),
        ("none", ""), ("several", "several"), ("SIDM00123", "SIDM00123"), ("12,34", "12,34"),
    ],
)  # fmt: skip
def test_identifiers_that_a_spreadsheet_made_numbers(text: str, meant: str) -> None:
    assert identifier(text, "x: line 2") == meant


@pytest.mark.parametrize("text", ["9.05e5", "9.05E+05", "1E+05"])
def test_an_identifier_that_was_rounded_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"^x: line 2: COSMIC_ID: the id '.*' is rounded; write ids as whole"):
        identifier(text, "x: line 2: COSMIC_ID")


@given(st.integers(0, 10**9))
def test_every_float_form_of_an_identifier_means_it(value: int) -> None:
    for form in (str(value), f"{value}.0", f"{value}.00", f"{value:,}", f"{value:,}.0"):
        assert identifier(form, "x") == str(value)


@pytest.mark.parametrize("text", ["", "NA", "na", "N/A", "NaN", "null", "None", "-", "#N/A", "\\N"])
def test_missing_values(text: str) -> None:
    assert number(text, "x") is None


@pytest.mark.parametrize("text", ["inf", "-Infinity", "1e999", "x", "1,5", "1_0", "--", "0x10"])
def test_values_that_are_no_numbers(text: str) -> None:
    with pytest.raises(UserError, match=r"^x: line 3: '"):
        number(text, "x: line 3")


_field = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufeff\u200b"), max_size=6
).map(str.strip)


@given(
    table=st.integers(2, 5).flatmap(
        lambda n: st.lists(
            st.lists(_field, min_size=n, max_size=n).filter(lambda row: row[0] not in ("", "#")),
            min_size=1,
            max_size=6,
        )
    ),
    delimiter=st.sampled_from(",;\t"),
    ending=st.sampled_from(["\n", "\r\n"]),
    blank=st.sampled_from(["", "\n", "\n\n"]),
)
def test_whatever_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str]], delimiter: str, ending: str, blank: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "property.csv"
    names = [f"column {i}" for i in range(len(table[0]))]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL).writerows(
        [names, *table]
    )
    path.write_bytes((text.getvalue() + blank).encode())
    expected = [[field.strip(delimited._INVISIBLE) for field in row] for row in table]
    assert [list(row.values()) for row in rows(path, names, ",")] == expected


@given(
    st.lists(st.lists(st.floats(0, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=5),
    st.integers(0, 4),
    st.integers(1, 3),
    st.booleans(),
)
def test_a_row_of_another_length_is_always_refused(
    tmp_path_factory: pytest.TempPathFactory, values: list[list[float]], at: int, n: int, longer: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "length.csv"
    lines = [[f"g{i}", *map(repr, row)] for i, row in enumerate(values)]
    text = "\n".join([",a,b,c", *(",".join(line) for line in lines)]) + "\n"
    path.write_text(text)
    np.testing.assert_array_equal(read_numbers(path, ",").matrix.toarray(), np.float32(values))
    place = at % len(lines)
    lines[place] = [*lines[place], *["7"] * n] if longer else lines[place][:-n]
    path.write_text("\n".join([",a,b,c", *(",".join(line) for line in lines)]) + "\n")
    with pytest.raises(
        UserError, match=f"line {place + 2} has {4 + n if longer else 4 - n} fields, expected 4"
    ):
        read_numbers(path, ",")
