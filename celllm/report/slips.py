"""Where the paper contradicts itself: a claim beside the paper's own table, or beside another place of it."""

from collections.abc import Sequence

from celllm.report.fact_tables import as_text
from celllm.report.ledger import number_text
from celllm.report.published import CONTROL, CellOf, Claim, Paper


def contradiction(claim: Claim, book: Paper) -> str:
    """How the paper contradicts this claim itself, from printed numbers alone; empty where it does not."""
    if claim.kind == "ordering":
        return _reversed(claim, book)
    if claim.paper is None:
        return ""
    if claim.fact:
        others = [other for other in claim.also if other != claim.paper]
        return f"The paper also says {as_text(others[0])}" if others else ""
    return _other_arithmetic(claim, float(claim.paper), book) or _other_place(claim, book)


def _reversed(claim: Claim, book: Paper) -> str:
    """An ordering that the paper's own numbers do not have."""
    for cell, row in ((cell, row) for cell in claim.cells for row in claim.over if row != CONTROL):
        ours, theirs = book.number(cell), book.number(cell.of_row(row))
        if ours and theirs and book.column(cell).metric.sign * (ours.value - theirs.value) <= 0:
            texts = f"{_title(cell, book)} {ours.value:g}, {_title(cell.of_row(row), book)} {theirs.value:g}"
            return f"The paper's own table has {texts} ({book.where(cell)})"
    return ""


def _other_arithmetic(claim: Claim, stated: float, book: Paper) -> str:
    """A number that the paper's own table does not give."""
    own = _printed_value(claim, claim.cells, book)
    if own is None or abs(own - stated) <= _rounding(claim):
        return ""
    return (
        f"The paper's own table gives {number_text(own, claim.unit)}, "
        f"the sentence {number_text(stated, claim.unit)}"
    )


def _other_place(claim: Claim, book: Paper) -> str:
    """Another place that prints the same quantity differently."""
    here = book.number(claim.cells[0])
    for other in claim.also:
        there = book.number(other)
        if here and there and abs(here.value - there.value) > 1e-9:
            places = (
                f"{_place(claim.cells[0], book)} prints {here.value:g}, {_place(other, book)} {there.value:g}"
            )
            return f"{places} for the same quantity"
    return ""


def _printed_value(claim: Claim, cells: Sequence[CellOf], book: Paper) -> float | None:
    """The claim recomputed from printed numbers; None where the paper does not print them all."""
    values = []
    for cell in cells:
        number = book.number(cell)
        over = book.number(cell.of_row(claim.over[0])) if claim.over else None
        if number is None or (claim.over and over is None):
            return None
        values.append(book.column(cell).metric.sign * (number.value - over.value) if over else number.value)
    return sum(values) / len(values)


def _rounding(claim: Claim) -> float:
    """Half a unit of the last printed digit, with room for the binary representation of decimals."""
    digits = len(str(claim.paper).partition(".")[2])
    return 0.5 * 10**-digits + 1e-9


def _title(cell: CellOf, book: Paper) -> str:
    row = book.tables[cell.table].row(cell.row)
    return row.title if row else cell.row


def _place(cell: CellOf, book: Paper) -> str:
    return book.tables[cell.table].title.partition(":")[0]
