"""What can be read off the container files without a registry to build them from."""

import re

import yaml

from tests.places import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
APPTAINER = (ROOT / "apptainer.def").read_text()


def test_base_images_are_pinned_alike_to_the_python_that_dgl_has_wheels_for() -> None:
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.M) + re.findall(r"^From: (\S+)", APPTAINER, re.M)
    assert len(images) == 3 and len(set(images)) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", images[0])


def test_image_runs_the_toy_as_an_ordinary_user() -> None:
    last = DOCKERFILE[DOCKERFILE.rindex("FROM") :]
    assert last.index("USER celllm") < last.index('CMD ["make", "toy"]')
    assert "gcc" not in last, "compilers stay in the first stage"


def test_what_is_copied_first_is_there_and_enough_for_the_setup() -> None:
    copied = re.findall(r"^COPY (?!--from|\. )(.+) \S+$", DOCKERFILE, re.M)
    names = [name for line in copied for name in line.split()]
    assert {"pyproject.toml", "constraints.txt", "Makefile", "celllm", "README.md"} <= set(names)
    assert all((ROOT / name).exists() for name in names)


def test_local_state_stays_out_of_the_images() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", ".snakemake", "data", "results"} <= set(ignored)
    assert "rm -rf .git .venv .snakemake data results" in APPTAINER


def test_hosted_ci_calls_the_same_script() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert {"run": ".ci/run"} in jobs["all"]["steps"]
    assert jobs["core"]["strategy"]["matrix"]["python"] == ["3.12", "3.13"]
