"""What is published: the wheel, the source archive, their metadata, the pinned versions."""

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import celllm

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Of no run by default, installed nowhere here and so without tested versions: extra -> its modules.
APART = {"scvi": "scvi"}
TESTED = [extra for extra in EXTRAS if extra not in APART]
# Used without an import of ours, and where.
NAMED_ELSEWHERE = {"snakemake-executor-plugin-slurm": ("profiles/slurm/config.yaml", "executor: slurm")}

# Makes modules of these names as absent as if they were not installed.
HIDE = """
import sys
class Hidden:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in {hidden!r} else self.finder.find_spec(name, *rest)
sys.meta_path[:] = map(Hidden, sys.meta_path)
"""

# Sixty cells of two classes: as somebody's own file, and as a prepared data set with its vocabulary.
MAKE = """
import anndata, numpy, pandas, scipy.sparse
from celllm.cells import h5ad
from celllm.cells.check import PROVENANCE
from celllm.cells.genes import Vocabulary

labels = numpy.array(["a", "b"] * 30)
rates = numpy.where(labels[:, None] == "a", [9] * 20 + [1] * 20, [1] * 20 + [9] * 20)
counts = scipy.sparse.csr_matrix(numpy.random.default_rng(0).poisson(rates).astype("float32"))
obs = pandas.DataFrame({"sample": "s", "label": labels}, index=[f"s_{i}" for i in range(60)])
vocabulary = Vocabulary(tuple(f"GENE{i:02d}" for i in range(40)), ("",) * 40)
vocabulary.write("genes.tsv")
cells = anndata.AnnData(counts, obs=obs, var=pandas.DataFrame(index=list(vocabulary.symbols)))
cells.write_h5ad("own.h5ad")
cells.uns["celllm"] = dict.fromkeys(PROVENANCE, "") | {"values": "counts", "fractions": False}
h5ad.write(cells, "cells.h5ad")
"""

# What the README says about cells of one's own, with an untrained encoder.
OWN_CELLS = """
import pathlib, sys
import anndata as ad
import celllm
assert "torch" not in sys.modules
from celllm.cells.genes import SymbolMap, Vocabulary
from celllm.corpus.tokens import Tokeniser
from celllm.model.encoder import Encoder
from celllm.model.settings import EncoderConfig
from celllm.model.embedder import Embedder

vocabulary = Vocabulary.read("genes.tsv")
encoder = Encoder(EncoderConfig(n_genes=40, dim=16, depth=1, heads=2, dim_head=8)).eval()
meta = {"genes_sha256": vocabulary.sha256, "model": {"name": "small"}}
pathlib.Path("model").mkdir()
Embedder(encoder, Tokeniser(40), meta, SymbolMap(vocabulary, [])).write("model/model.safetensors")
vocabulary.write("model/genes.tsv")

adata = ad.read_h5ad("own.h5ad")
model = celllm.load("model")
adata.obsm["X_celllm"] = model.embed(adata, progress=False)
assert adata.obsm["X_celllm"].shape == (60, 16)
labelled = adata[:40].copy()
celllm.tl.annotate(adata, reference=labelled, label_key="label", model=model, progress=False)
assert set(adata.obs["celllm_label"]) <= {"a", "b"}
assert "dgl" not in sys.modules
"""


def requirements(*extras: str) -> list[Requirement]:
    """Of the core and the extras; our own extras inside an extra are not followed."""
    listed = [*PROJECT["dependencies"], *(text for extra in extras for text in EXTRAS[extra])]
    return [r for r in map(Requirement, listed) if r.name != PROJECT["name"]]


def closure(wanted: list[Requirement]) -> dict[str, Requirement]:
    """Everything that pip would install for them here, by canonical name."""
    found: dict[str, Requirement] = {}
    seen: set[tuple[str, frozenset[str]]] = set()

    def follow(requirement: Requirement) -> None:
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            return
        seen.add((name, extras))
        found.setdefault(name, requirement)
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras or {""}):
                follow(needed)

    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate():
            follow(requirement)
    return found


def modules_of(names: set[str]) -> set[str]:
    """Top-level modules of installed distributions."""
    return {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if any(canonicalize_name(owner) in names for owner in owners)
    }


