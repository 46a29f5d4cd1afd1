"""The crate of a run: JSON-LD that the library reads again, with what the profile asks for."""

import json
from pathlib import Path

import pytest

from celllm import __version__
from celllm.errors import UserError
from celllm.io import sha256
from celllm.report.crate import run_crate
from tests.places import ROOT

URL = "https://example.org/zheng68k/a.tar.gz"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """Three inputs: one in the run's own folder, one from an address, one from a mirror that is elsewhere."""
    raw = tmp_path / "run a/raw/baron/b.tar"
    raw.parent.mkdir(parents=True)
    raw.write_bytes(b"cells")
    files = {
        "baron/b.tar": {"url": "mirror:baron/b.tar", "bytes": 5, "sha256": sha256(raw)},
        "zheng68k/a.tar.gz": {"url": URL, "bytes": 9, "sha256": "a" * 64},
        "hgnc/c.txt": {"url": "mirror:hgnc/c.txt", "bytes": 7, "sha256": "c" * 64},
    }
    path = tmp_path / "data.lock"
    path.write_text(json.dumps({"version": 1, "files": files}))
    return path


def test_inputs_that_were_fetched_anew_are_refused(folder: Path, lock: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["inputs"] = {"hgnc/c.txt": "d" * 64}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"hgnc/c\.txt has another checksum than in the manifest"):
        run_crate(folder / "manifest.json", lock, ROOT, folder / "ro-crate-metadata.json")


@pytest.fixture
def folder(report, lock: Path, tmp_path: Path) -> Path:
    """The folder of a run with a table, a figure, the ledger, a report and its crate."""
    report()
    run = tmp_path / "run a"
    for name in ("report.html", "manifest.json", "claims.csv"):
        (tmp_path / name).rename(run / name)
    for place, name in (("tables", "table1.csv"), ("figures", "fig3_zheng68k.svg"), ("logs", "scores.csv")):
        (run / place).mkdir()
        (tmp_path / name).rename(run / place / name)
    (run / "complete.json").write_text("{}")
    run_crate(run / "manifest.json", lock, ROOT, run / "ro-crate-metadata.json")
    return run


@pytest.fixture
def graph(folder: Path) -> dict[str, dict]:
    document = json.loads((folder / "ro-crate-metadata.json").read_text())
    entities = {entity["@id"]: entity for entity in document["@graph"]}
    assert len(entities) == len(document["@graph"])
    return entities


def references(value) -> list[str]:
    """Ids of all entities that a value points to."""
    if isinstance(value, dict):
        return [value["@id"]] if set(value) == {"@id"} else [r for v in value.values() for r in references(v)]
    return [r for v in value for r in references(v)] if isinstance(value, list) else []


def test_the_profile_is_kept(graph: dict[str, dict]) -> None:
    root, metadata = graph["./"], graph["ro-crate-metadata.json"]
    assert metadata["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.3"}
    assert metadata["about"] == {"@id": "./"}
    assert set(references(root["conformsTo"])) == {
        "https://w3id.org/ro/wfrun/process/0.6",
        "https://w3id.org/ro/wfrun/workflow/0.6",
        "https://w3id.org/workflowhub/workflow-ro-crate/1.1",
    }
    for key in ("name", "description", "datePublished", "license", "author"):
        assert root[key]
    workflow = graph[root["mainEntity"]["@id"]]
    assert {"File", "SoftwareSourceCode", "ComputationalWorkflow"} == set(workflow["@type"])
    assert workflow["programmingLanguage"]["@id"].endswith("#snakemake")
    (action,) = (graph[name] for name in references(root["mentions"]))
    assert action["@type"] == "CreateAction"
    assert action["instrument"] == {"@id": "workflow/Snakefile"}
    assert action["endTime"] and action["name"]


def test_every_reference_and_every_file_is_there(graph: dict[str, dict], folder: Path) -> None:
    for entity in graph.values():
        for name in references({k: v for k, v in entity.items() if k != "@id"}):
            assert name in graph or name.startswith("https://"), (entity["@id"], name)
    files = [e for e in graph.values() if "File" in e["@type"] and not e["@id"].startswith("https://")]
    assert len(files) > 10
    for entity in files:
        assert (folder / entity["@id"]).is_file(), entity["@id"]
        assert entity["sha256"] == sha256(folder / entity["@id"])
    assert "complete.json" not in graph


def test_inputs_outputs_and_configuration(graph: dict[str, dict]) -> None:
    (action,) = (e for e in graph.values() if e["@type"] == "CreateAction")
    taken, made = references(action["object"]), references(action["result"])
    assert set(taken) == {"config.json", "raw/baron/b.tar", URL, "#input/hgnc/c.txt"}
    assert graph[URL]["sha256"] == "a" * 64
    assert graph["#input/hgnc/c.txt"]["sha256"] == "c" * 64
    assert {"report.html", "claims.csv", "manifest.json", "tables/table1.csv"} <= set(made)
    assert graph["tables/table1.csv"]["name"].startswith("Table 1: Cell type annotation")
    assert graph["figures/fig3_zheng68k.svg"]["encodingFormat"] == "image/svg+xml"
    assert graph["logs/"]["about"] == {"@id": action["@id"]}
    assert graph["#celllm"]["softwareVersion"] == __version__


def test_it_names_no_place_of_the_machine(folder: Path, tmp_path: Path) -> None:
    text = (folder / "ro-crate-metadata.json").read_text()
    assert str(tmp_path) not in text
    assert str(Path(__file__).resolve().parents[2]) not in text
    assert '"/' not in text and "file:" not in text


def test_the_library_opens_it_again(folder: Path) -> None:
    from rocrate.rocrate import ROCrate

    crate = ROCrate(folder)
    assert crate.mainEntity.id == "workflow/Snakefile"
    assert crate.root_dataset["mentions"][0]["instrument"] is crate.mainEntity
    assert crate.get("report.html").type == "File"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.lock", "[]", r"data\.lock: expected a data\.lock"),
        ("run a/manifest.json", "{}", r"manifest\.json: no manifest of this version of celllm"),
    ],
)
def test_a_file_that_is_something_else(
    folder: Path, lock: Path, name: str, content: str, message: str
) -> None:
    (lock.parent / name).write_text(content)
    (folder / "ro-crate-metadata.json").unlink()
    with pytest.raises(UserError, match=message):
        run_crate(folder / "manifest.json", lock, ROOT, folder / "ro-crate-metadata.json")
    assert not (folder / "ro-crate-metadata.json").exists()


def test_the_citation_file_says_what_the_package_is() -> None:
    from celllm.io import read_yaml
    from celllm.report import published

    cited = read_yaml(ROOT / "CITATION.cff")
    assert cited["version"] == __version__
    assert cited["preferred-citation"]["title"] == published.load().title
    assert published.load().arxiv in cited["preferred-citation"]["url"]
