"""Embeddings made elsewhere, as rows of the tables: read, refused, and scored with the benchmark's heads."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from celllm.cells import h5ad
from celllm.cells.embeddings import files_of, read_embeddings
from celllm.config import complete, lay_over, load
from celllm.errors import UserError
from celllm.io import read_yaml
from celllm.methods.expression import log_normalised
from celllm.plan import Plan
from celllm.tasks.score import run_score
from tests.tasks.conftest import Files, files  # noqa: F401
from tests.tasks.test_annotation import QUICK, mean, run

HEAD = QUICK | {"head": [16, 8], "epochs": 30, "learning_rate": 0.02}
CONFIG = Path(__file__).parents[2] / "config"
NAMES = [f"c{i}" for i in range(6)]
X = np.arange(12.0).reshape(6, 2)


def as_h5ad(path: Path, x: Any = X, names: list[str] = NAMES, key: str = "X_scvi") -> str:
    AnnData(obs=pd.DataFrame(index=names), obsm={key: x}).write_h5ad(path)
    return f"{path}#obsm/{key}"


def as_npy(path: Path, x: Any = X, names: list[str] = NAMES) -> str:
    np.save(path, x)
    path.with_suffix(".txt").write_text("\n".join(names) + "\n")
    return f"{path} + {path.with_suffix('.txt')}"


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.int32])
def test_rows_come_in_the_order_of_the_cells(kind: type, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(6)
    names = [NAMES[i] for i in order]
    places = [as_npy(tmp_path / "a.npy", X[order].astype(kind), names)]
    places.append(as_h5ad(tmp_path / "a.h5ad", X[order].astype(kind), names))
    table = pd.DataFrame(X[order].astype(kind), index=names, columns=["a", "b"])
    places.append(as_h5ad(tmp_path / "b.h5ad", table, names))
    AnnData(X[order].astype(kind), obs=pd.DataFrame(index=names)).write_h5ad(tmp_path / "x.h5ad")
    places.append(f"{tmp_path / 'x.h5ad'}#X")
    for place in places:
        found = read_embeddings(place, NAMES)
        assert found.dtype == np.float32
        assert found.tolist() == X.tolist()


def test_files_of_a_place() -> None:
    assert files_of("a b.h5ad#obsm/X_scgpt") == ["a b.h5ad"]
    assert files_of("a.npy + b.txt") == ["a.npy", "b.txt"]


def changed(row: int, value: float) -> Any:
    x = X.copy()
    x[row, 1] = value
    return x


@pytest.mark.parametrize("write", [as_npy, as_h5ad])
@pytest.mark.parametrize(
    ("x", "names", "words"),
    [
        (X[:5], NAMES[:5], "the cell 'c5' of 6 has no row there; expected one row"),
        (X[:3], NAMES[:3], "the cell 'c3' of 6 has no row there (3 such cells)"),
        (X, [*NAMES[:5], "c0"], "the cell 'c0' stands there more than once"),
        (np.vstack([X, X[:1]]), [*NAMES, "mouse1"], "the cell 'mouse1' is not in the data set"),
        (changed(2, np.nan), NAMES, "the cell 'c2' holds NaN or infinity"),
        (changed(3, np.inf), NAMES, "the cell 'c3' holds NaN or infinity"),
        (changed(3, 1e300), NAMES, "the cell 'c3' holds NaN or infinity"),
    ],
)
def test_what_does_not_fit_the_cells_is_refused_by_name(
    write: Callable[..., str], x: Any, names: list[str], words: str, tmp_path: Path
) -> None:
    place = write(tmp_path / ("e.npy" if write is as_npy else "e.h5ad"), x, names)
    with pytest.raises(UserError, match=re.escape(f"{place}: {words}")):
        read_embeddings(place, NAMES)


def test_other_files_are_refused(tmp_path: Path) -> None:
    good = as_h5ad(tmp_path / "e.h5ad")
    (tmp_path / "text.npy").write_text("1 2 3")
    (tmp_path / "text.h5ad").write_text("1 2 3")
    np.save(tmp_path / "objects.npy", np.array([{}] * 6), allow_pickle=True)
    names = str(tmp_path / "names.txt")
    Path(names).write_text("\n".join(NAMES))
    for place, words in {
        f"{tmp_path}/none.npy + {names}": "none.npy: no such file",
        f"{tmp_path}/text.npy + {names}": "text.npy: not an array of numbers in NumPy's format",
        f"{tmp_path}/objects.npy + {names}": "objects.npy: not an array of numbers in NumPy's format",
        f"{tmp_path}/text.h5ad#obsm/X": "text.h5ad: not a complete .h5ad file",
        good.replace("X_scvi", "X_scgpt"): "#obsm/X_scgpt: no such array; there are obsm/X_scvi",
        good.partition("#")[0]: "no such array; there are obsm/X_scvi",
        names: "expected FILE.h5ad#obsm/KEY, or FILE.npy + a file with the names",
        as_npy(tmp_path / "five.npy", X[:5]): "5 rows for 6 names",
        as_npy(tmp_path / "flat.npy", X[:, 0]): "expected numbers, cells x dimensions, got float64 of 6",
        as_npy(tmp_path / "empty.npy", X[:, :0]): "got float64 of 6 x 0",
        as_npy(tmp_path / "words.npy", X.astype(str)): "expected numbers, cells x dimensions, got <U",
    }.items():
        with pytest.raises(UserError, match=re.escape(words)):
            read_embeddings(place, NAMES)


def scvi_like(files: Files, dim: int = 10) -> tuple[Any, list[str]]:  # noqa: F811
    """Ten latent dimensions of the planted cells, noisy and of unequal scales, in another order."""
    data = h5ad.read(files.cells)
    x = log_normalised(data.X).toarray()
    rng = np.random.default_rng(1)
    _, _, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
    latent = x @ axes[:dim].T + rng.normal(scale=0.1, size=(len(x), dim))
    order = rng.permutation(len(x))
    return (latent * np.logspace(0.3, -0.3, dim))[order].astype(np.float32), data.obs_names[order].tolist()


def row(place: str | None, head: str) -> dict[str, Any]:
    return {"name": f"scvi_{head}", "kind": "embedding", "head": head, "embedding": place}


@pytest.mark.parametrize(
    ("head", "settings"),
    [
        ("knn", {"k": 5}),
        ("linear", {}),
        ("paper", HEAD),
    ],
)
@pytest.mark.parametrize("protocol", ["strict", "paper"])
def test_every_head_finds_the_planted_classes(
    head: str,
    settings: Any,
    protocol: str,
    files: Files,  # noqa: F811
    tmp_path: Path,
) -> None:
    x, names = scvi_like(files)
    place = as_h5ad(tmp_path / "e.h5ad", x, names)
    frame = run(files, tmp_path, row(place, head), protocol, settings=settings)
    assert set(frame["status"]) == {"ok"}
    assert mean(frame, "accuracy") > 0.85
    # Vectors of other cells: no better than the largest class.
    shuffled = as_h5ad(tmp_path / "s.h5ad", x, np.random.default_rng(2).permutation(names).tolist())
    assert mean(run(files, tmp_path, row(shuffled, head), protocol, settings=settings), "accuracy") < 0.6


def test_without_an_embedding_of_the_data_set_a_row_is_not_applicable(
    files: Files,  # noqa: F811
    tmp_path: Path,
) -> None:
    frame = run(files, tmp_path, row(None, "linear"))
    assert set(frame["status"]) == {"not-applicable"}
    assert set(frame["reason"]) == {"the row's `file` names no embedding of this data set"}


def test_a_bad_embedding_ends_the_command(files: Files, tmp_path: Path) -> None:  # noqa: F811
    x, names = scvi_like(files)
    place = as_npy(tmp_path / "e.npy", x[:-1], names[:-1])
    with pytest.raises(UserError, match=f"the cell '{names[-1]}' of 150 has no row there"):
        run(files, tmp_path, row(place, "knn"))


def configured(mine: dict[str, Any], **changes: Any) -> dict[str, Any]:
    base = lay_over(read_yaml(CONFIG / "paper.yaml"), read_yaml(CONFIG / "toy.yaml"))
    mine = {"title": "scVI", "kind": "embedding", "group": "added"} | mine
    changes = {"annotation": {"models": {"add": ["scvi"]}}, "models": {"scvi": mine}} | changes
    return complete(lay_over(base, changes), CONFIG, environ={})


def test_rows_in_the_workflow(tmp_path: Path) -> None:
    place = as_npy(tmp_path / "e.npy")
    plan = Plan(configured({"file": {"baron": place}, "head": "paper"}))
    assert plan.row_files("scvi", "baron") == files_of(place)
    assert plan.row_files("scvi", "zheng68k") == []
    assert plan.scored_row("scvi", "baron")["embedding"] == place
    assert plan.scored_row("scvi", "zheng68k")["embedding"] is None
    assert plan.n_gpus("scvi") == 0 and "scvi" not in plan.encoders
    assert plan.settings("annotation", "scvi") == plan.settings("annotation", "celllm")
    assert Plan(configured({"file": {"baron": place}})).settings("annotation", "scvi") == {}


@pytest.mark.parametrize(
    ("mine", "changes", "words"),
    [
        ({}, {}, "models.scvi.file: expected a value, as the row is of kind embedding"),
        ({"file": {"barn": "e.npy"}}, {}, "models.scvi.file: unknown data set 'barn'; did you mean 'baron'"),
        ({"file": {"baron": "n.h5ad#X"}}, {}, "models.scvi.file.baron: n.h5ad: no such file (looked for in"),
        ({"file": {}, "head": "svm"}, {}, "models.scvi.head: expected 'knn', 'linear' or 'paper'"),
        (
            {"file": {}},
            {"drug_response": {"models": {"add": ["scvi"]}}},
            "drug_response.models: 'scvi' is an embedding of cells",
        ),
        ({"file": {}, "finetuning": {"epochs": 3}}, {}, "models.scvi.finetuning: expected none"),
        (
            {"file": {}},
            {"annotation": {"models": {"add": ["scvi"]}, "baselines": {"scvi": {"kk": 3}}}},
            "annotation.baselines.scvi.kk: unknown key",
        ),
        (
            {"kind": "baseline", "method": "majority", "file": {}},
            {},
            "models.scvi.file: expected none",
        ),
    ],
)
def test_slips_are_refused_before_the_first_job(
    mine: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=re.escape(f"config: {words}")):
        configured(mine, **changes)


def test_the_example_is_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "embeddings").mkdir()
    as_h5ad(Path("embeddings/baron.h5ad"), key="X_scVI")
    as_npy(Path("embeddings/zheng68k.npy"))
    example = CONFIG.parent / "examples/own_embedding/config.yaml"
    config = load(CONFIG / "toy.yaml", example, folder=CONFIG)
    assert config["annotation"]["models"][-3:] == ["scvi_knn", "scvi_linear", "scvi_paper"]
    heads = [config["models"][name]["head"] for name in config["annotation"]["models"][-3:]]
    assert heads == ["knn", "linear", "paper"]
    for name in ("zheng68k", "baron"):
        assert [Path(path).is_file() for path in Plan(config).row_files("scvi_paper", name)]


def test_an_unknown_head(files: Files, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(UserError, match="unknown method 'svm'; known are knn, linear, paper"):
        run_score(files.cells, "planted", files.genes, [files.splits], row(None, "svm"), ["strict"], tmp_path)
