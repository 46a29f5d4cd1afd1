from dataclasses import replace

import pytest

from celllm.errors import UserError
from celllm.report import published
from celllm.report.slips import contradiction
from celllm.scores.metrics import NAMES

BOOK = published.load()
CLAIMS = {claim.id: claim for claim in BOOK.claims}


def test_every_printed_score_is_there() -> None:
    counts = {name: sum(len(row.numbers) for row in table.rows) for name, table in BOOK.tables.items()}
    assert counts == {"table1": 30, "table2": 8, "table3": 24, "tableb1": 16, "tableb2": 18}


@pytest.mark.parametrize(
    ("cell", "value", "sd"),
    [
        ("table1/scanpy/zheng68k/macro_f1", 49.5, 2.2),
        ("table1/celllm_moco/baron/weighted_f1", 97.3, 0.2),
        ("table1/celllm/baron/accuracy", 98.2, 0.2),
        ("table2/scbert/gse149383_few_shot/f1", 73.8, 8.5),
        ("table2/celllm/gse117872_full/f1", 99.2, 1.1),
        ("table3/deepcdr/cold/mae", 1.083, 0.030),
        ("table3/celllm/warm/pearson", 0.934, 0.006),
        ("tableb1/celllm/warm/pearson", 0.912, 0.006),
        ("tableb2/celllm_25m/zheng68k/accuracy", 79.3, 1.2),
    ],
)
def test_printed_cells(cell: str, value: float, sd: float) -> None:
    number = BOOK.number(published.CellOf.parse(cell))
    assert number == published.Number(value, sd)


def test_columns_carry_known_metrics_and_tasks() -> None:
    for table in BOOK.tables.values():
        for column in table.columns:
            assert column.metric.name in NAMES
            assert column.task in BOOK.tasks


def test_best_printed_rows_are_the_papers_own_model() -> None:
    """CellLM is printed in bold everywhere in Tables 1 to 3: a slip of a digit here would show."""
    for name in ("table1", "table2", "table3"):
        table = BOOK.tables[name]
        for position, column in enumerate(table.columns):
            best = max(table.rows, key=lambda row: column.metric.sign * row.numbers[position].value)
            assert best.name == "celllm", (name, column.key)


@pytest.mark.parametrize(
    ("name", "total", "denominator"), [("tabled1", 68450, 68450), ("tabled2", 8562, 8569)]
)
def test_class_counts_add_up(name: str, total: int, denominator: int) -> None:
    """Table D.2's shares are of 8,569 cells: one of the paper's slips (docs/errata.md)."""
    rows = BOOK.fact_tables[name].rows
    assert sum(row.values[0] for row in rows) == total
    for row in rows:
        assert row.values[1] == pytest.approx(100 * row.values[0] / denominator, abs=0.00501)


def test_claims_are_many_distinct_and_resolvable() -> None:
    assert len(BOOK.claims) >= 40
    assert len({claim.id for claim in BOOK.claims}) == len(BOOK.claims)
    for claim in BOOK.claims:
        assert claim.kind in ("value", "difference", "ordering"), claim.id
        assert bool(claim.cells) != bool(claim.fact), claim.id
        assert (claim.kind == "value") == (not claim.over and not claim.over_fact), claim.id
        assert claim.tolerance is None or claim.kind != "ordering", claim.id
        assert claim.section and claim.statement.endswith((".", ")")), claim.id
        for cell in claim.cells:
            assert BOOK.number(cell) is not None, claim.id
            for row in claim.over:
                assert row == "control" or BOOK.number(cell.of_row(row)) is not None, (claim.id, row)


@pytest.mark.parametrize(
    ("ours", "rival", "text"),
    [
        ("celllm", "scbert", ""),
        ("celllm_wo_cl", "scbert", "CellLM w/o CL 66.4, scBERT 68.8 (Zheng68K macro F1)"),
        ("celllm", "celllm", "CellLM 71.8, CellLM 71.8 (Zheng68K macro F1)"),
        ("celllm", published.CONTROL, ""),
    ],
)
def test_an_ordering_that_the_printed_numbers_do_not_have(ours: str, rival: str, text: str) -> None:
    claim = replace(
        CLAIMS["contrast-helps"],
        cells=(published.CellOf.parse(f"table1/{ours}/zheng68k/macro_f1"),),
        over=(rival,),
    )
    assert contradiction(claim, BOOK) == (f"The paper's own table has {text}" if text else "")


def test_errors_are_better_when_smaller_in_print_too() -> None:
    cells = (published.CellOf.parse("table3/scbert/cold/mae"),)
    claim = replace(CLAIMS["scbert-over-deepcdr"], cells=cells)
    assert contradiction(claim, BOOK).endswith("scBERT 1.086, DeepCDR 1.083 (Cold start MAE)")


@pytest.mark.parametrize(
    ("stated", "slip"),
    [(8.3, False), (8.25, False), (8.2, False), (8.19, True), (8.4, True), (8.26, True)],
)
def test_a_sentence_is_held_to_its_own_digits(stated: float, slip: bool) -> None:
    """Table 2 gives 8.25: half a unit of the last printed digit is rounding, more is not."""
    claim = replace(CLAIMS["few-shot-gain"], paper=stated)
    assert bool(contradiction(claim, BOOK)) is slip


def test_the_papers_contradictions_are_found_and_no_others() -> None:
    found = {claim.id: contradiction(claim, BOOK) for claim in BOOK.claims}
    slips = {name: text for name, text in found.items() if text}
    assert set(slips) == {"response-pearson", "response-gain", "warm-gain", "batch-size", "wo-cls-warm"}
    assert slips["warm-gain"] == "The paper's own table gives 0.071, the sentence 0.062"
    assert slips["response-pearson"] == "Table 3 prints 0.934, Table B.1 0.912 for the same quantity"
    assert slips["batch-size"] == "The paper also says 512"


def test_rows_are_found_by_key_and_by_title() -> None:
    table = BOOK.tables["table1"]
    assert table.row("CellLM w/o CL") is table.row("celllm_wo_cl")
    assert table.row("no such row") is None


def test_the_choice_is_told_beside_the_protocol_that_learned_from_the_same_rows() -> None:
    """Strict is fitted again on both parts, from which annotation learns under paper; response does not."""
    against = {name: task.choice_against for name, task in published.load().tasks.items()}
    assert against == {
        "annotation": "strict",
        "drug_few_shot": "strict",
        "drug_full": "strict",
        "response_warm": "no_refit",
        "response_cold": "no_refit",
    }


def test_unknown_table_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match="table 'table9': the paper has no such table; known are table1"):
        BOOK.table("table9")
