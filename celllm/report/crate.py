"""A run as an RO-Crate: what was run on what, when, and what came of it, in ``ro-crate-metadata.json``.

Follows the profile Workflow Run Crate 0.6 (https://w3id.org/ro/wfrun/workflow) on RO-Crate 1.3, through the
library rocrate. Nothing in it names a place on the machine: files are identified by their path in the run's
folder.
"""

import mimetypes
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rocrate.model import ContextEntity, Entity
from rocrate.rocrate import ROCrate

from celllm.errors import UserError
from celllm.io import read_json, read_yaml, sha256, write_json, write_text
from celllm.report import published as printed
from celllm.report import supplement
from celllm.report.captions import caption_of

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.6": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.6": "Workflow Run Crate",
}
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
SOFTWARE = ("snakemake", "celllm", "torch", "numpy", "scanpy", "anndata", "scikit-learn", "dgl")
FILES = ("*.html", "*.csv", "*.md", "*.json", "tables/*", "figures/*", "facts/*", "scores/**/*", "splits/*")
# Written after the crate, or by it.
LATER = ("complete.json", "snakemake-report.html", "ro-crate-metadata.json", "config.json")
NAMES = {
    "report": "Report of the run",
    "claims": "Ledger: a verdict on every claim of the paper",
    "manifest": "Manifest: versions, configuration, inputs, machine, times",
    "leakage": "Cells of the tasks that are also among the cells of pre-training",
    "counts": "Counts of the data sets beside the paper's",
    "geometry": "Geometry of embeddings",
    "contrast": "Contrast of each encoder: its loss at the start and the end, beside the geometry",
}
FOLDERS = {
    "prepared": "Cells of each data set after reading and gene mapping",
    "corpus": "Pre-training cells as token shards",
    "graph": "Gene network and one embedding per gene",
    "checkpoints": "Pre-trained encoders",
}
TRACES = {"logs": "Log of each job", "benchmarks": "Time and memory of each job, by Snakemake"}


def run_crate(manifest: str | Path, lock: str | Path, source: str | Path, out: str | Path) -> None:
    """The folder of a run -> its RO-Crate: workflow, configuration, inputs, outputs, times, software.

    Parameters
    ----------
    manifest
        JSON file of :func:`celllm.report.manifest.run_manifest`.
    lock
        ``data.lock`` of the inputs: file, address, bytes, SHA-256.
    source
        The checkout that the workflow ran from, with CITATION.cff and ``workflow/``.
    out
        ``ro-crate-metadata.json`` in the folder of the run.

    Raises
    ------
    UserError
        For a manifest, lock or CITATION.cff that is missing or something else.
    """
    folder, run = Path(out).parent, read_json(manifest)
    inputs = _inputs(lock, run.get("inputs", {}))
    crate = ROCrate()
    crate.metadata.extra_contexts.append(TERMS)
    try:
        _describe(crate, Path(source), run)
        workflow = _workflow(crate, folder, Path(source), run)
        seeds = ", ".join(f"{name} = {value}" for name, value in run["seeds"].items()) or "none"
        known = {
            "name": f"Run {run['run']}",
            "description": f"snakemake all, {run['size']} size; seeds: {seeds}",
            "startTime": run["started"],
            "endTime": run["finished"],
        }
        given = {name: value for name, value in known.items() if value is not None}
        action = crate.add_action(workflow, identifier=f"#{run['uuid']}", properties=given)
    except KeyError as error:
        raise UserError(f"{manifest}: no manifest of this version of celllm ({error} is missing)") from error
    crate.root_dataset["mentions"] = [action]
    used = []
    # A file of the run's own raw/, else the address it came from, else its checksum alone.
    for path, entry in inputs.items():
        known = {"name": path, "sha256": entry["sha256"], "contentSize": str(entry["bytes"])}
        if (folder / "raw" / path).is_file():
            used.append(crate.add_file(folder / "raw" / path, f"raw/{path}", properties=known))
        elif str(entry.get("url", "")).startswith(("http://", "https://", "ftp://")):
            used.append(crate.add_file(entry["url"], properties=known))
        else:
            used.append(_add(crate, f"#input/{path}", "CreativeWork", **known))
    config = dict(run["config"])
    if config.get("mirror"):  # named, not located
        config["mirror"] = Path(config["mirror"]).name
    write_json(folder / "config.json", config)
    title = "Configuration of the run, defaults filled in"
    action["object"] = [_file(crate, folder, folder / "config.json", title), *used]
    made = [_file(crate, folder, path) for path in outputs(folder)]
    action["result"] = made + _folders(crate, folder, FOLDERS)
    for trace in _folders(crate, folder, TRACES):
        trace["about"] = action
    write_json(out, crate.metadata.generate())


