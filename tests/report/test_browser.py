"""The page in a browser: it loads, sorts, filters, prints and fits a phone."""

from pathlib import Path
from typing import Any

import pytest

from celllm.report import published

CLAIMS = published.load().claims


def shown(page: Any) -> list[str]:
    """Claims whose row is visible."""
    rows = page.locator("#ledger tbody tr")
    ids = rows.evaluate_all("rows => rows.filter(r => r.getClientRects().length).map(r => r.id)")
    return [name.removeprefix("claim-") for name in ids]


def first_column(page: Any, table: str) -> list[str]:
    return page.locator(f"#{table} tbody th[scope=row]").all_inner_texts()


@pytest.mark.parametrize("toy", [False, True])
def test_it_loads_and_fits_phone_and_paper(report, check_page, tmp_path: Path, toy: bool) -> None:
    check_page(report(toy=toy), tmp_path)


def test_tables_and_ledger_alone_do_too(report, check_page, tmp_path: Path) -> None:
    report()
    for name in ("table1", "tabled1", "claims"):
        check_page(tmp_path / f"{name}.html", tmp_path)


def test_a_click_on_a_header_sorts_and_gaps_stay_last(report, open_page) -> None:
    page = open_page(report())
    header = page.locator("#table1-strict thead tr").last.locator("th").nth(1)
    for direction, order in (
        ("descending", ["scBERT", "CellLM", "Scanpy"]),
        ("ascending", ["CellLM", "scBERT", "Scanpy"]),
    ):
        header.get_by_role("button").click()
        assert header.get_attribute("aria-sort") == direction
        titles = first_column(page, "table1-strict")
        assert titles[:3] == order
        assert titles[-1] == "L1 logistic_regression & more"  # a control stays among the controls
    assert page.complaints == []


def test_filters_of_the_ledger(report, open_page) -> None:
    page = open_page(report())
    everything = shown(page)
    assert everything == [claim.id for claim in CLAIMS]
    page.locator("#by-verdict").select_option("paper disagrees with itself")
    slips = shown(page)
    page.locator("#by-text").fill("Pearson")
    assert {"response-pearson", "response-gain"} <= set(shown(page)) < set(slips) < set(everything)
    assert page.locator("#ledger-count").inner_text() == f"{len(shown(page))} of {len(CLAIMS)} claims"
    page.locator("#by-text").fill("")
    page.locator("#by-verdict").select_option("all")
    page.locator("#by-section").select_option("4.3")
    assert shown(page) == [claim.id for claim in CLAIMS if claim.section == "4.3"] != []
    page.locator("#by-section").select_option("all")
    page.locator("#by-tables").select_option("Table B.2")
    assert shown(page) == [c.id for c in CLAIMS if any(cell.table == "tableb2" for cell in c.cells)] != []
    page.locator("#by-tables").select_option("all")
    assert shown(page) == everything


def test_a_card_filters_and_the_address_keeps_it(report, open_page) -> None:
    file = report()
    page = open_page(file)
    card = page.locator(".verdicts button", has_text="paper disagrees with itself")
    card.click()
    filtered = shown(page)
    assert 0 < len(filtered) < len(CLAIMS)
    assert card.get_attribute("aria-pressed") == "true"
    again = open_page(file, "#" + page.evaluate("location.hash").removeprefix("#"))
    assert shown(again) == filtered
    sorted_ = open_page(file, "#sort=table1-strict:1:descending")
    assert first_column(sorted_, "table1-strict")[0] == "scBERT"
    card.click()
    assert len(shown(page)) == len(CLAIMS)
