"""The toy mirror: all inputs of the benchmark, small, in the layout and the formats of the real downloads.

One data set is real (Zheng68k: the 700 cells that scanpy ships); the others are generated from one made-up
biology, with real gene symbols. :data:`README` says which is which.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from celllm.errors import UserError

if TYPE_CHECKING:
    from celllm.toy.packing import ToyFile

TITLE = "# Toy mirror of the CellLM benchmark"
README = """
Written by `celllm toy-mirror` with seed {seed}. Every file is where the original download would be and
has its format, its headers and its oddities. `MANIFEST.tsv` says what each file is made of;
`SHA256SUMS` covers all.

**These are not the data of the paper.** Results on them show that the software works; they say nothing
about any method.

| folder | real | not real |
|---|---|---|
| `hgnc/` | symbols, former symbols, aliases | ids are placeholders; few genes, most columns empty |
| `string/` | symbols | proteins, links and scores are generated |
| `zheng68k/` | 700 measured cells and their labels | gene ids are placeholders |
| `panglaodb/` | gene symbols | all else is generated; accessions are made up |
| `cancerscem/` | gene symbols | all else is generated; sample ids are made up |
| `baron/` | gene symbols, class names | all else is generated |
| `gse149383/`, `gse117872/` | gene symbols | all else is generated |
| `ccle/` | gene symbols | all else is generated; the cell lines do not exist |
| `gdsc/` | names, ids, targets, structures of the drugs | lines and responses are generated |

The real cells are those of Zheng et al., Nature Communications 8:14049 (2017), in the excerpt that scanpy
ships as `pbmc68k_reduced`: their integer counts follow from its log-normalised values and UMI totals. Their
labels are its `bulk_labels`, not those of the original label table; the two columns of plot coordinates
hold its UMAP.

How the other cells are generated: a cell has an activity in each of some 45 programmes (complexes,
responses, cell types); log expression is linear in the activities; tumours, drugs and samples shift
activities or genes; counts are negative binomial. Genes of one programme are linked in `string/`. ln IC50 =
drug + line + activities of the line + noise. Nothing generated depends on the real cells except the list
of their gene names.
"""


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
    from celllm.toy.packing import table

    folder = Path(folder).resolve()
    description = folder / "README.md"
    is_mirror = description.is_file() and description.read_text("utf-8").startswith(TITLE)
    if folder.exists() and not is_mirror and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is not a toy mirror; choose another folder or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".partial-{folder.name}-", dir=folder.parent))
    try:
        staging.chmod(0o755)
        files = sorted(toy_files(seed), key=lambda file: file.path)
        sums = {file.path: hashlib.sha256(file.content).hexdigest() for file in files}
        rows = [(f.path, len(f.content), sums[f.path], f.kind, f.stands_for) for f in files]
        manifest = table([("path", "bytes", "sha256", "kind", "stands_for"), *rows])
        lists = {"MANIFEST.tsv": manifest, "README.md": f"{TITLE}\n{README.format(seed=seed)}".encode()}
        sums |= {name: hashlib.sha256(content).hexdigest() for name, content in lists.items()}
        lists["SHA256SUMS"] = table(((sums[path], path) for path in sorted(sums)), "  ")
        contents = {file.path: file.content for file in files} | lists
        for path, content in contents.items():
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            (staging / path).write_bytes(content)
        if folder.exists():
            shutil.rmtree(folder)
        staging.replace(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return [Path(path) for path in contents]


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