def _inputs(lock: str | Path, verified: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Entries of a data.lock with the checksums that the manifest holds, those that were verified."""
    try:
        entries = dict(sorted(read_json(lock)["files"].items()))
        changed = [n for n, entry in entries.items() if verified.get(n, entry["sha256"]) != entry["sha256"]]
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{lock}: expected a data.lock, as celllm fetch writes it") from error
    if changed:
        raise UserError(
            f"{lock}: {changed[0]} has another checksum than in the manifest, so the inputs were fetched "
            "anew after this run; run it again"
        )
    return entries


def outputs(folder: Path) -> list[Path]:
    """What a run makes and passes on, without hidden files and what is written after the crate."""
    found = {path for pattern in FILES for path in folder.glob(pattern) if path.is_file()}
    return sorted(p for p in found if not p.name.startswith(".") and p.name not in LATER)


def _add(crate: ROCrate, identifier: str, kind: str, **properties: Any) -> Entity:
    """Add something that is not a file."""
    return crate.add(ContextEntity(crate, identifier, properties={"@type": kind} | properties))


def _describe(crate: ROCrate, source: Path, run: Mapping[str, Any]) -> None:
    """The crate itself: name, times, licence, authors, profiles, the paper it reproduces."""
    cited, book = read_yaml(source / "CITATION.cff"), printed.load()
    root = crate.root_dataset
    crate.name = f"{cited['title']}: run {run['run']}"
    crate.description = (
        f"A run of the CellLM benchmark at {run['size']} size. The licence is that of the code and of the "
        "results; data sets keep their own."
    )
    crate.datePublished = datetime.fromisoformat(run["finished"])
    terms = cited["license"]
    crate.license = _add(crate, f"https://spdx.org/licenses/{terms}", "CreativeWork", name=terms)
    authors = []
    for author in cited["authors"]:
        name = author.get("name") or f"{author['given-names']} {author['family-names']}"
        kind = "Organization" if "name" in author else "Person"
        identifier = author.get("orcid") or f"#{name.replace(' ', '-').lower()}"
        authors.append(_add(crate, identifier, kind, name=name))
    root["author"] = authors
    root["conformsTo"] = [
        _add(crate, address, "CreativeWork", name=name, version=address.rpartition("/")[2])
        for address, name in PROFILES.items()
    ]
    article = {"name": book.title, "author": book.authors, "datePublished": str(book.year)}
    root["citation"] = _add(crate, f"https://arxiv.org/abs/{book.arxiv}", "ScholarlyArticle", **article)


def _workflow(crate: ROCrate, folder: Path, source: Path, run: Mapping[str, Any]) -> Entity:
    """A copy of the workflow beside its results, with the software that it ran on."""
    packages = run["packages"] | {"celllm": run["celllm"]}
    copies = []
    for path in (source / "workflow/Snakefile", *sorted((source / "workflow/rules").glob("*.smk"))):
        copies.append(folder / path.relative_to(source))
        write_text(copies[-1], path.read_text(encoding="utf-8"))
    main, *parts = copies
    software = {name: packages[name] for name in SOFTWARE if name in packages}
    properties = _facts(main, "The CellLM benchmark") | {
        "version": f"{run['celllm']}+{run['git']['commit'] or 'unknown'}",
        "author": crate.root_dataset["author"],
        "license": crate.license,
        "hasPart": [_file(crate, folder, part, "Rules of the workflow") for part in parts],
        "softwareRequirements": [
            _add(crate, f"#{name}", "SoftwareApplication", name=name, softwareVersion=version)
            for name, version in software.items()
        ],
    }
    version = packages.get("snakemake")
    return crate.add_workflow(
        main, "workflow/Snakefile", properties=properties, main=True, lang="snakemake", lang_version=version
    )


def _file(crate: ROCrate, folder: Path, path: Path, name: str = "") -> Entity:
    place = path.relative_to(folder)
    return crate.add_file(path, place, properties=_facts(path, name or _name(place)))


def _facts(path: Path, name: str) -> dict[str, Any]:
    known = {".md": "text/markdown", ".tex": "application/x-tex"}
    guessed = known.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "text/plain"
    size = str(path.stat().st_size)
    return {"name": name, "contentSize": size, "sha256": sha256(path), "encodingFormat": guessed}


def _folders(crate: ROCrate, folder: Path, names: Mapping[str, str]) -> list[Entity]:
    """Folders that are described as one, those that the run has."""
    there = {name: text for name, text in names.items() if (folder / name).is_dir()}
    return [crate.add_dataset(dest_path=name, properties={"name": text}) for name, text in there.items()]


def _name(path: Path) -> str:
    """What a file holds, in words, from its place in the folder of a run."""
    book = printed.load()
    table = book.tables.get(path.stem) or book.fact_tables.get(path.stem)
    if path.parts[0] == "tables" and table:
        return table.title
    if path.parts[0] == "tables" and path.stem in supplement.TABLES:
        return supplement.TABLES[path.stem].title
    if path.parts[0] == "figures":
        return f"{caption_of(path.stem).title} ({path.stem})"
    return NAMES.get(path.stem) or path.with_suffix("").as_posix()
