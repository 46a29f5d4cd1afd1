"""What the pages name is there: files, modules, commands, targets of make."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name for name in ("config/README.md", "results/README.md", "benchmarks/RESULTS.md")),
]
FOLDERS = tuple(
    path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))
)
# Made by a run, or written by the reader.
NOT_KEPT = re.compile(r"results/(?!README)|data/|build/|examples/\w*<|.*[*<{]|docs/_build")


def by_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def spans(page: Path) -> Iterator[str]:
    """Code within lines, without the fenced blocks."""
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.M))


def links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if not re.match(r"https?:|mailto:", target):
            yield target


def slug(heading: str) -> str:
    """The anchor that GitHub and the site give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        if anchor:
            assert anchor in {slug(h) for h in re.findall(r"^#+ (.+)$", text_of(place), re.M)}, target


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_files_and_modules_that_are_named_exist(page: Path) -> None:
    for span in spans(page):
        name = span.split()[0].rstrip(",;:")
        if re.fullmatch(r"celllm(\.\w+)+", name):
            module, attribute = name, ""
            try:
                importlib.import_module(module)
            except ModuleNotFoundError:
                module, _, attribute = name.rpartition(".")
                assert hasattr(importlib.import_module(module), attribute), name
        elif re.fullmatch(r"[\w.\-]+/[\w./\-]*", name) and name.partition("/")[0] in FOLDERS:
            assert NOT_KEPT.match(name) or (ROOT / name).exists(), name


def test_the_tree_is_the_tree() -> None:
    """Folders and files of the map in architecture.md exist, and it leaves no folder of the package out."""
    (tree,) = re.findall(r"## The tree\n\n```\n(.*?)```", text_of(ROOT / "docs/architecture.md"), re.DOTALL)
    mapped = set()
    for line in tree.splitlines():
        within = ROOT / "celllm" if line.startswith("  ") else ROOT
        for name in re.findall(
            r"\S+", line.split("   ")[0] if within == ROOT else line.strip().split("   ")[0]
        ):
            assert (within / name).exists(), line
            mapped.add(within / name)
    package = ROOT / "celllm"
    parts = {path for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert parts - mapped == set()


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_targets_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = re.findall(r"(?:^|`|=\S+ )make ([a-z]+)", text_of(page), re.M)
    assert set(named) <= targets


def test_ci_runs_what_the_readme_says() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    run = set(re.findall(r"^make ((?:[a-z]+ ?)+)$", script, re.M)[0].split())
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in sorted(run):
        run |= set(re.findall(rf"^{target}: (.+)$", makefile, re.M)[0].split())
    # `make toy` is what tests/workflow runs.
    assert set(re.findall(r"^make (\w+)", text_of(ROOT / "README.md"), re.M)) - {"toy"} <= run
