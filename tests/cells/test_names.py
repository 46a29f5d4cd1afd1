# ruff: noqa: E501
"""Names that mean a known gene are found in every form that programs write; all others stay unknown."""

import datetime
import json
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from celllm.cells.genes import SymbolMap, Vocabulary, harmonise
from celllm.cells.names import looks_like_date, mangled, repairs
from celllm.cells.prepare import prepare
from celllm.cells.raw import RawCells
from celllm.cells.settings import CellOptions
from celllm.errors import UserError

SYMBOLS = (
    "ACTB", "C1orf112", "DELEC1", "NKX6-1", "NKX6-2", "H2AZ1", "HLA-A", "MARCHF1", "MARCHF3", "MARCHF7", "MT-CO1", "MTARC1", "NKX2-1",
    "POU5F1", *(f"SEPTIN{i}" for i in range(1, 12)), "TBCE", "TP53",
)  # fmt: skip
NAMES = [(s, s, "approved") for s in SYMBOLS] + [
    ("MARCH1", "MARCHF1", "previous"), ("MARC1", "MTARC1", "previous"), ("MARCH3", "MARCHF3", "previous"),
    ("MARCH7", "MARCHF7", "previous"), *((f"SEPT{i}", f"SEPTIN{i}", "previous") for i in range(1, 12)),
    ("DEC1", "DELEC1", "previous"), ("OCT4", "POU5F1", "alias"), ("H2A.Z-1", "H2AZ1", "alias"),
    ("7A5", "TBCE", "alias"), ("NKX6.1", "NKX6-2", "alias"), ("NKX2A", "NKX2-1", "previous"),
]  # fmt: skip
ENSEMBL = {"TP53": "ENSG00000141510", "ACTB": "ENSG00000075624"}
VOCABULARY = Vocabulary(SYMBOLS, tuple(ENSEMBL.get(s, "") for s in SYMBOLS))
MAP = SymbolMap(VOCABULARY, NAMES)

FORMS = {
    "spreadsheet date": {
        "SEPTIN2": ["2-Sep", "2-sep", "02-Sep", "Sep-02", "Sep-2", "2-Sept", "2. Sep", "02. Sep", "Sep 2", "2 Sep",
                    "2-Set", "2-sept.", "September 2", "2022-09-02", "2022-09-02 00:00:00", "2022-09-02T00:00:00",
                    "2022/09/02", "2.9.2022", "02.09.2022", "02-Sep-22", "2-Sep-2022", "2/Sep/22", "9月2日",
                    "X2.Sep", "Sep.02", "44806",
                    "44806.0", "9/2", "Friday, September 2, 2022", "Fri Sep 02 2022", "2 de septiembre", "2-szept",
                    "2-syys", "02-сен", "2-wrz", "2-zář", "Eyl-02", "２-Sep"],
        "SEPTIN11": ["9/11/2022", "11/9/2022", "9/11/22", "11-Sep", "Sep-11", "2001-09-11"],
        "SEPTIN9": ["2022-09-09", "9-Sep", "Sep-09", "9/9/2022"],
        "MARCHF7": ["7-Mar", "Mar-07", "07-Mär", "7. Mrz", "7-mars", "7-mrt", "2022-03-07", "07.03.2022", "7-Mar-22"],
        "DELEC1": ["1-Dec", "01-Dez", "Dec-01", "1-déc", "1-dic", "1-joulu", "1-gru", "01-дек", "12/1"],
        "POU5F1": ["4-Oct", "Oct-04", "4-Okt", "2022-10-04"],
    },
    "R's make.names": {
        "HLA-A": ["HLA.A", "HLA_A", "hla.a"], "MT-CO1": ["MT.CO1", "MT_CO1"], "NKX2-1": ["NKX2.1"], "NKX6-1": ["NKX6.1"], "NKX6-2": ["NKX6.2"],
        "H2AZ1": ["H2A.Z.1"], "TBCE": ["X7A5"],
    },
    "genome in front": {
        "TP53": ["GRCh38_TP53", "hg19_TP53", "GRCh38______TP53", "GRCh37_TP53", "hg38-TP53", "human_TP53",
                 "GRCh38.p13_TP53", "GRCh38_ENSG00000141510", "GRCh38_P53"][:-1],
        "HLA-A": ["GRCh38_HLA-A", "hg19_HLA-A", "GRCh38.HLA.A"],
    },
    "id in brackets": {"TP53": ["TP53 (7157)", "TP53 (Unknown)", "TP53(7157)", "TP53..7157.", "TP53..Unknown.", "TP53|7157", "7157|TP53",
                                "TP53 [7157]", "TP53 (HGNC:11998)"]},
    "Ensembl id beside the symbol": {
        "TP53": ["ENSG00000141510_TP53", "TP53|ENSG00000141510", "TP53_ENSG00000141510.19", "TP53 (ENSG00000141510)",
                 "ENSG00000141510.19|TP53", "TP53;ENSG00000141510", "ENSG00000141510:P53", "OLD_ENSG00000141510",
                 "ENSG00000141510-TP53", "TP53,ENSG00000141510"],
        "HLA-A": ["HLA-A_ENSG00000206503", "ENSG00000206503.14_HLA-A"],
    },
    "Ensembl id": {"TP53": ["ENSG00000141510", "ENSG00000141510.19", "ENSG00000141510.3_PAR_Y"]},
    "spaces or signs": {"TP53": [" TP53", "TP53 ", '"TP53"', "TP53\u00a0", "TP53\r", "\tTP53", "\ufeffTP53"], "HLA-A": ["HLA\u2011A"]},
    "case": {"TP53": ["tp53", "Tp53"], "C1orf112": ["C1ORF112"]},
    "": {"TP53": ["TP53"], "HLA-A": ["HLA-A"], "SEPTIN2": ["SEPT2"], "NKX2-1": ["NKX2A"]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "symbol", "form"),
    [
        (kind, symbol, form)
        for kind, symbols in FORMS.items()
        for symbol, forms in symbols.items()
        for form in forms
    ],
)
def test_a_form_of_a_name_is_read_and_its_kind_is_counted(kind: str, symbol: str, form: str) -> None:
    genes, kinds = MAP.meanings([form])
    assert (genes[0], kinds) == (VOCABULARY.index_of[symbol], [kind])


