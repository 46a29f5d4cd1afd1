"""The arithmetic of docs/errata.md, from the numbers that the paper prints."""

import math
from pathlib import Path

import pytest

from celllm.report import published
from celllm.report.published import CellOf, Number
from celllm.scores.metrics import macro_f1, weighted_f1

BOOK = published.load()
CLAIMS = {claim.id: claim for claim in BOOK.claims}
TEXT = (Path(__file__).parents[2] / "docs/errata.md").read_text(encoding="utf-8")
N_RUNS = 5
RESPONSE_ROWS = [
    ("table3", "deepcdr"),
    ("table3", "scbert"),
    ("tableb1", "celllm_wo_cls"),
    ("tableb1", "celllm"),
]


def printed(cell: str) -> Number:
    number = BOOK.number(CellOf.parse(cell))
    assert number is not None, cell
    return number


def value(cell: str) -> float:
    return printed(cell).value


def says(*texts: str) -> None:
    """The errata print these."""
    for text in texts:
        assert text in TEXT, text


@pytest.mark.parametrize("start", ["warm", "cold"])
@pytest.mark.parametrize(("table", "row"), RESPONSE_ROWS)
def test_squared_correlation_lies_just_above_r2(table: str, row: str, start: str) -> None:
    pearson, r2 = (value(f"{table}/{row}/{start}/{metric}") for metric in ("pearson", "r2"))
    assert 0.0005 < pearson**2 - r2 < 0.0125
    says(f"{pearson:.3f} | {pearson**2:.3f} | {r2:.3f} | {round(pearson**2, 3) - r2:.3f} |")


def test_the_correlation_of_table_3_is_not_one_of_them() -> None:
    pearson, r2 = value("table3/celllm/warm/pearson"), value("table3/celllm/warm/r2")
    assert (pearson, r2) == (0.934, value("tableb1/celllm/warm/r2"))
    assert pearson**2 - r2 == pytest.approx(0.041, abs=5e-4)
    says("| 0.934 | 0.872 | 0.831 | **0.041** |")
    for metric in ("r2", "rmse", "mae"):
        assert printed(f"table3/celllm/warm/{metric}") == printed(f"tableb1/celllm/warm/{metric}")


def test_rmse_and_r2_agree_on_the_variance_of_the_responses() -> None:
    variances = [
        value(f"{table}/{row}/{start}/rmse") ** 2 / (1 - value(f"{table}/{row}/{start}/r2"))
        for table, row in RESPONSE_ROWS
        for start in ("warm", "cold")
    ]
    assert (round(min(variances), 1), round(max(variances), 1)) == (7.2, 7.5)
    rmse, r2 = 1.444, 0.718  # drug mean on the public pairs
    assert round(rmse**2 / (1 - r2), 1) == 7.4
    says("is 7.2 to\n7.5 in all eight rows, and 7.4")


def test_which_row_6_2_points_are_measured_against() -> None:
    ours, other = value("table3/celllm/warm/pearson"), value("tableb1/celllm/warm/pearson")
    deepcdr, scbert = value("table3/deepcdr/warm/pearson"), value("table3/scbert/warm/pearson")
    assert [round(x, 3) for x in (ours - deepcdr, ours - scbert)] == [0.071, 0.062]
    assert [round(x, 3) for x in (other - deepcdr, other - scbert)] == [0.049, 0.040]
    assert CLAIMS["warm-gain"].paper == CLAIMS["response-gain"].paper == 0.062
    says("0.934 − 0.863 =\n0.071", "0.934 − 0.872", "0.049 over DeepCDR and 0.040")
    assert round(value("table3/celllm/cold/pearson") - value("table3/deepcdr/cold/pearson"), 3) == 0.038


def test_batch_size_and_the_lengths_derived_from_it() -> None:
    batch, long, short = (CLAIMS[name] for name in ("batch-size", "length-divided", "length-end-to-end"))
    settings = {(row.group, row.title): row.values[0] for row in BOOK.fact_tables["tablef1"].rows}
    assert (batch.paper, settings["Pre-training", "Batch size"]) == (256, 512)
    assert (batch.paper * short.paper, long.paper) == (12_800, 13_000)
    assert 12_800 / 512 == 25
    says("256 · 50 = 12,800", "gives 25")


