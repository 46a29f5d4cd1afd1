"""The toy mirror: all inputs of the benchmark, small, in the layout and the formats of the real downloads.

One data set is real (Zheng68k: the 700 cells that scanpy ships); the others are generated from one made-up
biology, with real gene symbols. :mod:`celllm.toy.readme` says which is which.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from celllm.errors import UserError
from celllm.toy.readme import TITLE, readme

if TYPE_CHECKING:
    from celllm.toy.packing import ToyFile


def write_toy_mirror(folder: str | Path, seed: int = 0) -> list[Path]:
    """Write the toy mirror; an older one at the same place is replaced.

    The folder appears as a whole, by one rename, when all its files are written. The same seed gives the same
    bytes.

    Parameters
    ----------
    folder
        Place of the mirror: absent, empty, or a toy mirror.
    seed
        Of everything that is generated.

    Returns
    -------
    Paths of the files, relative to ``folder``.

    Raises
    ------
    UserError
        When ``folder`` holds something else.
    """
    folder = Path(folder).resolve()
    _check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".partial-{folder.name}-", dir=folder.parent))
    try:
        staging.chmod(0o755)
        paths = _write_files(staging, toy_files(seed), seed)
        if folder.exists():
            shutil.rmtree(folder)
        staging.replace(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return paths


def run_toy_mirror(folder: str | Path, /, seed: int = 0) -> None:
    """Write a small mirror of all sources, in their layouts, with generated cells.

    Parameters
    ----------
    folder
        Where it goes.
    seed
        Of everything generated.
    """
    folder = Path(folder).resolve()
    paths = write_toy_mirror(folder, seed)
    size = sum((folder / path).stat().st_size for path in paths)
    print(f"{folder}: toy mirror, seed {seed}, {len(paths)} files, {size / 1e6:.1f} MB")


def toy_files(seed: int) -> "list[ToyFile]":
    """All files of the toy mirror except its own lists and README."""
    from celllm.toy.baron import baron_files
    from celllm.toy.biology import build_biology
    from celllm.toy.cancerscem import cancerscem_files
    from celllm.toy.cell_lines import ccle_files, line_activities
    from celllm.toy.drug_cells import cisplatin_files, erlotinib_files
    from celllm.toy.gdsc import gdsc_files, responses
    from celllm.toy.panglaodb import panglaodb_files
    from celllm.toy.reference import Identifiers, reference_files
    from celllm.toy.zheng68k import zheng68k_files

    biology = build_biology(seed)
    ids = Identifiers(biology.symbols)
    lines = line_activities(biology, seed)
    return [
        *reference_files(biology, ids, seed),
        *panglaodb_files(biology, ids, seed),
        *cancerscem_files(biology, seed),
        *zheng68k_files(ids),
        *baron_files(biology, seed),
        *erlotinib_files(biology, seed),
        *cisplatin_files(biology, seed),
        *ccle_files(biology, ids, lines, seed),
        *gdsc_files(responses(biology, lines, seed)),
    ]


def _check_place(folder: Path) -> None:
    description = folder / "README.md"
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() and not (description.is_file() and description.read_text("utf-8").startswith(TITLE)):
        raise UserError(f"{folder}: exists and is not a toy mirror; choose another folder or remove it")


def _write_files(folder: Path, files: "Iterable[ToyFile]", seed: int) -> list[Path]:
    """Write the files, then the lists of them."""
    from celllm.toy.packing import table

    ordered = sorted(files, key=lambda file: file.path)
    sums = {file.path: hashlib.sha256(file.content).hexdigest() for file in ordered}
    rows = [(f.path, len(f.content), sums[f.path], f.kind, f.stands_for) for f in ordered]
    manifest = table([("path", "bytes", "sha256", "kind", "stands_for"), *rows])
    lists = {"MANIFEST.tsv": manifest, "README.md": readme(seed).encode()}
    sums |= {name: hashlib.sha256(content).hexdigest() for name, content in lists.items()}
    lists["SHA256SUMS"] = table(((sums[path], path) for path in sorted(sums)), "  ")
    contents = {file.path: file.content for file in ordered} | lists
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return [Path(path) for path in contents]
