"""From the tidy form of a table to Markdown, LaTeX and HTML: one view, one template per format."""

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from celllm.io import for_spreadsheets, from_spreadsheets, read_csv, write_text
from celllm.report import published as printed
from celllm.report.fact_tables import DIFFERS, NOT_MEASURED, NOTHING
from celllm.report.published import DIGITS, ScoreTable
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
# What the templates read of a cell.
BLANK = {
    "text": "", "missing": False, "best": False, "paper": "", "difference": "", "n": "", "mark": "",
    "order": "", "tone": "", "measured": True,
}  # fmt: skip
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


def write_pages(
    out: str | Path, frame: pd.DataFrame, template: str, suffixes: Iterable[str], **context: Any
) -> None:
    """Write the tidy form as ``<out>.csv`` and a template of this package in each other format."""
    write_text(f"{out}.csv", for_spreadsheets(frame).to_csv(index=False, lineterminator="\n"))
    for suffix in suffixes:
        write_text(f"{out}.{suffix}", render(f"{template}.{suffix}.j2", **context))


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
    task = printed.load().tasks[table.columns[0].task]
    toy = bool((frame["size"] == "toy").all())
    usual, digits, notes = int(frame["n"].max()), DIGITS[table.unit], Notes()
    signs = {c.key: c.metric.sign for c in table.columns}

    def score(cell: Mapping[str, Any]) -> dict[str, Any]:
        n = [] if cell["n"] in (0, usual) else [f"n = {cell['n']}"]
        n += [f"{cell['n_seeds']} seeds ± {cell['seed_sd']:.{digits}f}"] if cell["n_seeds"] > 1 else []
        shown = BLANK | {"best": bool(cell["best"]), "mark": notes.mark(cell["reason"]), "n": ", ".join(n)}
        if cell["n"] > 0:
            shown |= {"text": cell["text"], "order": cell["mean"]}
        else:
            shown |= {"text": MISSING[cell["status"]], "missing": True}
        if pd.notna(cell["paper_value"]):
            shown["paper"] = f"{cell['paper_value']:.{digits}f} ± {cell['paper_sd']:.{digits}f}"
        gap = cell["difference"]
        if pd.notna(gap):
            shown["difference"] = signed(gap, digits)
            # Within the 95 % interval of the paper's own mean, or beyond it.
            near = abs(gap) <= half_width([cell["paper_sd"] ** 2], task.n)
            tone = "near" if near else "better" if signs[cell["column"]] * gap > 0 else "worse"
            shown["tone"] = "" if toy else tone
        return shown

    def effect(name: str, cell: Mapping[str, Any]) -> dict[str, Any]:
        gain, sd = cell[name], cell[f"{name}_sd"]
        if pd.isna(gain):
            reason = cell["reason"] or "no split scored under both protocols"
            return BLANK | {"text": "no pair", "missing": True, "mark": notes.mark(reason)}
        spread = "" if pd.isna(sd) else f" ± {sd:.{digits}f}"
        return BLANK | {"text": signed(gain, digits) + spread, "order": gain}

    columns = [
        {"title": c.metric.title, "tex": c.metric.tex, "arrow": "↑" if c.metric.sign > 0 else "↓"}
        for c in table.columns
    ]

    def block(protocol: str, key: str, caption: str, show: Any) -> dict[str, Any]:
        sections = _sections(frame[frame["protocol"] == protocol], "model", lambda cells: map(show, cells))
        return _block(key, caption, [c.group_title for c in table.columns], columns, sections)

    protocols = list(dict.fromkeys(frame["protocol"]))
    blocks = [block(protocol, protocol, PROTOCOLS[protocol], score) for protocol in protocols]
    for name, more, less in (("optimism", "paper", task.choice_against), ("refit", "strict", "no_refit")):
        if {more, less} <= set(protocols):
            show = functools.partial(effect, name)
            blocks.append(block(more, name, EFFECTS[name].format(less), show))
    unit = "Percent" if table.unit == "percent" else "Fractions; RMSE and MAE in ln µM"
    legend = "Nothing in this table was scored in this run; only the paper's numbers are shown."
    if usual:
        legend = (
            f"Mean ± sample standard deviation over {usual} splits (n where it is another number); "
            "best in bold; below it the paper's number and Δ = ours − paper."
        )
    if usual and (frame["n_seeds"] > 1).any():
        legend += (
            " A row that was pre-trained from several seeds has its mean over all of them, ± over the splits "
            "of one pre-training (root of their mean variance), and below it ± of the seeds' means."
        )
    remarks = [*table.remarks, LEARNED, *_alike(frame)] if usual else []
    texts = {"unit": unit, "legend": legend, "remarks": remarks}
    return _view("scores", table.name, title, frame["run"].iloc[0], toy, blocks, notes, **texts)


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


def _view(
    kind: str, name: str, title: str, run: str, toy: bool, blocks: list[Any], notes: Notes, **more: Any
) -> dict[str, Any]:
    number, _, subject = title.partition(": ")  # Table 1: Cell type annotation
    return {
        "kind": kind,
        "name": name,
        "title": labelled(title, toy),
        "number": number,
        "subject": subject,
        "run": run,
        "toy": toy,
        "blocks": blocks,
        "notes": notes.texts,
    } | ({"unit": "", "legend": "", "remarks": []} | more)


