"""From the tidy form of a table to Markdown, LaTeX and HTML: one view, one template per format."""

import functools
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from celllm.io import from_spreadsheets, read_csv
from celllm.report import published as printed
from celllm.report.fact_tables import DIFFERS, NOT_MEASURED, NOTHING
from celllm.report.published import DIGITS, Metric, ScoreTable
from celllm.report.run import TOY_NOTE, labelled
from celllm.scores.scores import FAILED, NOT_APPLICABLE, OUT_OF_MEMORY
from celllm.scores.statistics import half_width

TEMPLATES = Path(__file__).with_name("templates")
GROUPS = {
    "paper": "Rows of the paper",
    "control": "Controls: no encoder of ours",
    "ablation": "Ablations: our encoder frozen, untrained or trained otherwise",
    "added": "Added methods",
}
PROTOCOLS = {
    "strict": "Protocol strict: every choice on a validation part, the test part scored once",
    "no_refit": "Protocol no_refit: as strict, without the second fit on training and validation part",
    "paper": "Protocol paper: early stopping as in the released code",
}
EFFECTS = {
    "optimism": "What the paper's choice adds: protocol paper minus {}, which learned from the same rows",
    "refit": "What the larger training part adds: protocol strict minus no_refit",
}
LEARNED = (
    "Who learned from what, the same for all rows: under strict, a method that chooses an epoch or a setting "
    "does so on the validation part and is then fitted again on training and validation part; one that "
    "chooses nothing is fitted on both at once. Under no_refit nothing learns from the validation part. "
    "Under paper, cell annotation and single-cell drug sensitivity learn from both parts and choose on the "
    "test part, as strict does on the validation part; cell-line response learns from the training part, as "
    "under no_refit, stops on the validation part and scores the last epoch. So the two effects are kept "
    "apart: the choice, and the larger training part."
)
MISSING = {
    "not-run": "not run",
    FAILED: "failed",
    OUT_OF_MEMORY: "out of memory",
    NOT_APPLICABLE: "not applicable",
    NOT_MEASURED: "not measured",
}
_TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "±": r"$\pm$", "−": "$-$", "²": "$^2$", "Δ": r"$\Delta$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "<": r"\textless{}", ">": r"\textgreater{}", "—": "---",
}  # fmt: skip


def tex(text: str) -> str:
    """Escape text for LaTeX; the signs used in tables become mathematics."""
    return "".join(_TEX.get(character, character) for character in str(text))


def markdown(text: str) -> str:
    """Escape what would end a Markdown cell or start markup in it."""
    return re.sub(r"([\\|*_<>`\[\]])", r"\\\1", " ".join(str(text).split()))


def signed(value: float, digits: int) -> str:
    """``+0.3`` or ``−1.2``; what rounds to nothing has no sign."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else "−") + text


@functools.cache
def environment() -> Environment:
    """Templates of this package: HTML is escaped by itself, LaTeX and Markdown by their filters."""
    jinja = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters |= {"tex": tex, "markdown": markdown}
    jinja.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return jinja


def render(template: str, **context: Any) -> str:
    """Fill a template of this package."""
    return environment().get_template(template).render(toy_note=TOY_NOTE, **context)


class Notes:
    """Numbered reasons of missing cells; the same reason keeps its number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, reason: str) -> str:
        """The number of a reason, empty for none."""
        if not reason:
            return ""
        if reason not in self.texts:
            self.texts.append(reason)
        return str(self.texts.index(reason) + 1)


