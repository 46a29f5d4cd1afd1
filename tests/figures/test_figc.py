import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from celllm.errors import UserError
from celllm.figures.figure import run_figure
from celllm.figures.settings import FigureSettings
from celllm.report.run import TOY_NOTE
from celllm.scores.columns import CELLS, GENES
from celllm.settings import as_settings


def gene(name: str, rank: int | None, attention: float) -> tuple:
    return (name, rank, 1, attention, attention / 2, 2 * attention, 10, 20, 1.0, 1.0, 1.0)


@pytest.fixture
def genes(tmp_path: Path) -> Path:
    names = [f"GENE{i}" for i in range(24)] + ["A$_B$", "B2M"]
    rows = [gene(name, rank, 1 / rank) for rank, name in enumerate(names, 1)] + [gene("ACTB", None, 0.9)]
    pd.DataFrame(rows, columns=list(GENES)).to_csv(tmp_path / "genes.csv", index=False)
    return tmp_path / "genes.csv"


STUDY = {"n_genes": 20, "layer": "last", "average": "expressing"}


def draw_c1(genes: Path, out: Path, **settings) -> None:
    study = STUDY | {key: settings.pop(key) for key in ("n_genes",) if key in settings}
    facts = write_facts(genes.parent / "facts.json", study)
    run_figure("figc1", {"table": genes, "facts": facts}, out, as_settings(FigureSettings, settings))


def write_facts(path: Path, study: dict) -> Path:
    path.write_text(json.dumps({"interpretation": study}))
    return path


def test_bars_of_the_first_genes(genes: Path, tmp_path: Path, said, paper_size) -> None:
    draw_c1(genes, tmp_path / "figc1", toy=True)
    shown = pd.read_csv(tmp_path / "figc1.csv")
    assert list(shown["gene"]) == [f"GENE{i}" for i in range(20)]
    texts = said(tmp_path / "figc1")
    assert {"GENE0", "GENE19", "normal", "tumour", TOY_NOTE.capitalize()} <= set(texts)
    assert "Paper's first three, and their ranks here: B2M 26, TMSB4X unranked, ACTB unranked" in texts
    width, height = paper_size(tmp_path / "figc1")
    assert width <= 100 and height <= 110


def test_names_are_taken_as_they_are_and_one_gene_is_enough(genes: Path, tmp_path: Path, said) -> None:
    draw_c1(genes, tmp_path / "all", n_genes=26)
    assert "A$_B$" in said(tmp_path / "all")
    draw_c1(genes, tmp_path / "one", n_genes=1)
    assert pd.read_csv(tmp_path / "one.csv")["gene"].tolist() == ["GENE0"]


def test_no_ranked_gene_leaves_an_explained_gap(genes: Path, tmp_path: Path, said) -> None:
    pd.read_csv(genes).assign(attention_rank=np.nan).to_csv(genes, index=False)
    draw_c1(genes, tmp_path / "figc1")
    assert "No gene is expressed by enough cells" in said(tmp_path / "figc1")


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = [
        (i, "s", kind, genes, i % 2, *rng.normal(size=2))
        for genes in ("expressed", "attended")
        for i, kind in enumerate(["normal", "tumour"] * 30)
    ]
    pd.DataFrame(rows, columns=list(CELLS)).to_csv(tmp_path / "cells.csv", index=False)
    facts = {
        "ari_expressed": 0.0613,
        "ari_attended": 0.25,
        "n_genes": 20,
        "n_cells": {"normal": 30, "tumour": 30},
    }
    (tmp_path / "facts.json").write_text(json.dumps({"interpretation": facts}))
    return tmp_path / "cells.csv"


def test_two_panels_with_the_papers_indices(cells: Path, tmp_path: Path, said, paper_size) -> None:
    run_figure(
        "figc2",
        {"cells": cells, "facts": tmp_path / "facts.json"},
        tmp_path / "figc2",
        FigureSettings(toy=True),
    )
    texts = [" ".join(text.split()) for text in said(tmp_path / "figc2")]
    assert {"ARI 0.061 (paper 0.065)", "ARI 0.250 (paper 0.203)", "(b) 20 most attended genes"} <= set(texts)
    assert len(pd.read_csv(tmp_path / "figc2.csv")) == 120
    assert paper_size(tmp_path / "figc2")[0] <= 178
    # Points are pixels: ten thousand of them must not make a page of megabytes.
    assert (tmp_path / "figc2.svg").stat().st_size < 500_000


def test_another_table_is_refused(cells: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cells\.csv: no column 'gene'; make it with `celllm interpret`"):
        draw_c1(cells, tmp_path / "figc1")
