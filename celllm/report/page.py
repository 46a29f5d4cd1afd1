"""The report of a run: one HTML page that needs nothing else, made from its tables, figures and ledger."""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from celllm.errors import UserError
from celllm.io import read_json, write_text
from celllm.report import published as printed
from celllm.report import supplement
from celllm.report.captions import GROUPS, caption_of
from celllm.report.ledger import read_ledger
from celllm.report.render import read_table, render
from celllm.report.run import labelled
from celllm.report.settings import RunLabel
from celllm.report.summary import summary_view

LARGEST_SVG = 1_000_000  # bytes; above it the pixels of the PNG are the smaller way to show the same
TITLE = "CellLM benchmark"


def run_report(
    tables: Sequence[str | Path],
    figures: Sequence[str | Path],
    claims: str | Path,
    manifest: str | Path,
    settings: RunLabel,
    out: str | Path,
) -> None:
    """Tables, figures, claims and manifest -> one self-contained page.

    Parameters
    ----------
    tables
        CSV files of :func:`celllm.report.tables.run_table`, in the order to show them.
    figures
        SVG or PNG files; of a figure given in both forms the SVG is taken unless it is very large.
    claims
        CSV file of :func:`celllm.report.claims.run_claims`.
    manifest
        JSON file of :func:`celllm.report.manifest.run_manifest`.

    Raises
    ------
    UserError
        For a file that is missing or not what it should be.
    """
    views = [
        supplement.read_supplement(path, settings.run, settings.toy)
        if Path(path).stem in supplement.TABLES
        else _read(read_table, path)
        for path in tables
    ]
    chosen: dict[str, list[Path]] = {}
    for path in map(Path, figures):
        if not path.exists():
            raise UserError(f"{path}: no such file")
        chosen.setdefault(path.stem, []).append(path)
    groups: dict[str, list[dict[str, Any]]] = {group: [] for group in GROUPS}
    for paths in chosen.values():
        figure = _figure(min(paths, key=_rank))
        groups[figure["group"]].append(figure)
    ledger, facts, book = _read(read_ledger, claims), read_json(manifest), printed.load()
    page = render(
        "report.html.j2",
        title=labelled(TITLE, settings.toy),
        toy=settings.toy,
        run=settings.run,
        summary=summary_view(views, ledger, facts, book),
        tables=views,
        figures={group: members for group, members in groups.items() if members},
        ledger=ledger,
        manifest=manifest_view(facts),
        paper=book,
    )
    write_text(out, page)


def _read(reader: Any, path: str | Path) -> Any:
    """Read a CSV of this benchmark; another file in its place is reported in one line."""
    try:
        return reader(path)
    except (KeyError, IndexError) as error:
        raise UserError(f"{path}: not a table or ledger of this version of celllm; make it again") from error


def _rank(path: Path) -> int:
    """A figure is shown as SVG, as PNG where that is very large or missing."""
    if path.suffix == ".svg":
        return 0 if path.stat().st_size <= LARGEST_SVG else 2
    return 1


def _figure(path: Path) -> dict[str, Any]:
    kind = {".svg": "image/svg+xml", ".png": "image/png"}.get(path.suffix)
    if kind is None:
        raise UserError(f"{path}: a report shows .svg and .png files")
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    caption = caption_of(path.stem)
    return dataclasses.asdict(caption) | {
        "text": caption.text,
        "name": path.stem,
        "of": printed.data_set_title(path.stem.partition("_")[2]) if caption.by_data_set else "",
        "source": f"data:{kind};base64,{data}",
    }


def manifest_view(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest in reading order: a few facts, times per rule, and the rest folded."""
    machine, git, packages = manifest["machine"], manifest["git"], manifest["packages"]
    named = ("torch", "numpy", "scanpy", "anndata", "scikit-learn", "dgl", "performer-pytorch", "snakemake")
    state = "" if git["commit"] is None else (", changed files" if git["dirty"] else ", clean")
    facts = {
        "Run": f"{manifest['run']} ({manifest['size']} size), {manifest['uuid']}",
        "Started": manifest.get("started") or "unknown",
        "Finished": manifest["finished"],
        "Code": f"celllm {manifest['celllm']}, commit {git['commit'] or 'unknown'}{state}",
        "Configuration": f"sha256 {manifest['config_sha256']}",
        "Seeds": ", ".join(f"{k} = {v}" for k, v in manifest["seeds"].items()) or "none",
        "Machine": "{host}: {cpu}, {n_cpus} cores, {memory_gib} GiB".format_map(machine),
        "GPU": ", ".join(machine["gpus"]) or "none",
        "System": f"{machine['system']}, Python {manifest['python']}",
        "Libraries": ", ".join(f"{p} {packages[p]}" for p in named if p in packages),
        "Inputs": f"{len(manifest['inputs'])} files with their SHA-256",
    }
    shown = ("uuid", "times", "job_seconds", "packages", "inputs")
    return {"facts": facts, "version": manifest["celllm"], "commit": git["commit"]} | {
        key: manifest[key] for key in shown
    }
