"""How large the code is and how fast it starts: lines, lengths of functions, start-up and planning times.

    python benchmarks/code_size.py                 # this tree
    python benchmarks/code_size.py --tree ../old   # another check-out, run by the same Python

A function's length is that of its source, from ``def`` to its last line, docstring included. A private
function has one caller when a single function (or the module's own level) uses its name.
"""

import argparse
import ast
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef


def n_lines(tree: Path, *folders: str) -> int:
    """Lines of all text files that git tracks there."""
    listed = subprocess.run(
        ["git", "ls-files", "--", *folders], cwd=tree, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return sum((tree / name).read_bytes().count(b"\n") for name in listed)


def callers(tree: ast.Module) -> dict[str, set[str]]:
    """Of each name, the functions and methods that use it; "" is the level of the module."""
    found: dict[str, set[str]] = {}

    def visit(node: ast.AST, within: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = child.id if isinstance(child, ast.Name) else getattr(child, "attr", None)
            if name:
                found.setdefault(name, set()).add(within)
            inner = isinstance(child, Function) and not within
            visit(child, f"{child.name}:{child.lineno}" if inner else within)

    visit(tree, "")
    return found


def functions_of(package: Path) -> tuple[list[int], int, int]:
    """Lengths of all functions; private functions; those of them with one caller."""
    lengths, private, one_caller = [], 0, 0
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = callers(tree)
        for node in ast.walk(tree):
            if isinstance(node, Function):
                lengths.append((node.end_lineno or node.lineno) - node.lineno + 1)
                if node.name.startswith("_") and not node.name.endswith("__"):
                    private += 1
                    one_caller += len(used.get(node.name, set()) - {f"{node.name}:{node.lineno}"}) == 1
    return lengths, private, one_caller


def seconds(tree: Path, *command: str, rounds: int = 5) -> float:
    """Median wall-clock time of a command in the tree, after one run that is not counted."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run(command, cwd=tree, env=environment, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def planning(tree: Path, *config: str, rounds: int = 3) -> float:
    with tempfile.TemporaryDirectory() as folder:
        place = ["--directory", folder, "--snakefile", str(tree / "Snakefile"), "--cores", "1"]
        return seconds(
            tree, sys.executable, "-m", "snakemake", "-n", "--quiet", "all", *place, *config, rounds=rounds
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1])
    tree = parser.parse_args().tree.resolve()
    lengths, private, one_caller = functions_of(tree / "celllm")
    p90 = statistics.quantiles(lengths, n=10)[-1]
    python = sys.executable
    rows = {
        "lines of the package (.py) and the rules (.smk)": n_lines(
            tree, "celllm/*.py", "*.smk", "*Snakefile"
        ),
        "with templates, schemas, captions": n_lines(tree, "celllm", "workflow", "Snakefile"),
        "lines of tests": n_lines(tree, "tests"),
        "functions": len(lengths),
        "lines of a function, median / p90": f"{statistics.median(lengths):.0f} / {p90:.0f}",
        "private functions / with one caller": f"{private} / {one_caller}",
        "celllm --help, s": f"{seconds(tree, python, '-m', 'celllm', '--help'):.2f}",
        "import celllm, s": f"{seconds(tree, python, '-c', 'import celllm'):.2f}",
        "python -c pass, s": f"{seconds(tree, python, '-c', 'pass'):.2f}",
        "snakemake -n, full run, s": f"{planning(tree):.1f}",
        "snakemake -n, toy run, s": f"{planning(tree, '--configfile', str(tree / 'config/toy.yaml')):.1f}",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}}  {value:>12}" if isinstance(value, str) else f"{name:{width}}  {value:>12,}")


if __name__ == "__main__":
    main()
