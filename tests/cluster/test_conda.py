"""The conda environments: made from pyproject.toml, holding what the package imports, run by Snakemake.

No conda can be installed from a package index. With py-rattler (the solver behind pixi), a stand-in for the
`conda` command solves and links the environments from a made-up channel: one empty package per name, at the
version tested here. That shows that the environments parse, admit those versions and are used, not that the
real channels solve.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement

from tests.places import ROOT

NEEDS_RATTLER = pytest.mark.skipif(
    importlib.util.find_spec("rattler") is None, reason="needs py-rattler, which is not installed"
)
# Imported where it is installed, never needed.
OPTIONAL = {"torch_geometric", "scvi"}
COMES_WITH = {"cycler": "matplotlib", "pydantic_core": "pydantic", "urllib3": "requests"}
STAND_IN = """#!{python}
import asyncio, json, pathlib, subprocess, sys
import rattler, yaml

async def build(specs, channels, prefix):
    records = await rattler.solve(
        sources=[rattler.Channel(name) for name in channels], specs=specs,
        platforms=[str(rattler.Platform.current()), "noarch"],
        virtual_packages=[],
    )
    await rattler.install(records, target_prefix=prefix, show_progress=False)

words = sys.argv[1:]
root = str(pathlib.Path(__file__).resolve().parents[1])
if words[0] == "--version":
    print("conda 24.7.1")
elif words[0] == "info":
    here = str(rattler.Platform.current())
    print(json.dumps(dict(platform=here, conda_prefix=root, root_prefix=root, envs=[root])))
elif words[:2] == ["config", "--get"]:
    print(json.dumps(dict(get=dict(channel_priority="strict"))))
elif words[:2] == ["env", "create"]:
    file, prefix = (words[words.index(flag) + 1] for flag in ("--file", "--prefix"))
    wanted = yaml.safe_load(open(file))
    assert wanted["channels"][0] == "conda-forge"
    asyncio.run(build([d for d in wanted["dependencies"] if isinstance(d, str)], ["{channel}"], prefix))
    pip = [spec for d in wanted["dependencies"] if isinstance(d, dict) for spec in d["pip"]]
    subprocess.check_call([prefix + "/bin/python", "-m", "pip", "install", "-q", "--no-index", *pip])
elif words[0] != "clean":
    sys.exit(f"not a command of the stand-in: {{words}}")
"""


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make", ROOT / "envs/make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_environments_are_made_from_pyproject(name: str) -> None:
    assert (ROOT / f"envs/{name}.yaml").read_text() == maker().environment(name), "run python envs/make.py"


def test_rules_name_no_other_environment() -> None:
    made = {"../../envs/cpu.yaml", "../../envs/gpu.yaml"}
    lines = [
        line.strip(' "')
        for f in (ROOT / "workflow/rules").glob("*.smk")
        for line in f.read_text().split("\n")
    ]
    assert {line for line in lines if line.startswith("../../envs/")} == made


def test_environments_hold_all_that_the_package_imports() -> None:
    imported = set()
    for path in (ROOT / "celllm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.split(".")[0])
    imported = {COMES_WITH.get(module, module) for module in imported}
    outside = imported - set(sys.stdlib_module_names) - {"celllm"} - OPTIONAL
    assert {"torch", "scanpy", "dgl", "pydantic"} <= outside
    distributions = importlib.metadata.packages_distributions()
    named = {r.name.lower() for r in maker().requirements()}
    lost = {module for module in outside if not {d.lower() for d in distributions[module]} & named}
    assert not lost, f"imported, and in no environment: {sorted(lost)}"


def test_ranges_admit_the_versions_tested_together() -> None:
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().split()
        if "==" in line and line[0] != "#"
    )
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    for requirement in maker().requirements():
        assert pins[requirement.name.lower()] in requirement.specifier, requirement


@NEEDS_RATTLER
@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_every_dependency_is_a_valid_match_spec(name: str) -> None:
    from rattler import MatchSpec

    wanted = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())
    assert wanted["channels"] == ["conda-forge", "nodefaults"]
    for dependency in wanted["dependencies"]:
        if isinstance(dependency, str):
            MatchSpec(dependency, strict=True)
        else:
            assert all(Requirement(spec).specifier for spec in dependency["pip"])


def add_package(folder: Path, name: str, version: str, files: dict[str, str]) -> dict[str, object]:
    """Write an architecture-independent package; return its line of the channel's index."""
    index = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": []}
    index |= {"subdir": "noarch", "noarch": "generic"}
    paths = [
        {
            "_path": path,
            "path_type": "hardlink",
            "size_in_bytes": len(text),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
        for path, text in files.items()
    ]
    members = {"info/index.json": json.dumps(index)}
    members |= {"info/paths.json": json.dumps({"paths": paths, "paths_version": 1}), **files}
    archive = folder / f"{name}-{version}-0.tar.bz2"
    with tarfile.open(archive, "w:bz2") as tar:
        for path, text in members.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), 0o755
            tar.addfile(entry, io.BytesIO(text.encode()))
    content = archive.read_bytes()
    index |= {"sha256": hashlib.sha256(content).hexdigest(), "md5": hashlib.md5(content).hexdigest()}
    return index | {"size": len(content)}


