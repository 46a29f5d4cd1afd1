"""Where the paper contradicts itself: a claim beside the paper's own table, or beside another place of it."""

from celllm.report.fact_tables import as_text
from celllm.report.ledger import number_text
from celllm.report.published import CONTROL, CellOf, Claim, Paper

ROUNDING = 1e-9  # of decimals in binary


def contradiction(claim: Claim, book: Paper) -> str:
    """How the paper contradicts this claim itself, from printed numbers alone; empty where it does not."""
    if claim.kind == "ordering":  # that the paper's own numbers do not have
        for cell, row in ((cell, row) for cell in claim.cells for row in claim.over if row != CONTROL):
            rival = cell.of_row(row)
            ours, theirs = book.number(cell), book.number(rival)
            if ours and theirs and book.column(cell).metric.sign * (ours.value - theirs.value) <= 0:
                both = f"{_title(cell, book)} {ours.value:g}, {_title(rival, book)} {theirs.value:g}"
                return f"The paper's own table has {both} ({book.where(cell)})"
        return ""
    if claim.paper is None:
        return ""
    if claim.fact:
        others = [other for other in claim.also if other != claim.paper]
        return f"The paper also says {as_text(others[0])}" if others else ""
    stated, own = float(claim.paper), _printed_value(claim, book)
    half_a_digit = 0.5 * 10 ** -len(str(claim.paper).partition(".")[2]) + ROUNDING
    if own is not None and abs(own - stated) > half_a_digit:
        texts = number_text(own, claim.unit), number_text(stated, claim.unit)
        return f"The paper's own table gives {texts[0]}, the sentence {texts[1]}"
    cell = claim.cells[0]
    here = book.number(cell)
    for other in claim.also:
        there = book.number(other)
        if here and there and abs(here.value - there.value) > ROUNDING:
            places = [book.tables[place.table].title.partition(":")[0] for place in (cell, other)]
            return f"{places[0]} prints {here.value:g}, {places[1]} {there.value:g} for the same quantity"
    return ""


def _printed_value(claim: Claim, book: Paper) -> float | None:
    """The claim recomputed from printed numbers; None where the paper does not print them all."""
    values = []
    for cell in claim.cells:
        number = book.number(cell)
        over = book.number(cell.of_row(claim.over[0])) if claim.over else None
        if number is None or (claim.over and over is None):
            return None
        values.append(book.column(cell).metric.sign * (number.value - over.value) if over else number.value)
    return sum(values) / len(values)


def _title(cell: CellOf, book: Paper) -> str:
    row = book.tables[cell.table].row(cell.row)
    return row.title if row else cell.row