def imports() -> Iterator[str]:
    """Dotted names imported anywhere in the package and the rules."""
    sources = [*ROOT.glob("celllm/**/*.py"), ROOT / "workflow/Snakefile", ROOT / "docs/conf.py"]
    for path in sources:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Import):
                    yield from (alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    yield node.module
        else:
            yield from re.findall(r"^(?:from|import) ([\w.]+)", text, re.MULTILINE)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files and new ones, as a clean check-out."""
    folder = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def build(source: Path, kind: str, folder: Path) -> Path:
    """Call the build backend, which needs neither network nor a virtual environment."""
    code = f"import setuptools.build_meta as b; print(b.build_{kind}({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, "wheel", tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_every_file_of_the_package(wheel: Path, source: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    package = {str(path.relative_to(source)) for path in (source / "celllm").rglob("*") if path.is_file()} - {
        "celllm/__pycache__"
    }
    assert package - held == set()
    assert not [name for name in held if not name.startswith(("celllm/", "celllm-"))]


def test_the_source_archive_holds_the_workflow(source: Path, tmp_path: Path) -> None:
    archive = build(source, "sdist", tmp_path)
    shutil.unpack_archive(archive, tmp_path, filter="data")
    held = next(path for path in tmp_path.iterdir() if path.is_dir())
    for name in ("Snakefile", "workflow/Snakefile", "config/paper.yaml", "docs/errata.md", "constraints.txt"):
        assert (held / name).is_file(), name
    assert not list(held.rglob("*.pyc"))


def test_the_core_runs_from_the_wheel_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """With every package hidden that only an extra needs."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    installed = {canonicalize_name(d.metadata["Name"]) for d in importlib.metadata.distributions()}
    core = closure(requirements())
    hidden = modules_of(installed - set(core)) - modules_of(set(core)) - {"celllm"}
    assert {"snakemake", "scanpy", "matplotlib", "dgl", "rdkit"} <= hidden
    (tmp_path / "installed/sitecustomize.py").write_text(HIDE.format(hidden=sorted(hidden)))
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {"PYTHONPATH": str(tmp_path / "installed"), "HOME": str(tmp_path), "PATH": ""}

    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=empty,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    (empty / "make.py").write_text(MAKE)
    (empty / "own_cells.py").write_text(OWN_CELLS)
    made = subprocess.run(
        [sys.executable, "make.py"], cwd=empty, env=environment, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    found = run("celllm", "check", "own.h5ad")
    assert found.returncode == 0, found.stderr
    assert "60 cells" in found.stdout
    front_door = [sys.executable, "own_cells.py"]
    used = subprocess.run(front_door, cwd=empty, env=environment, capture_output=True, text=True, check=False)
    assert used.returncode == 0, used.stderr
    named = ["--cells", "cells.h5ad", "--data-set", "made"]
    drawn = run("celllm", "splits", "--task", "annotation", *named, "--out", "splits.json")
    assert drawn.returncode == 0, drawn.stderr
    row = json.dumps({"name": "knn", "kind": "baseline", "method": "knn_pca"})
    options = ["--genes", "genes.tsv", "--splits", "splits.json", "--model", row, "--protocols", "strict"]
    scored = run("celllm", "score", *named, *options, "--out", "scores")
    assert scored.returncode == 0, scored.stderr
    assert "accuracy" in (empty / "scores/annotation/made/knn/strict.csv").read_text(encoding="utf-8")


def test_every_dependency_is_imported_somewhere() -> None:
    extensions = re.findall(r'"([\w.]+)"', (ROOT / "docs/conf.py").read_text(encoding="utf-8"))
    used = {part for name in [*imports(), *extensions] for part in name.split(".")}
    owners = importlib.metadata.packages_distributions()
    for requirement in requirements("workflow", "graph", "methods", "docs"):
        name = canonicalize_name(requirement.name)
        if name in NAMED_ELSEWHERE:
            place, words = NAMED_ELSEWHERE[name]
            assert words in (ROOT / place).read_text(encoding="utf-8")
            continue
        modules = {m for m, dists in owners.items() if name in map(canonicalize_name, dists)}
        assert modules & used, f"{requirement.name} is in pyproject.toml and nothing imports it"


def test_every_import_is_declared() -> None:
    declared = closure(requirements("workflow", "graph", "methods", "docs"))
    roots = {name.partition(".")[0] for name in imports()}
    unknown = roots - set(sys.stdlib_module_names) - modules_of(set(declared)) - {"celllm"}
    assert unknown == set(APART.values())


def test_constraints_pin_what_is_installed_and_allowed() -> None:
    pins: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, equals, version = line.partition("==")
            assert equals, line
            assert canonicalize_name(name) not in pins, f"{name} is pinned twice"
            pins[canonicalize_name(name)] = version
    needed = closure(requirements(*TESTED))
    assert set(needed) - set(pins) == set(), "not in constraints.txt"
    assert set(pins) - set(needed) == set(), "in constraints.txt, and nothing needs it"
    for requirement in requirements(*TESTED):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_one_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT
    assert citation["version"] == celllm.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == celllm.__version__


def test_citation_and_zenodo_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    paper = citation["preferred-citation"]
    zenodo = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    assert zenodo["title"] == citation["title"]
    assert zenodo["upload_type"] == "software"
    assert zenodo["license"].lower() == citation["license"].lower() == PROJECT["license"].lower()
    assert [c["name"] for c in zenodo["creators"]] == [a["name"] for a in citation["authors"]]
    assert paper["doi"] in {r["identifier"] for r in zenodo["related_identifiers"]}
    assert "version" not in zenodo  # Zenodo takes it from the release's tag
