"""The configuration from its settings classes: a JSON schema for editors, tables for readers."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from celllm.cells.settings import OPTIONS, CellOptions, H5adOptions
from celllm.config import Config, Rows
from celllm.errors import UserError
from celllm.io import write_text
from celllm.methods.settings import CELL_SETTINGS, PAIR_SETTINGS
from celllm.settings import Settings
from celllm.sources.settings import SourceRow

BEGIN = "<!-- made by `celllm schema --markdown config/README.md` from the settings classes; do not edit -->"
END = "<!-- end of the tables -->"


def run_schema(
    of: Literal["config", "models", "data_sets"] = "config", markdown: str | Path | None = None
) -> None:
    """The settings of a run as a JSON schema, or as tables in a page.

    Parameters
    ----------
    of
        ``config`` (config/paper.yaml and what is laid over it), ``models`` (config/models.yaml) or
        ``data_sets`` (config/data_sets.yaml).
    markdown
        A page whose tables between the two markers are written anew; no schema is printed then.

    Raises
    ------
    UserError
        For a page without the markers.
    """
    if markdown is None:
        print(json.dumps(schema(of), indent=2, ensure_ascii=False))
    else:
        write_text(markdown, with_tables(Path(markdown).read_text(encoding="utf-8"), str(markdown)))


def schema(of: Literal["config", "models", "data_sets"] = "config") -> dict[str, Any]:
    """The JSON schema of a file in config/; nothing is required of a configuration that lies over another."""
    if of == "models":
        return Rows.model_json_schema()
    if of == "data_sets":
        row = SourceRow.model_json_schema(ref_template="#/$defs/{model}")
        parts = row.pop("$defs")
        return {"type": "object", "additionalProperties": row, "$defs": parts}
    found: dict[str, Any] = _laid_over(Config.model_json_schema())
    return found


def _laid_over(node: Any) -> Any:
    """Nothing is required, and every list may be made longer by ``{add: [...]}``."""
    if isinstance(node, dict):
        # A setting may be called required: then it is a schema, no list.
        kept = {k: _laid_over(v) for k, v in node.items() if not (k == "required" and isinstance(v, list))}
        if kept.get("type") != "array":
            return kept
        added = {"type": "object", "properties": {"add": kept}, "additionalProperties": False}
        return {"anyOf": [kept, added]}
    return [_laid_over(value) for value in node] if isinstance(node, list) else node


def with_tables(page: str, where: str = "the page") -> str:
    """A page with the tables between its markers written anew."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"{where}: expected the lines '{BEGIN}' and '{END}' around the tables")
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def tables() -> str:
    """All settings in Markdown: of a run, of its rows, of the methods, of the data sets and their readers."""
    general = CellOptions.model_json_schema()
    shown: dict[str, str] = {}
    rows = _table(_rows(Rows.model_json_schema(), shown, " of `models.yaml`"))
    lines = ["## Keys of a run", "", *_table(_rows(Config.model_json_schema(), shown))]
    lines += ["## `models.yaml`", "", *rows]
    lines += ["## Settings of the baselines", "", "Under `baselines` of a task, by the name of the row.", ""]
    for kind, names in _by_class([*CELL_SETTINGS.items(), *PAIR_SETTINGS.items()]).items():
        if names != "`encoder`":
            lines += [f"{names}:", "", *_table(_rows(kind.model_json_schema()))]
    lines += ["## `data_sets.yaml`", "", *_table(_rows(SourceRow.model_json_schema(), prefix="<data set>."))]
    lines += [
        "## Options of the readers",
        "",
        "`options` of a data set; `reader_options` of a run over them.",
    ]
    lines += ["Every reader of cells has these:", "", *_table(_rows(general))]
    for kind, names in _by_class([*OPTIONS.items(), ("reader: h5ad", H5adOptions)]).items():
        own = kind.model_json_schema()
        new = {k: v for k, v in own["properties"].items() if v != general["properties"].get(k)}
        if new:
            lines += [f"{names}:", "", *_table(_rows(own | {"properties": new}))]
    return "\n".join(lines)


def _by_class(named: Iterable[tuple[str, type[Settings]]]) -> dict[type[Settings], str]:
    """Classes that have settings, each with the names it goes by."""
    found: dict[type[Settings], dict[str, None]] = {}
    for name, kind in named:
        if kind.model_fields:
            found.setdefault(kind, {})[f"`{name}`"] = None
    return {kind: ", ".join(names) for kind, names in found.items()}


def _table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    cells = [[text.replace("|", "\\|") for text in row] for row in rows]
    head = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    return [*head, *(f"| {' | '.join(row)} |" for row in cells), ""]


def _rows(
    root: Mapping[str, Any], shown: dict[str, str] | None = None, where: str = "", prefix: str = ""
) -> Iterator[tuple[str, ...]]:
    """Key, value, default and meaning of every setting, sections within sections by their whole path.

    ``shown`` holds the sections that have been written out, and what a second mention calls them; it grows.
    """
    shown = {} if shown is None else shown

    def walk(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, ...]]:
        # What stands there by name repeats a section more often than not, and comes after it.
        for name, value in sorted(node["properties"].items(), key=lambda item: _section(item[1], root)[1]):
            key, meaning = f"{path}{name}", value.get("description", "")
            section, by_name = _section(value, root)
            if section is None:
                default = (
                    f"`{json.dumps(value['default'], ensure_ascii=False)}`" if "default" in value else ""
                )
                default = "required" if name in node.get("required", ()) else default
                note = " (no result depends on it)" if value.get("resource") else ""
                yield f"`{key}`", _form(value, root), default, meaning + note
                continue
            inner = f"{key}.<name>" if by_name else key
            text = json.dumps(section["properties"], sort_keys=True)
            if text in shown:
                yield f"`{inner}`", "", "", f"{meaning}: the keys of {shown[text]}"
                continue
            shown[text] = f"`{inner}`{where}"
            yield f"`{inner}`", "", "", meaning
            yield from walk(section, f"{inner}.")

    yield from walk(root, prefix)


def _resolved(value: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = value.get("$ref")
    return root["$defs"][reference.rpartition("/")[2]] if reference else value


def _section(value: Mapping[str, Any], root: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, bool]:
    """The settings that stand under a key, and whether they stand there by name."""
    for one in value.get("anyOf", [value]):
        one = _resolved(one, root)
        inner = one.get("additionalProperties")
        if "properties" in one and not one.get("mixed"):
            return one, False
        if isinstance(inner, Mapping) and "properties" in _resolved(inner, root):
            return _resolved(inner, root), True
    return None, False


_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_NAMES = {"string": "text", "boolean": "true or false", "object": "mapping", "number": "number"}


def _form(value: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """What values a setting takes, in words."""
    value = _resolved(value, root)
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_form(one, root) for one in value["anyOf"]))
    if "enum" in value or "const" in value:
        return ", ".join(
            f"`{json.dumps(v)}`".replace('"', "") for v in value.get("enum", [value.get("const")])
        )
    if value.get("type") == "array":
        items: Mapping[str, Any] = value.get("items") or next(iter(value.get("prefixItems", [])), {})
        return f"list of {_form(items, root)}" if items else "list"
    if value.get("type") == "object" and isinstance(value.get("additionalProperties"), Mapping):
        return f"{_form(value['additionalProperties'], root)}, by name"
    kind = value.get("type", "any")
    limits = [f"{sign} {value[name]}" for name, sign in _BOUNDS.items() if name in value]
    return " ".join([_NAMES.get(kind, kind), ", ".join(limits)]).strip()