def score_view(frame: pd.DataFrame, title: str) -> dict[str, Any]:
    """What the templates show of a table of scores: a block per protocol, optimism, numbered reasons."""
    table = printed.load().table(str(frame["table"].iloc[0]))
    if not isinstance(table, ScoreTable):
        raise ValueError(f"{table.name} is not a table of scores")
    table = table.with_columns_of(frame[["task", "data_set"]].itertuples(index=False, name=None))
    toy = bool((frame["size"] == "toy").all())
    notes = Notes()
    usual = int(frame["n"].max())
    protocols = list(dict.fromkeys(frame["protocol"]))
    blocks = [_score_block(table, frame[frame["protocol"] == p], p, usual, notes) for p in protocols]
    against = printed.load().tasks[table.columns[0].task].choice_against
    for effect, more, less in (("optimism", "paper", against), ("refit", "strict", "no_refit")):
        if {more, less} <= set(protocols):
            caption = EFFECTS[effect].format(less)
            blocks.append(_effect_block(table, frame[frame["protocol"] == more], effect, caption, notes))
    return {
        "name": table.name,
        "kind": "scores",
        "title": labelled(title, toy),
        **_parts(title),
        "run": str(frame["run"].iloc[0]),
        "toy": toy,
        "unit": "Percent" if table.unit == "percent" else "Fractions; RMSE and MAE in ln µM",
        "blocks": blocks,
        "notes": notes.texts,
        "legend": _legend(usual, bool((frame["n_seeds"] > 1).any())),
        "remarks": [*table.remarks, LEARNED, *_alike(frame)] if usual else [],
    }


def _legend(n_splits: int, several_seeds: bool) -> str:
    if n_splits == 0:
        return "Nothing in this table was scored in this run; only the paper's numbers are shown."
    text = (
        f"Mean ± sample standard deviation over {n_splits} splits (n where it is another number); "
        "best in bold; below it the paper's number and Δ = ours − paper."
    )
    if several_seeds:
        text += (
            " A row that was pre-trained from several seeds has its mean over all of them, ± over the splits "
            "of one pre-training (root of their mean variance), and below it ± of the seeds' means."
        )
    return text


def _alike(frame: pd.DataFrame) -> Iterable[str]:
    """Which models have the same mean in every column, so that it is not taken for a mistake."""
    means = frame.pivot_table(index="title", columns=["protocol", "column"], values="mean", sort=False)
    means = means.dropna(axis=1).round(12)
    alike = means.groupby(list(means.columns), sort=False).groups.values() if means.size else ()
    for titles in alike:
        if len(titles) > 1:
            yield (
                f"{' and '.join(titles)} have the same numbers: on these data they are the same method, as a "
                "choice of 2,000 genes is where there are fewer."
            )


def _parts(title: str) -> dict[str, str]:
    """``Table 1: Cell type annotation`` as number and subject."""
    number, _, subject = title.partition(": ")
    return {"number": number, "subject": subject}


def _score_block(
    table: ScoreTable, rows: pd.DataFrame, protocol: str, usual: int, notes: Notes
) -> dict[str, Any]:
    digits = DIGITS[table.unit]
    toy = bool((rows["size"] == "toy").all())
    metrics = {c.key: c.metric for c in table.columns}
    n_assumed = printed.load().tasks[table.columns[0].task].n

    def show(cell: Mapping[str, Any]) -> dict[str, Any]:
        tone = "" if toy else _tone(cell, metrics[cell["column"]], n_assumed)
        n = [] if cell["n"] in (0, usual) else [f"n = {cell['n']}"]
        n += [f"{cell['n_seeds']} seeds ± {cell['seed_sd']:.{digits}f}"] if cell["n_seeds"] > 1 else []
        return _score_cell(cell, digits, notes) | {"tone": tone, "n": ", ".join(n)}

    return _block(table, rows, protocol, PROTOCOLS[protocol], show)


def _score_cell(cell: Mapping[str, Any], digits: int, notes: Notes) -> dict[str, Any]:
    has_paper = cell["paper_value"] == cell["paper_value"] and cell["paper_value"] is not None
    has_mean = int(cell["n"]) > 0
    paper = f"{cell['paper_value']:.{digits}f} ± {cell['paper_sd']:.{digits}f}" if has_paper else ""
    return {
        "text": cell["text"] if has_mean else MISSING[cell["status"]],
        "missing": not has_mean,
        "best": bool(cell["best"]),
        "paper": paper,
        "difference": signed(cell["difference"], digits) if has_paper and has_mean else "",
        "mark": notes.mark(cell["reason"]),
        "order": cell["mean"] if has_mean else "",
    }