@pytest.mark.parametrize(
    "name",
    [
        "1-Mar",  # MARCH1 or MARC1
        "9/3/2022",  # 3 September or 9 March: SEPT3; 3 of 9 and 9 of 3
        "32-Sep", "13/13/2022", "2-Foo", "99999", "20220902", "1.5", "2022-09", "Sep", "22-Sep",
        "mm10_Tp53", "mm10___Tp53", "ENSMUSG00000059552", "ENSG00000999999", "ENSMUSG00000059552_Trp53",
        "TBCE-1", "NKX3.1", "RP11-34P13.7", "AC012345.1", "TP53-AS1", "TP53BP1", "", "nan", "HLA", "(7157)", "7157",
        "HGNC:11998", "NM_000546", "P04637", "TP53_HUMAN", "TP53-201", "ENST00000269305", "Trp53", "premrna_TP53",
        "?|100130426", "2e3", "#NAME?", "2/30",
    ],
)  # fmt: skip
def test_a_name_of_no_gene_or_of_two_stays_unknown(name: str) -> None:
    if name == "9/3/2022":
        both = {MAP.gene("SEPT3"), MAP.gene("MARCH9")}
        assert both == {
            VOCABULARY.index_of["SEPTIN3"],
            -1,
        }  # MARCH9 is not in this vocabulary: one gene is meant
        return
    assert MAP.gene(name) == -1


@pytest.mark.parametrize("name", ["NaN", "NA", "na", "null", "-"])
def test_a_missing_name_is_no_alias(name: str) -> None:
    """NaN is an alias of SCN11A, NA one of XK; in a file they are cells without a name."""
    assert SymbolMap(VOCABULARY, [*NAMES, (name, "TP53", "alias")]).gene(name) == -1


def test_a_date_of_two_genes_stays_unknown() -> None:
    both = SymbolMap(
        Vocabulary((*SYMBOLS, "MARCHF9"), ("",) * (len(SYMBOLS) + 1)),
        [*NAMES, ("MARCH9", "MARCHF9", "previous")],
    )
    assert both.gene("9/3/2022") == both.gene("1-Mar") == -1
    assert both.gene("2022-09-03") == VOCABULARY.index_of["SEPTIN3"]


@pytest.mark.parametrize("sign", ["-", "."])
def test_names_made_unique_are_summed_with_the_first(sign: str) -> None:
    names = [
        "TBCE",
        f"TBCE{sign}1",
        f"TBCE{sign}2",
        "HLA-A",
        f"HLA-A{sign}1",
        f"ACTB{sign}1",
        f"TP53{sign}2",
        "TP53",
    ]
    genes, kinds = MAP.meanings(names)
    index = VOCABULARY.index_of
    assert genes.tolist() == [*[index["TBCE"]] * 3, *[index["HLA-A"]] * 2, -1, -1, index["TP53"]]
    assert kinds[1] == kinds[2] == kinds[4] == "made unique"
    matrix, symbols, report = harmonise(csr_matrix(np.arange(8, dtype=np.float32)[None]), names, MAP)
    assert dict(zip(symbols, matrix.toarray()[0], strict=True)) == {"HLA-A": 7, "TBCE": 3, "TP53": 7}
    assert report.n_changed == {"made unique": 3}
    assert report.unmapped == (f"TP53{sign}2", f"ACTB{sign}1")


