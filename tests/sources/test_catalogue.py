import copy
import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from celllm.errors import UserError
from celllm.settings import as_settings
from celllm.sources.catalogue import Catalogue, InputFile, choose
from tests.places import ROOT

CATALOGUE = ROOT / "config/data_sets.yaml"
SAMPLE = "SRA605557_SRS2493626"


@pytest.fixture
def sources() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(CATALOGUE.read_text())
    return content


def _write(folder: Path, sources: dict[str, Any], table: str = "sample,url,sha256\n") -> Path:
    (folder / "cancerscem_samples.csv").write_text(table)
    place = folder / "data_sets.yaml"
    place.write_text(yaml.safe_dump(sources, sort_keys=False))
    return place


def test_every_input_of_the_paper_is_there() -> None:
    catalogue = Catalogue.read(CATALOGUE)
    roles: dict[str, list[str]] = {}
    for name, source in catalogue.sources.items():
        roles.setdefault(source["role"], []).append(name)
        assert source["licence"] and source["citation"] and source["note"]
    assert roles == {
        "genes": ["hgnc"],
        "network": ["string"],
        "pretraining": ["panglaodb", "cancerscem"],
        "annotation": ["zheng68k", "baron"],
        "single_cell_drug": ["gse149383", "gse117872"],
        "expression": ["ccle"],
        "response": ["gdsc", "gdsc2"],
        "markers": ["panglaodb_markers"],
    }


def test_paths_are_unique_and_find_their_rows_again() -> None:
    catalogue = Catalogue.read(CATALOGUE)
    files = [file for name in catalogue.sources for file in catalogue.files(name)]
    files += catalogue.sample_files("panglaodb", SAMPLE) + catalogue.sample_files(
        "cancerscem", "LGG-001-01-1A"
    )
    assert len({file.path for file in files}) == len(files) == 27
    assert [catalogue.resolve(file.path) for file in files] == files


def test_addresses_of_samples_are_filled_in() -> None:
    catalogue = Catalogue.read(CATALOGUE)
    matrix, clusters = catalogue.sample_files("panglaodb", SAMPLE)
    assert matrix == InputFile(
        key="panglaodb.sample_files.matrix",
        path=f"panglaodb/{SAMPLE}.sparse.RData",
        urls=(
            "https://panglaodb.se/data_dl.php?sra=SRA605557&srs=SRS2493626&filetype=R&datatype=readcounts",
        ),
        sha256=None,
        bytes=None,
        content="rdata",
        browser=True,
        sample=SAMPLE,
        at_most=4_000_000_000,
    )
    assert (
        clusters.urls[0].endswith(f"/sample_clusters/{SAMPLE}.seurat_clusters.txt")
        and clusters.name == "clusters"
    )
    lone = catalogue.resolve("panglaodb/SRA628550.sparse.RData")
    assert catalogue.fields("cancerscem", "ccRCC-060-01-1A") == {"sample": "ccRCC-060-01-1A"}
    assert "?sra=SRA628550&srs=notused&" in lone.urls[0] and lone.sample == "SRA628550"


def test_addresses_from_a_table_of_samples(tmp_path: Path, sources: dict[str, Any]) -> None:
    digest = "a" * 64
    table = f"# how to fill it\n\nsample,url,sha256\nLGG-001-01-1A,https://example.org/1.tsv,{digest}\nLGG-001-02-1A,,\n"
    catalogue = Catalogue.read(_write(tmp_path, sources, table))
    first, second, third = (catalogue.sample_files("cancerscem", f"LGG-001-0{i}-1A")[0] for i in (1, 2, 3))
    assert (first.urls, first.sha256, first.content) == (
        ("https://example.org/1.tsv",),
        digest,
        "text_or_gzip",
    )
    for other in (second, third):
        assert other.urls == () and other.sha256 is None and "cancerscem_samples.csv" in (other.supply or "")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("sample,adress\nA,b\n", "expected the columns sample,url,sha256"),
        ("sample,url,sha256\nA,b\n", "expected the columns sample,url,sha256"),
        ("sample,url,sha256\nLGG-001-01-1A,ftp://x,\n", "'ftp://x' is not an http address"),
        ("sample,url,sha256\nLGG-001-01-1A,http://x,abc\n", "64 hexadecimal digits"),
    ],
)
def test_slips_in_the_table_of_samples(
    tmp_path: Path, sources: dict[str, Any], table: str, message: str
) -> None:
    catalogue = Catalogue.read(_write(tmp_path, sources, table))
    with pytest.raises(UserError, match=message) as error:
        catalogue.sample_files("cancerscem", "LGG-001-01-1A")
    assert "cancerscem_samples.csv" in str(error.value)