def make_channel(folder: Path) -> None:
    """One empty package of each name in the environments, at the installed version; python runs this one."""
    conda_names = {conda: pip for pip, conda in maker().CONDA_NAME.items()}
    (folder / "noarch").mkdir(parents=True)
    packages = {}
    for name in ("cpu", "gpu"):
        for spec in yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())["dependencies"]:
            if isinstance(spec, str):
                package = spec.split()[0]
                installed = "torch" if package.startswith("pytorch") else conda_names.get(package, package)
                is_python = package == "python"
                version = "3.11.9" if is_python else importlib.metadata.version(installed).split("+")[0]
                files = {"bin/python": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'} if is_python else {}
                line = add_package(folder / "noarch", package, version, files)
                packages[f"{package}-{version}-0.tar.bz2"] = line
    for subdir, found in (("noarch", packages), ("linux-64", {})):
        index = {"info": {"subdir": subdir}, "packages": found, "packages.conda": {}, "repodata_version": 1}
        (folder / subdir).mkdir(exist_ok=True)
        (folder / subdir / "repodata.json").write_text(json.dumps(index))


@NEEDS_RATTLER
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in knows Linux")
def test_jobs_run_in_environments_that_snakemake_makes(tmp_path: Path) -> None:
    make_channel(tmp_path / "channel")
    programs = tmp_path / "conda/bin"
    programs.mkdir(parents=True)
    script = STAND_IN.format(python=sys.executable, channel=(tmp_path / "channel").as_uri())
    (programs / "conda").write_text(script)
    (programs / "activate").write_text('export CONDA_PREFIX="$1" PATH="$1/bin:$PATH"\n')
    (programs / "conda").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("CELLLM_MIRROR", None)
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1"]
    (tmp_path / "mine.yaml").write_text((ROOT / "envs/cpu.yaml").read_text() + "# of a method of one's own\n")
    (tmp_path / "own.yaml").write_text("models: {pca_logistic: {conda: mine.yaml}}\n")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    snakemake += [
        "--configfile",
        str(ROOT / "config/toy.yaml"),
        str(ROOT / "examples/own_method/config.yaml"),
    ]
    snakemake += [str(tmp_path / "own.yaml"), "--use-conda"]

    def run(*words: str) -> None:
        done = subprocess.run(
            [*snakemake, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    run("--conda-create-envs-only", "all")
    made = sorted(path.name for path in (tmp_path / ".snakemake/conda").iterdir() if path.is_dir())
    assert len(made) == 3  # the row's own among them
    run("--", "results/toy/prepared/genes.tsv")
    logs = "".join(path.read_text() for path in (tmp_path / ".snakemake/log").iterdir())
    assert "Activating conda environment" in logs
    assert (tmp_path / "results/toy/prepared/genes.tsv").stat().st_size > 1000