def _tone(cell: Mapping[str, Any], metric: Metric, n: int) -> str:
    """near: within the 95 % interval of the paper's own mean over ``n`` runs; else better or worse."""
    gap = cell["difference"]
    if gap is None or gap != gap:
        return ""
    if abs(gap) <= half_width([cell["paper_sd"] ** 2], n):
        return "near"
    return "better" if metric.sign * gap > 0 else "worse"


def _effect_block(
    table: ScoreTable, rows: pd.DataFrame, effect: str, caption: str, notes: Notes
) -> dict[str, Any]:
    digits = DIGITS[table.unit]

    def show(cell: Mapping[str, Any]) -> dict[str, Any]:
        gain, sd = (math.nan if cell[key] is None else cell[key] for key in (effect, f"{effect}_sd"))
        known, spread = not math.isnan(gain), "" if math.isnan(sd) else f" ± {sd:.{digits}f}"
        return {
            "text": signed(gain, digits) + spread if known else "no pair",
            "missing": not known,
            "best": False,
            "paper": "",
            "difference": "",
            "n": "",
            "mark": "" if known else notes.mark(cell["reason"] or "no split scored under both protocols"),
            "order": gain if known else "",
            "tone": "",
        }

    return _block(table, rows, effect, caption, show)


def _block(table: ScoreTable, rows: pd.DataFrame, key: str, caption: str, show: Any) -> dict[str, Any]:
    spans: dict[str, int] = {}
    for column in table.columns:
        spans[column.group_title] = spans.get(column.group_title, 0) + 1
    return {
        "key": key,
        "caption": caption,
        "groups": [{"title": title, "span": span} for title, span in spans.items()],
        "columns": [
            {"title": c.metric.title, "tex": c.metric.tex, "arrow": "↑" if c.metric.sign > 0 else "↓"}
            for c in table.columns
        ],
        "sections": _sections(rows, show),
    }


def _sections(rows: pd.DataFrame, show: Any) -> list[dict[str, Any]]:
    sections = []
    for group, members in rows.groupby("group", sort=False):
        lines = [
            {"title": cells["title"].iloc[0], "cells": [show(cell) for cell in cells.to_dict("records")]}
            for _, cells in members.groupby("model", sort=False)
        ]
        sections.append({"title": GROUPS.get(str(group), str(group)), "rows": lines})
    order = list(GROUPS.values())
    return sorted(sections, key=lambda s: order.index(s["title"]) if s["title"] in order else len(order))


def fact_view(frame: pd.DataFrame, title: str) -> dict[str, Any]:
    """What the templates show of a table of facts: the paper's value and ours, differences marked."""
    toy = bool((frame["size"] == "toy").all())
    titles = {
        column: ["paper", "this run", *(["Δ"] if (cells["difference"] != "").any() else [])]
        for column, cells in frame.groupby("column", sort=False)
    }
    notes = Notes()
    block = {
        "key": "facts",
        "caption": "The paper's value and the one of this run; differences in bold",
        "groups": [{"title": column, "span": len(parts)} for column, parts in titles.items()],
        "columns": [{"title": t, "tex": tex(t), "arrow": ""} for parts in titles.values() for t in parts],
        "sections": _fact_sections(frame, {str(c): len(parts) > 2 for c, parts in titles.items()}, notes),
    }
    return {
        "name": str(frame["table"].iloc[0]),
        "kind": "facts",
        "title": labelled(title, toy),
        **_parts(title),
        "run": str(frame["run"].iloc[0]),
        "toy": toy,
        "unit": "",
        "blocks": [block],
        "notes": notes.texts,
        "legend": "",
        "remarks": [],
    }


def _fact_sections(
    frame: pd.DataFrame, with_difference: Mapping[str, bool], notes: Notes
) -> list[dict[str, Any]]:
    sections = []
    for group, members in frame.groupby("group", sort=False):
        lines = [
            {
                "title": title,
                "cells": [
                    c
                    for cell in cells.to_dict("records")
                    for c in _fact_cells(cell, with_difference[cell["column"]], notes)
                ],
            }
            for title, cells in members.groupby("title", sort=False)
        ]
        sections.append({"title": group, "rows": lines})
    return sections