@pytest.mark.parametrize(
    "path",
    [
        "panglaodb/../../etc/passwd.sparse.RData",
        "panglaodb/a/b.sparse.RData",
        "panglaodb/SRA1 SRS2.sparse.RData",
        "/etc/passwd",
        "nothing/here.txt",
        "cancerscem/{sample}.counts.matrix.tsv.gz",
    ],
)
def test_paths_outside_the_catalogue_are_refused(path: str) -> None:
    with pytest.raises(UserError, match=r"no row of .*data_sets\.yaml has this path"):
        Catalogue.read(CATALOGUE).resolve(path)


def test_unknown_names_come_with_the_known_ones() -> None:
    catalogue = Catalogue.read(CATALOGUE)
    with pytest.raises(UserError, match=r"unknown data set 'zheng'; known are hgnc, .*, zheng68k"):
        choose(catalogue, ["zheng"])
    with pytest.raises(UserError, match=r"panglaodb: '\.\./x' is not a sample name"):
        catalogue.sample_files("panglaodb", "../x")
    assert choose(catalogue, ["baron", "hgnc"]) == ["hgnc", "baron"]


def _edited(sources: dict[str, Any], keys: str, value: Any) -> dict[str, Any]:
    changed: Any = copy.deepcopy(sources)
    *way, last = keys.split(".")
    place = changed
    for key in way:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return dict(changed)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ("baron.licens", "MIT", "baron.licens: unknown key 'licens'"),
        ("baron.title", None, "baron.title: is missing"),
        ("baron.role", "cells", "baron.role: expected 'genes'"),
        ("baron.files.matrix.url", ["https://x"], r"baron\.files\.matrix\.url: unknown key 'url'"),
        ("baron.files.matrix.urls", "https://x", r"baron\.files\.matrix\.urls: expected a list"),
        ("baron.files.matrix.urls", ["ftp://x"], r"baron\.files\.matrix\.urls\.0: "),
        ("baron.files.matrix.urls", [], r"baron\.files\.matrix\.supply: "),
        ("baron.files.matrix.sha256", "abc", r"baron\.files\.matrix\.sha256: "),
        ("baron.files.matrix.bytes", "1", r"baron\.files\.matrix\.bytes: expected a number"),
        ("baron.files.matrix.path", "../x.tar", r"baron\.files\.matrix\.path: "),
        ("baron.files.matrix.path", "a/../x.tar", r"baron\.files\.matrix\.path: "),
        ("baron.files.matrix.path", "/x.tar", r"baron\.files\.matrix\.path: "),
        ("panglaodb.sample_files.matrix.path", "a/b.RData", r"panglaodb\.sample_files\.matrix\.path: "),
        ("baron", 3, "baron: expected a mapping of keys, got int"),
        ("baron", ["files"], "baron: expected a mapping of keys, got list"),
        ("panglaodb.sample_files.matrix", None, r"panglaodb\.sample_files: expected a matrix"),
        ("panglaodb.sample", None, r"panglaodb\.sample_files: expected a matrix, and sample"),
    ],
)
def test_a_slip_in_the_catalogue_is_one_line_naming_the_key(
    tmp_path: Path, sources: dict[str, Any], keys: str, value: Any, message: str
) -> None:
    place = _write(tmp_path, _edited(sources, keys, value))
    with pytest.raises(UserError, match=message) as error:
        Catalogue.read(place)
    assert str(error.value).startswith(str(place)) and "\n" not in str(error.value)


def test_yaml_that_would_run_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(UserError, match="not valid YAML"):
        Catalogue.read(tmp_path / "x.yaml")


def test_the_options_are_those_of_the_readers_with_their_defaults() -> None:
    """What the catalogue says about an option is what the reader does without one."""
    for name, source in Catalogue.read(CATALOGUE).sources.items():
        if source.get("options"):
            module = importlib.import_module(f"celllm.cells.readers.{'gdsc' if name == 'gdsc2' else name}")
            given = as_settings(module.Options, source["options"], name)
            # The mirror has samples none of whose barcodes is a cell; whoever runs the command is told so.
            exception = {"allow_empty": True} if name == "panglaodb" else {}
            assert given == module.Options(**exception), name


def test_what_has_no_address_is_to_be_supplied_unless_it_is_there(
    tmp_path: Path, sources: dict[str, Any]
) -> None:
    table = "sample,url,sha256\nAML-001-01-1A,,\nLGG-001-01-1A,https://example.org/a.gz,\n"
    catalogue = Catalogue.read(_write(tmp_path, sources, table))
    without = "cancerscem/AML-001-01-1A.counts.matrix.tsv.gz"
    paths = ["cancerscem/CancerSCEM.metadata.xlsx", without, without.replace("AML", "LGG")]
    found = catalogue.to_supply(tmp_path / "raw", paths)
    assert list(found) == paths[:2]
    assert found[without].startswith("the counts matrix of the sample")
    assert found[without].endswith("(cancerscem.sample_files.matrix)")
    (tmp_path / "raw/cancerscem").mkdir(parents=True)
    (tmp_path / "raw" / without).write_text("")
    assert list(catalogue.to_supply(tmp_path / "raw", paths)) == paths[:1]