def test_shares_of_classes() -> None:
    sums = {
        name: sum(row.values[1] for row in BOOK.fact_tables[name].rows) for name in ("tabled1", "tabled2")
    }
    assert sums == {"tabled1": pytest.approx(100.00, abs=0.005), "tabled2": pytest.approx(99.91, abs=0.005)}
    assert [round(100 * 2326 / n, 2) for n in (8562, 8569)] == [27.17, 27.14]
    says("27.17 %", "27.14 % = 2,326 / 8,569", "99.91 %")


def test_cells_of_pretraining() -> None:
    total = CLAIMS["panglaodb-cells"].paper + CLAIMS["cancerscem-cells"].paper
    assert total == 1_764_921
    assert round(total, -6) == CLAIMS["pretraining-cells"].paper
    says("1,126,580 + 638,341 = 1,764,921")


def test_weighted_f1_of_a_perfect_classifier_by_the_printed_formula() -> None:
    assert round(CLAIMS["zheng-cells"].paper / CLAIMS["zheng-classes"].paper) == 6223
    says("68,450 / 11 = 6,223")


def largest_sd(mean: float, n: int) -> float:
    """Sample sd of n values that end at 100: all are 100 but one that makes the mean."""
    values = [100.0] * (n - 1) + [100 - n * (100 - mean)]
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))


def test_one_standard_deviation_cannot_be() -> None:
    assert [round(largest_sd(mean, N_RUNS), 1) for mean in (97.1, 97.05)] == [6.5, 6.6]
    assert largest_sd(97.05, N_RUNS) == pytest.approx(math.sqrt(N_RUNS) * (100 - 97.05))
    assert min(n for n in range(2, 20) if largest_sd(97.05, n) >= 6.85) == 6
    beyond = [
        f"{table.name}/{row.name}/{column.key}"
        for table in BOOK.tables.values()
        if table.unit == "percent"
        for row in table.rows
        for column, number in zip(table.columns, row.numbers, strict=True)
        if number.sd - 0.05 > largest_sd(number.value - 0.05, N_RUNS)
    ]
    assert beyond == ["table2/scbert/gse149383_full/f1"]
    says("standard deviation 6.5, or 6.6", "at least six runs")


def test_moco_beside_no_contrast_and_both_beside_scbert() -> None:
    for key in ("zheng68k/weighted_f1", "zheng68k/accuracy", "baron/weighted_f1", "baron/accuracy"):
        moco, none = value(f"table1/celllm_moco/{key}"), value(f"table1/celllm_wo_cl/{key}")
        assert moco < none
        says(f"{moco} < {none}")
    for metric in ("macro_f1", "weighted_f1", "accuracy"):
        for row in ("celllm_moco", "celllm_wo_cl"):
            assert value(f"table1/{row}/zheng68k/{metric}") < value(f"table1/scbert/zheng68k/{metric}")


def test_the_small_model_is_above_the_large_one_without_contrast() -> None:
    small = value("tableb2/celllm_8m/zheng68k/macro_f1")
    large, scbert = (value(f"table1/{row}/zheng68k/macro_f1") for row in ("celllm_wo_cl", "scbert"))
    assert large < small < scbert
    assert round(scbert - small, 1) == 0.8
    says(f"({small} macro F1", f"({large}, Table 1)", f"scBERT ({scbert})", "by 0.8")


def test_moco_on_baron_is_within_half_a_standard_deviation() -> None:
    ours, moco = printed("table1/celllm/baron/macro_f1"), printed("table1/celllm_moco/baron/macro_f1")
    assert 0 < ours.value - moco.value < min(ours.sd, moco.sd) / 2
    says(f"{ours.value} ± {ours.sd} against {moco.value} ± {moco.sd}")


def test_few_shot_gains() -> None:
    gaps = [
        value(f"table2/celllm/{data_set}_few_shot/f1") - value(f"table2/scbert/{data_set}_few_shot/f1")
        for data_set in ("gse149383", "gse117872")
    ]
    assert [round(gap, 1) for gap in gaps] == [14.9, 1.6]
    assert sum(gaps) / 2 == pytest.approx(8.25)
    assert printed("table2/scbert/gse149383_few_shot/f1").sd == 8.5
    says("(14.9 + 1.6) / 2", "8.5 on the first")