def _fact_cells(cell: Mapping[Any, Any], with_difference: bool, notes: Notes) -> Iterable[dict[str, Any]]:
    plain = {"missing": False, "best": False, "paper": "", "difference": "", "n": "", "mark": "", "tone": ""}
    plain |= {"measured": False}
    missing = cell["status"] == NOT_MEASURED
    differs = cell["status"] == DIFFERS
    yield plain | {"text": cell["paper"], "order": cell["paper"]}
    yield plain | {
        "text": MISSING[NOT_MEASURED] if missing else cell["ours"],
        "missing": missing,
        "measured": cell["reason"] != NOTHING,
        "best": differs,
        "mark": notes.mark(cell["reason"]),
        "order": cell["ours"],
        "tone": "differs" if differs else "",
    }
    if with_difference:
        yield plain | {"text": cell["difference"], "order": cell["difference"]}


def plain_view(
    name: str, frame: pd.DataFrame, title: str, remarks: Iterable[str], run: str, toy: bool
) -> dict[str, Any]:
    """What the templates show of numbers without a paper's: a block for each ``block`` of the frame."""
    notes = Notes()
    empty = {"missing": True, "best": False, "paper": "", "difference": "", "n": "", "mark": "", "tone": ""}
    blocks = []
    for number, (block, members) in enumerate(frame.groupby("block", sort=False)):
        columns = list(dict.fromkeys(zip(members["over"], members["column"], strict=True)))
        overs = list(dict.fromkeys(over for over, _ in columns))
        columns.sort(key=lambda column: overs.index(column[0]))
        spans = {over: sum(c[0] == over for c in columns) for over, _ in columns}
        sections = []
        for group, of_group in members.groupby("group", sort=False):
            rows = []
            for row, cells in of_group.groupby("title", sort=False):
                shown = dict.fromkeys(columns, empty | {"text": "–", "order": "", "measured": False})
                for cell in cells.to_dict("records"):
                    text, _, below = cell["text"].partition(" (")
                    there = text != ""
                    shown[cell["over"], cell["column"]] = empty | {
                        "text": text if there else "–",
                        "n": below.removesuffix(")"),
                        "missing": not there,
                        "measured": True,
                        "mark": notes.mark(cell["reason"]),
                        "order": cell["value"] if there else "",
                    }
                rows.append({"title": row, "cells": list(shown.values())})
            sections.append({"title": group, "rows": rows})
        order = list(GROUPS.values())
        sections.sort(key=lambda s: order.index(s["title"]) if s["title"] in order else len(order))
        blocks.append(
            {
                "key": f"{number + 1}",
                "caption": block,
                "groups": [{"title": over, "span": span} for over, span in spans.items()],
                "columns": [{"title": c, "tex": tex(c), "arrow": ""} for _, c in columns],
                "sections": sections,
            }
        )
    return {
        "name": name,
        "kind": "plain",
        "title": labelled(title, toy),
        **_parts(title),
        "run": run,
        "toy": toy,
        "unit": "",
        "blocks": blocks,
        "notes": notes.texts,
        "legend": "" if blocks else "This run has nothing for this table.",
        "remarks": list(remarks),
    }


def read_table(path: str | Path) -> dict[str, Any]:
    """The view of a table's tidy CSV, as written by :func:`celllm.report.tables.run_table`."""
    frame = from_spreadsheets(read_csv(path))
    title = printed.load().table(str(frame["table"].iloc[0])).title
    if "ours" in frame:
        return fact_view(frame, title)
    numbers = {name: pd.to_numeric(frame[name], errors="coerce") for name in _NUMERIC}
    return score_view(frame.assign(**numbers, best=frame["best"] == "True"), title)


_NUMERIC = (
    *("n", "mean", "sd", "n_seeds", "seed_sd", "paper_value", "paper_sd", "difference"),
    *("optimism", "optimism_sd", "refit", "refit_sd"),
)