def _block(
    key: str, caption: str, overs: Iterable[str], columns: Iterable[Any], sections: list[dict[str, Any]]
) -> dict[str, Any]:
    """One table of a view; ``overs`` are the upper headings of its columns."""
    return {
        "key": key,
        "caption": caption,
        "groups": [{"title": title, "span": span} for title, span in Counter(overs).items()],
        "columns": [c if isinstance(c, dict) else {"title": c, "tex": tex(c), "arrow": ""} for c in columns],
        "sections": sections,
    }


def _sections(
    frame: pd.DataFrame, row: str, show: Callable[[list[dict[Any, Any]]], Iterable[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Rows by their group, those of :data:`GROUPS` first; ``show``: from the lines of a row to its cells."""
    sections = []
    for group, members in frame.groupby("group", sort=False):
        lines = [
            {"title": cells["title"].iloc[0], "cells": list(show(cells.to_dict("records")))}
            for _, cells in members.groupby(row, sort=False)
        ]
        sections.append({"title": GROUPS.get(str(group), str(group)), "rows": lines})
    order = list(GROUPS.values())
    return sorted(sections, key=lambda s: order.index(s["title"]) if s["title"] in order else len(order))


def fact_view(frame: pd.DataFrame, title: str) -> dict[str, Any]:
    """What the templates show of a table of facts: the paper's value and ours, differences marked."""
    toy, notes = bool((frame["size"] == "toy").all()), Notes()
    parts = {
        column: ["paper", "this run", *(["Δ"] if (cells["difference"] != "").any() else [])]
        for column, cells in frame.groupby("column", sort=False)
    }

    def show(lines: list[dict[Any, Any]]) -> Iterable[dict[str, Any]]:
        for line in lines:
            missing, differs = line["status"] == NOT_MEASURED, line["status"] == DIFFERS
            yield BLANK | {"text": line["paper"], "order": line["paper"], "measured": False}
            yield BLANK | {
                "text": MISSING[NOT_MEASURED] if missing else line["ours"],
                "missing": missing,
                "measured": line["reason"] != NOTHING,
                "best": differs,
                "mark": notes.mark(line["reason"]),
                "order": line["ours"],
                "tone": "differs" if differs else "",
            }
            if "Δ" in parts[line["column"]]:
                yield BLANK | {"text": line["difference"], "order": line["difference"], "measured": False}

    block = _block(
        "facts",
        "The paper's value and the one of this run; differences in bold",
        [str(column) for column, names in parts.items() for _ in names],
        [name for names in parts.values() for name in names],
        _sections(frame, "title", show),
    )
    return _view("facts", frame["table"].iloc[0], title, frame["run"].iloc[0], toy, [block], notes)


def plain_view(
    name: str, frame: pd.DataFrame, title: str, remarks: Iterable[str], run: str, toy: bool
) -> dict[str, Any]:
    """What the templates show of numbers without a paper's: a block for each ``block`` of the frame."""
    notes, blocks = Notes(), []
    nothing = BLANK | {"text": "–", "missing": True, "measured": False}
    for number, (caption, members) in enumerate(frame.groupby("block", sort=False), 1):
        columns = list(dict.fromkeys(zip(members["over"], members["column"], strict=True)))
        overs = list(dict.fromkeys(over for over, _ in columns))
        columns.sort(key=lambda column: overs.index(column[0]))

        def show(lines: list[dict[Any, Any]], columns: Any = columns) -> Iterable[dict[str, Any]]:
            shown = dict.fromkeys(columns, nothing)
            for line in lines:
                text, _, below = line["text"].partition(" (")
                cell = nothing | {"measured": True, "mark": notes.mark(line["reason"])}
                if text:
                    cell |= {"text": text, "n": below.removesuffix(")"), "missing": False}
                    cell["order"] = line["value"]
                shown[line["over"], line["column"]] = cell
            return shown.values()

        above, titles = zip(*columns, strict=True)
        blocks.append(_block(str(number), str(caption), above, titles, _sections(members, "title", show)))
    legend = "" if blocks else "This run has nothing for this table."
    return _view("plain", name, title, run, toy, blocks, notes, legend=legend, remarks=list(remarks))


def read_table(path: str | Path) -> dict[str, Any]:
    """The view of a table's tidy CSV, as written by :func:`celllm.report.tables.run_table`."""
    frame = from_spreadsheets(read_csv(path))
    title = printed.load().table(str(frame["table"].iloc[0])).title
    if "ours" in frame:
        return fact_view(frame, title)
    numeric = ["n", "mean", "sd", "n_seeds", "seed_sd", "paper_value", "paper_sd", "difference"]
    numeric += ["optimism", "optimism_sd", "refit", "refit_sd"]
    frame[numeric] = frame[numeric].apply(pd.to_numeric, errors="coerce")
    return score_view(frame.assign(best=frame["best"] == "True"), title)