def test_scbert_and_deepcdr_in_the_cold_start() -> None:
    gaps = {
        metric: round(value(f"table3/scbert/cold/{metric}") - value(f"table3/deepcdr/cold/{metric}"), 3)
        for metric in ("pearson", "rmse", "mae")
    }
    assert gaps == {"pearson": 0.010, "rmse": -0.001, "mae": 0.003}
    says("0.010 ahead in correlation, 0.001 in RMSE and 0.003 *behind*")


def test_what_expressed_genes_save() -> None:
    genes = CLAIMS["genes"].paper
    assert math.floor(0.3 * genes) == 5813
    assert [round(100 * (1 - n / genes), 1) for n in (5000, 300, 6000)] == [74.2, 98.5, 69.0]
    says("5,813", "74.2 to 98.5 %", "69.0 %")


@pytest.mark.parametrize(
    ("claim", "printed_as"),
    [
        ("annotation-gain", "3.0"), ("baron-gain", "5.7"),
        ("few-shot-gain-text", "8.25"), ("full-gain", "1.65"),
        ("wo-cl-zheng", "5.4"), ("wo-cl-baron", "4.6"), ("moco-zheng", "4.8"), ("moco-baron", "1.1"),
    ],
)  # fmt: skip
def test_gains_that_are_right(claim: str, printed_as: str) -> None:
    entry = CLAIMS[claim]
    gaps = [value_of(cell) - value_of(cell.of_row(entry.over[0])) for cell in entry.cells]
    assert sum(gaps) / len(gaps) == pytest.approx(entry.paper, abs=1e-9)
    assert entry.paper == float(printed_as)
    says(printed_as)


def value_of(cell: CellOf) -> float:
    number = BOOK.number(cell)
    assert number is not None
    return number.value


def test_celllm_is_best_everywhere_and_size_helps_everywhere() -> None:
    for name, best in {"table1": "celllm", "table2": "celllm", "table3": "celllm", "tableb1": "celllm",
                       "tableb2": "celllm_50m"}.items():  # fmt: skip
        table = BOOK.tables[name]
        for place, column in enumerate(table.columns):
            ranked = sorted(table.rows, key=lambda row: column.metric.sign * row.numbers[place].value)
            assert ranked[-1].name == best, (name, column.key)
            if name == "tableb2":
                assert [row.name for row in ranked] == ["celllm_8m", "celllm_25m", "celllm_50m"], column.key


def test_every_claim_that_the_errata_name_is_there() -> None:
    import re

    named = {
        name for text in re.findall(r"\(Claims? ([^)]*)\)", TEXT) for name in re.findall(r"`([^`]+)`", text)
    }
    assert len(named) >= 12
    assert named <= set(CLAIMS), named - set(CLAIMS)


def test_swapped_arguments_change_the_weighted_f1_alone() -> None:
    truth, found = list("aaab"), list("aabb")
    assert weighted_f1(truth, found) == pytest.approx(0.767, abs=5e-4)
    assert weighted_f1(found, truth) == pytest.approx(0.733, abs=5e-4)
    assert macro_f1(truth, found) == macro_f1(found, truth)
    says("it is 0.733 in place of 0.767")


def test_a_random_guess_among_a_batch() -> None:
    assert math.log(512) == pytest.approx(6.24, abs=5e-3)
    says("ln 512 = 6.24")


@pytest.mark.parametrize(
    "said",
    [
        "`tasks/cell_task/ctc.py` stops on the split whose score it reports",
        "`tasks/mol_task/drp.py`, for cell-line drug response, does not: it stops on a validation part",
        "by the model of its last epoch, ten past the best one",
        "For single-cell drug sensitivity nothing is released that would tell",
        "passes the predictions to `accuracy_score` and `f1_score` where the labels belong",
        "`configs/drp/CellLM.json`, the cell-split task, loads `nocls_fixed.pth`",
        'Its key `"drug"` is read by no line',
        "The code of pre-training was announced and is not public (OpenBioMed, issue 64)",
        "the gene vector of [CLS] is a row of ones that is not trained",
        "The same layer subtracts one maximum over the whole batch, all heads and all keys",
        "The formula of section 3.1 names no base, and no public preprocessing of the authors' settles it",
        "whether there is something to learn depends on the missing number",
    ],
)
def test_what_the_released_code_does_otherwise_is_listed(said: str) -> None:
    assert said in " ".join(TEXT.split())


def test_what_has_no_source_is_not_said() -> None:
    assert "released code uses the natural" not in TEXT
    assert "nothing to learn" not in TEXT
