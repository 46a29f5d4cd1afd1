"""Write cpu.yaml and gpu.yaml from the ranges of pyproject.toml: python envs/make.py (a test compares)."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

HERE = Path(__file__).parent
EXTRAS = ("workflow", "graph", "methods")
NOT_IN_JOBS = {"celllm", "snakemake", "snakemake-executor-plugin-slurm"}
# Distribution -> package of conda-forge, where the names differ.
CONDA_NAME = {"matplotlib": "matplotlib-base", "pyyaml": "pyyaml", "jinja2": "jinja2"}
FROM_PIP = {"performer-pytorch", "rdata", "rocrate", "celltypist", "dgl"}
HEADS = {
    "cpu": "# Every job that uses no GPU.",
    "gpu": "# Jobs that can use a GPU. Made on a login node without one: CONDA_OVERRIDE_CUDA=12.6.",
}


def requirements() -> list[Requirement]:
    """What jobs import: the core and the extras above, each once, in the order of pyproject.toml."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"]]
    for extra in EXTRAS:
        lines += project["optional-dependencies"][extra]
    return [r for r in map(Requirement, lines) if r.name not in NOT_IN_JOBS]


def environment(name: str) -> str:
    """The text of one environment."""
    lines = [
        HEADS[name],
        "# Made from pyproject.toml by envs/make.py.",
        "channels:",
        "  - conda-forge",
        "  - nodefaults",
    ]
    lines += ["dependencies:", "  - python =3.11", "  - pip", "  - setuptools"]
    conda_names = {**CONDA_NAME, "torch": f"pytorch-{name}"}
    given = requirements()
    for requirement in given:
        if requirement.name not in FROM_PIP:
            package = conda_names.get(requirement.name.lower(), requirement.name)
            lines.append(f"  - {package} {requirement.specifier}")
    lines.append("  - pip:")
    lines += [f"      - {r.name} {r.specifier}" for r in given if r.name in FROM_PIP]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name in HEADS:
        (HERE / f"{name}.yaml").write_text(environment(name), encoding="utf-8")