@given(st.dates(datetime.date(2000, 1, 1), datetime.date(2049, 12, 31)))
def test_every_iso_date_and_its_serial_number_mean_the_same(day: datetime.date) -> None:
    serial = str((day - datetime.date(1899, 12, 30)).days)
    expected = VOCABULARY.index_of[f"SEPTIN{day.day}"] if day.month == 9 and day.day < 12 else None
    forms = [
        day.isoformat(),
        f"{day.isoformat()} 00:00:00",
        day.strftime("%Y/%m/%d"),
        day.strftime("%d.%m.%Y"),
        serial,
    ]
    found = {MAP.gene(form) for form in forms}
    assert len(found) == 1
    assert expected is None or found == {expected}


@given(st.sampled_from([name for name, _, _ in NAMES]))
def test_make_names_of_every_name_means_its_gene_or_none(name: str) -> None:
    assert MAP.gene(mangled(name)) == MAP.gene(name)


@given(st.text(max_size=12))
def test_no_text_breaks_the_reading(text: str) -> None:
    assert -1 <= MAP.gene(text) < len(SYMBOLS)
    looks_like_date(text)


def _cells(names: list[str], counts: list[int]) -> RawCells:
    obs = pd.DataFrame({"sample": "s"}, index=["c1", "c2"])
    return RawCells(csr_matrix(np.array([counts, counts], dtype=np.float32)), names, obs)


def test_the_most_expressed_unknown_names_are_a_warning_and_in_the_prepared_file(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = ["TP53", "ACTB", *(f"u{i}" for i in range(12)), "2-Mai"]
    with caplog.at_level(logging.WARNING):
        made = prepare(_cells(names, [900, 900, *range(12), 3]), MAP, CellOptions())
    top = [f"u{i}" for i in range(11, 1, -1)]
    text = "13 of 15 names (3.7 % of the counts) match no gene of the vocabulary; most expressed: u11, u10, u9, u8"
    assert any(text in message for message in caplog.messages)
    assert any("1 unknown names look like dates of a spreadsheet: 2-Mai" in m for m in caplog.messages)
    stored = made.uns["celllm"]
    assert json.loads(stored["unknown_genes"])[:8] == top[:8]
    assert stored["unknown_share"] == pytest.approx(69 / 1869)


@pytest.mark.parametrize(
    ("n_unknown", "allowed", "refused"), [(20, 0.2, False), (21, 0.2, True), (99, 1.0, False)]
)
def test_too_many_unknown_counts_are_refused_unless_allowed(
    n_unknown: int, allowed: float, refused: bool
) -> None:
    cells = _cells(["TP53", "mystery"], [100 - n_unknown, n_unknown])
    if not refused:
        assert prepare(cells, MAP, CellOptions(max_unknown=allowed)).n_obs == 2
        return
    with pytest.raises(
        UserError, match=r"my: 21% of the counts are under .*the most expressed: mystery\); .*max_unknown"
    ):
        prepare(cells, MAP, CellOptions(max_unknown=allowed), "my")


def test_no_cell_kept_is_an_error_unless_allowed() -> None:
    options = {"min_genes": 3}
    with pytest.raises(UserError, match=r"my: none of the 2 cells .* is kept \(2 express .* min_genes 3"):
        prepare(_cells(["TP53", "ACTB"], [1, 1]), MAP, CellOptions(**options), "my")
    made = prepare(_cells(["TP53", "ACTB"], [1, 1]), MAP, CellOptions(**options, allow_empty=True))
    assert made.shape == (0, 2)


@pytest.mark.parametrize(
    "symbol", ["MARS1", "MARS2", "SET1", "AGO1", "ARA9", "EKI1", "Mars1", "OUT1", "MAR1"]
)
def test_a_gene_that_begins_like_a_month_is_no_date(symbol: str) -> None:
    """With a vocabulary that lacks it, it must not become MARCHF1, SEPTIN1, ...: it stays unknown."""
    assert not looks_like_date(symbol)
    assert not [kind for kind, _ in repairs(symbol) if kind == "spreadsheet date"]
