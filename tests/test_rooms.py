"""Data flows one way: a room imports from rooms before it, and the border holds what all of them use."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places import ROOT

PACKAGE = ROOT / "celllm"
ROOMS = (
    *("sources", "cells", "corpus", "graph", "model", "scores", "training"),
    *("methods", "tasks", "probes", "report", "figures", "toy"),
)
# What every room may import. celllm.config checks a catalogue, alone and as part of a run.
COMMON = {
    *("apart", "errors", "io", "meter", "settings", "tensors", "optimiser", "interruption", "__version__"),
}
ALSO = {"sources": {"config"}}


def imported(path: Path) -> Iterator[str]:
    """The rooms and border modules that a module names in its imports, local ones too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "celllm":
            names = [f"celllm.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        yield from (name.split(".")[1] for name in names if name.startswith("celllm."))


def test_every_room_is_known() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_rooms_before_it(room: str) -> None:
    allowed = {*ROOMS[: ROOMS.index(room) + 1], *COMMON, *ALSO.get(room, ())} - {"toy"}
    for path in (PACKAGE / room).rglob("*.py"):
        assert set(imported(path)) - {room} <= allowed, path


def test_nothing_imports_the_toy() -> None:
    assert [p for p in PACKAGE.rglob("*.py") if "toy" in imported(p) and p.parent.name != "toy"] == []


@pytest.mark.parametrize("room", [r for r in ROOMS if (PACKAGE / r / "settings.py").is_file()])
def test_settings_are_read_without_heavy_libraries(room: str) -> None:
    code = f"import sys, celllm.{room}.settings; print(*({{'torch', 'scanpy', 'pandas'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_package_reads_nothing_outside_itself() -> None:
    """No module climbs from its own place to the checkout around the package."""
    climbing = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node)}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Subscript | ast.Attribute)
        and "__file__" in ast.unparse(node)
        and _climbs(ast.unparse(node)) >= len(path.relative_to(PACKAGE).parts) + 1
    ]
    assert climbing == []


def _climbs(text: str) -> int:
    """Folders that an expression goes up from its file."""
    if "parents[" in text:
        return int(text.partition("parents[")[2].partition("]")[0]) + 1
    return text.count(".parent")
