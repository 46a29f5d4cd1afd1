"""Drug response from files to score files: a planted screen, its splits, and every kind of bad input."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy.sparse import csr_matrix

from celllm import methods
from celllm.cells import h5ad
from celllm.cells.check import PROVENANCE
from celllm.cells.genes import Vocabulary
from celllm.cells.readers.gdsc import COLUMNS
from celllm.corpus.splits import read_splits
from celllm.corpus.tokens import Tokeniser
from celllm.errors import UserError
from celllm.methods.method import Method
from celllm.methods.pairs import Predict
from celllm.methods.settings import NoSettings
from celllm.model.encoder import Encoder
from celllm.model.settings import EncoderConfig
from celllm.model.weights import save_encoder
from celllm.scores import metrics, scores
from celllm.tasks.drug_response import DrugResponse
from celllm.tasks.protocols import STRICT, LeakError
from celllm.tasks.score import run_score, run_splits
from tests.tasks.conftest import SIZE
from tests.tasks.test_annotation import CELLLM, UNTRAINED

N_LINES, N_GENES = 40, 60
SMILES = ("CCO", "CC(=O)O", "c1ccccc1", "CCN", "C#N", "CC(C)O", "NCC(=O)O", "c1ccncc1")
QUICK = {
    "epochs": 6,
    "batch_size": 32,
    "learning_rate": 0.01,
    "lines_per_batch": 4,
    "cell_layers": [16, 8],
    "drug_width": 8,
    "drug_size": 8,
    "regression_layers": [16],
    "precision": "float32",
}


@dataclass(frozen=True)
class Files:
    """Paths of the screen's files."""

    cells: Path
    responses: Path
    genes: Path
    encoder: Path
    warm: Path
    cold: Path


def trained(files: Files) -> dict[str, Any]:
    """A row with a pre-trained encoder."""
    return {**CELLLM, "encoder": str(files.encoder)}


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """40 lines with one programme of ten genes, eight drugs that answer to it; drug 0 was screened twice."""
    folder = tmp_path_factory.mktemp("screen")
    names = ("ccle.h5ad", "gdsc.csv", "genes.tsv", "encoder.safetensors", "warm.json", "cold.json")
    made = Files(*(folder / name for name in names))
    vocabulary = Vocabulary(tuple(f"G{i:02d}" for i in range(N_GENES)), ("",) * N_GENES)
    vocabulary.write(made.genes)
    rng = np.random.default_rng(0)
    strength = rng.normal(size=N_LINES)
    h5ad.write(expression(vocabulary, strength, rng), made.cells)
    screened(strength, rng).to_csv(made.responses, index=False)
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(n_genes=N_GENES, **SIZE), torch.randn(N_GENES, 16))
    meta = {"genes_sha256": vocabulary.sha256, "tokeniser": Tokeniser(N_GENES).to_json()}
    save_encoder(made.encoder, encoder, meta)
    for kind, path in (("warm", made.warm), ("cold", made.cold)):
        settings = {"n_repeats": 2, "validation_fraction": 0.15, "test_fraction": 0.25}
        run_splits(f"response_{kind}", made.cells, "planted", path, made.responses, settings)
    return made


def expression(vocabulary: Vocabulary, strength: np.ndarray, rng: np.random.Generator) -> AnnData:
    rates = np.full((N_LINES, 50), 20.0)
    rates[:, :10] *= np.exp(strength)[:, None]
    obs = pd.DataFrame({"sample": "s"}, index=[f"ACH-{i:03d}" for i in range(N_LINES)])
    var = pd.DataFrame(index=list(vocabulary.symbols[5:55]))
    data = AnnData(csr_matrix(rng.poisson(rates).astype(np.float32)), obs=obs, var=var)
    provenance: dict[str, Any] = dict.fromkeys(PROVENANCE, 0)
    data.uns["celllm"] = provenance | {"values": "tpm", "fractions": False, "label_counts": "{}"}
    return data


def screened(strength: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    rows = [
        (f"ACH-{line:03d}", str(100 + drug), f"Drug {drug}", SMILES[drug], f"GDSC:{drug + 50 * again}")
        for drug in range(len(SMILES))
        for again in range(2 if drug == 0 else 1)
        for line in range(N_LINES)
    ]
    lines, drugs = (
        np.array([int(row[0][4:]) for row in rows]),
        np.array([int(row[1]) - 100 for row in rows]),
    )
    slopes = np.linspace(-1.5, 1.5, len(SMILES))
    response = 2.0 + drugs + slopes[drugs] * strength[lines] + rng.normal(0, 0.3, len(rows))
    return pd.DataFrame(
        [(*row, value) for row, value in zip(rows, response.round(6), strict=True)], columns=list(COLUMNS)
    )


def baseline(name: str) -> dict[str, str]:
    return {"name": f"my_{name}", "kind": "baseline", "method": name}


def run(
    files: Files, folder: Path, model: Any, kind: str = "warm", protocol: str = "strict", **more: Any
) -> pd.DataFrame:
    run_score(
        **{
            "cells": files.cells,
            "responses": files.responses,
            "data_set": "planted",
            "genes": files.genes,
            "splits": [getattr(files, kind)],
            "model": model,
            "protocols": [protocol],
            "out": folder,
        }
        | more
    )
    return scores.read_many([place(folder, model, kind) / f"{protocol}.csv"])


def place(folder: Path, model: Any, kind: str = "warm") -> Path:
    """Where the scores of a row go."""
    return folder / f"response_{kind}" / "planted" / model["name"]


def mean(frame: pd.DataFrame, metric: str) -> float:
    return float(frame.loc[frame["metric"] == metric, "value"].mean())


# --- splits ------------------------------------------------------------------------------------------------


def test_pairs_are_split_by_line_and_by_pair(files: Files) -> None:
    ids = set(DrugResponse.read(files.cells, files.responses).ids)
    assert "ACH-003|100|GDSC:50" in ids
    assert len(ids) == N_LINES * 9
    for kind in ("warm", "cold"):
        splits = read_splits(getattr(files, kind), ids)
        assert (splits.task, splits.data_set, len(splits.folds)) == (f"response_{kind}", "planted", 2)
        for fold in splits.folds:
            parts = [set(part) for part in (fold.train, fold.validation, fold.test)]
            assert sum(map(len, parts)) == len(ids) == len(set.union(*parts))
            lines = [{name.split("|")[0] for name in part} for part in parts]
            pairs = [{name.rsplit("|", 1)[0] for name in part} for part in parts]
            assert not pairs[0] & pairs[2] and not pairs[1] & pairs[2]  # both screens of a pair in one part
            if kind == "cold":
                assert [len(part) for part in lines] == [24, 6, 10]
                assert not (lines[0] | lines[1]) & lines[2] and not lines[0] & lines[1]
            else:
                assert len(lines[2]) > 35


def test_golden_splits(files: Files) -> None:
    """Splits drawn today can be drawn again: a change here makes old and new scores incomparable."""
    told = {kind: json.loads(getattr(files, kind).read_text())["sha256"][:16] for kind in ("warm", "cold")}
    assert told == {"warm": "95c12016a1e02c28", "cold": "3e9fea2eeeb2e8ee"}


def test_screens_of_one_pair_can_be_drawn_one_by_one(files: Files, tmp_path: Path) -> None:
    settings, out = {"keep_repeats_together": False}, tmp_path / "splits.json"
    run_splits("response_warm", files.cells, "planted", out, files.responses, settings)
    fold = read_splits(tmp_path / "splits.json").folds[0]
    train, test = ({name.rsplit("|", 1)[0] for name in part} for part in (fold.train, fold.test))
    assert train & test


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "hot"}, "unknown key 'kind'"),
        ({"n_repeats": 0}, "n_repeats: expected at least 1"),
        ({"test_fraction": 0.95}, "less than 1 together with validation_fraction"),
        ({"test_fraction": 0.0}, "test_fraction: expected more than 0"),
    ],
)
def test_settings_that_make_no_splits(
    files: Files, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        out = tmp_path / "splits.json"
        run_splits("response_cold", files.cells, "planted", out, files.responses, settings)
    assert not list(tmp_path.iterdir())


# --- scores ------------------------------------------------------------------------------------------------


def test_score_file_and_predictions(files: Files, tmp_path: Path) -> None:
    frame = run(files, tmp_path, baseline("ridge_by_drug"), "cold", "paper", seed=3)
    assert frame["metric"].tolist() == [*metrics.REGRESSION, *metrics.WITHIN_DRUG] * 2
    for column, value in {
        "table": "table3",
        "task": "response_cold",
        "data_set": "planted",
        "model": "my_ridge_by_drug",
        "protocol": "paper",
        "seed": 3,
        "status": "ok",
    }.items():
        assert set(frame[column]) == {value}
    found = scores.read_predictions(
        place(tmp_path, baseline("ridge_by_drug"), "cold") / "paper.predictions.csv"
    )
    truth = pd.read_csv(files.responses, dtype={"drug": str})
    truth.index = truth["cell_line"] + "|" + truth["drug"] + "|" + truth["screen"]
    for number, fold in enumerate(read_splits(files.cold).folds):
        here = found[found["split"] == str(number)]
        assert set(here["cell"]) == set(fold.test)
        drugs = here["cell"].str.split("|").str[1]
        label, predicted = (here[column].astype(float) for column in ("label", "predicted"))
        assert label.tolist() == truth.loc[here["cell"], "ln_ic50"].tolist()
        within = metrics.within_groups(label, predicted, drugs)
        told = frame[frame["split"] == str(number)].set_index("metric")["value"]
        assert told.to_dict() == pytest.approx(metrics.regression(label, predicted) | within, abs=1e-12)


def test_controls_in_their_order(files: Files, tmp_path: Path) -> None:
    cold = {name: run(files, tmp_path, baseline(name), "cold") for name in ("drug_mean", "ridge_by_drug")}
    assert mean(cold["ridge_by_drug"], "rmse") < 0.8 * mean(cold["drug_mean"], "rmse")
    assert mean(cold["ridge_by_drug"], "pearson") > mean(cold["drug_mean"], "pearson") > 0.8
    frame = run(files, tmp_path, baseline("drug_mean_line_mean"), "cold")
    assert set(frame["status"]) == {"not-applicable"}
    assert frame["reason"].str.contains("no tested cell line has a response").all()


def with_method(monkeypatch: pytest.MonkeyPatch, fit: Callable[..., Predict]) -> None:
    """Let every name of a baseline mean a method of this test."""
    monkeypatch.setattr(methods, "look_up", lambda name, modules: Method(fit, NoSettings))


def test_a_planted_leak_stops_the_command(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the protocol changed so that strict chooses on test pairs, no score would come out."""
    monkeypatch.setitem(DrugResponse.rules, "strict", replace(STRICT, choose="test"))
    with pytest.raises(LeakError, match="choose on under 'strict'"):
        run(files, tmp_path, baseline("ridge"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("predict", "reason"),
    [
        (lambda pairs: pairs.known, "asked for the responses of pairs that it has to predict"),
        (lambda pairs: np.full(len(pairs), np.nan), "a predicted value is not a finite number"),
        (lambda pairs: np.zeros(3), "3 values predicted for"),
    ],
)
def test_a_split_that_fails_is_a_row(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, predict: Predict, reason: str
) -> None:
    with_method(monkeypatch, lambda train, settings, seed: predict)
    frame = run(files, tmp_path, baseline("broken"))
    assert set(frame["status"]) == {"failed"}
    assert frame["reason"].str.contains(reason).all()
    assert frame["metric"].tolist() == ["pearson", "r2", "rmse", "mae"] * 2
    assert scores.read_predictions(place(tmp_path, baseline("broken")) / "strict.predictions.csv").empty


def test_a_constant_test_target_has_errors_and_no_correlation(files: Files, tmp_path: Path) -> None:
    table = pd.read_csv(files.responses, dtype={"drug": str})
    tested = {name for fold in read_splits(files.cold).folds for name in fold.test}
    ids = table["cell_line"] + "|" + table["drug"] + "|" + table["screen"]
    table.loc[ids.isin(tested), "ln_ic50"] = 1.5
    table.to_csv(tmp_path / "constant.csv", index=False)
    frame = run(files, tmp_path, baseline("drug_mean"), "cold", responses=tmp_path / "constant.csv")
    for name, group in frame.groupby("metric"):
        assert set(group["status"]) == {"ok" if name in ("rmse", "mae") else "not-applicable"}, name


# --- networks ----------------------------------------------------------------------------------------------


def test_an_encoder_learns_the_planted_screen_and_is_deterministic(files: Files, tmp_path: Path) -> None:
    model, how = trained(files), {"settings": {**QUICK, "epochs": 40, "learning_rate": 0.005}}
    means = run(files, tmp_path, baseline("drug_mean"), "cold")
    first = run(files, tmp_path, model, "cold", **how)
    assert set(first["status"]) == {"ok"}
    assert mean(first, "rmse") < 0.9 * mean(means, "rmse")
    assert run(files, tmp_path, model, "cold", **how)["value"].tolist() == first["value"].tolist()


def test_protocols_and_encoders_without_pre_training(files: Files, tmp_path: Path) -> None:
    short = {**QUICK, "epochs": 2}
    strict, paper = (
        run(files, tmp_path, trained(files), "warm", protocol, settings=short)["value"]
        for protocol in ("strict", "paper")
    )
    assert strict.tolist() != paper.tolist()
    untrained = run(files, tmp_path, UNTRAINED, settings={**short, "trainable_layers": 0})
    assert set(untrained["status"]) == {"ok"}
    with pytest.raises(UserError, match="model celllm: no encoder"):
        run(files, tmp_path, CELLLM, settings=short)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("deepcdr", {"drug_width": 8, "expression_layers": [8, 8], "learning_rate": 1e-3}),
        ("deepcdr_original", {"drug_layers": [8, 8], "cell_layers": [8, 8]}),
    ],
)
def test_deepcdr_runs_from_files(files: Files, tmp_path: Path, name: str, sizes: dict[str, Any]) -> None:
    frame = run(files, tmp_path, baseline(name), settings={"epochs": 3, **sizes})
    assert set(frame["status"]) == {"ok"}
    assert mean(frame, "rmse") < 3.0


@pytest.mark.parametrize("model", ["ridge", "encoder"])
def test_log2_tpm_in_the_file_gives_the_scores_of_tpm(files: Files, tmp_path: Path, model: str) -> None:
    data = h5ad.read(files.cells)
    data.X = csr_matrix(data.X, copy=True)
    data.X.data = np.log2(data.X.data + 1)
    data.uns["celllm"]["values"] = "log2_tpm"
    h5ad.write(data, tmp_path / "log2.h5ad")
    row = trained(files) if model == "encoder" else baseline(model)
    how = {"settings": {**QUICK, "epochs": 1}} if model == "encoder" else {}
    first, second = (
        run(files, tmp_path / name, row, "cold", cells=cells, **how)["value"]
        for name, cells in (("tpm", files.cells), ("log2", tmp_path / "log2.h5ad"))
    )
    assert second.to_numpy() == pytest.approx(first.to_numpy(), rel=1e-4, nan_ok=True)


def test_controls_do_not_load_pytorch(files: Files, tmp_path: Path) -> None:
    code = (
        "import sys; from celllm.tasks.score import run_score;"
        f"run_score(cells={str(files.cells)!r}, responses={str(files.responses)!r},"
        f" data_set='planted', genes={str(files.genes)!r}, splits=[{str(files.cold)!r}],"
        f" model={baseline('ridge')}, protocols=['strict'], out={str(tmp_path)!r});"
        "sys.exit(any(name in sys.modules for name in ('torch', 'dgl', 'sklearn', 'scanpy')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# --- bad input ---------------------------------------------------------------------------------------------


def changed(files: Files, folder: Path, change: Callable[[pd.DataFrame], Any]) -> Path:
    """The table of responses with a change made in place."""
    table = pd.read_csv(files.responses, dtype={"drug": str})
    change(table)
    table.to_csv(folder / "changed.csv", index=False)
    return folder / "changed.csv"


def spoil(column: str, value: Any, rows: Callable[[pd.DataFrame], Any]) -> Callable[[pd.DataFrame], None]:
    def change(table: pd.DataFrame) -> None:
        table[column] = table[column].astype(object)
        table.loc[rows(table), column] = value

    return change


@pytest.mark.parametrize(
    ("change", "n_left", "told"),
    [
        (spoil("ln_ic50", np.nan, lambda t: t.index < 3), 357, "3 pairs left out, no finite ln IC50"),
        (spoil("ln_ic50", "inf", lambda t: t.index == 0), 359, "1 pairs left out, no finite ln IC50"),
        (spoil("ln_ic50", "n.d.", lambda t: t.index < 2), 358, "2 pairs left out, no finite ln IC50"),
        (
            spoil("smiles", "C1CC(", lambda t: t["drug"] == "103"),
            320,
            "40 pairs left out, a drug whose SMILES cannot be read: 103",
        ),
        (
            spoil("smiles", np.nan, lambda t: t["drug"] == "103"),
            320,
            "40 pairs left out, a drug without structure: 103",
        ),
        (
            spoil("cell_line", "ACH-999", lambda t: t["cell_line"] == "ACH-007"),
            351,
            "9 pairs left out, a cell line without expression: ACH-999",
        ),
    ],
)
def test_pairs_that_cannot_be_used_are_left_out_counted_and_named(
    files: Files,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[pd.DataFrame], None],
    n_left: int,
    told: str,
) -> None:
    path = changed(files, tmp_path, change)
    with caplog.at_level(logging.WARNING):
        data = DrugResponse.read(files.cells, path)
    assert (len(data.pairs), len(data.ids), len(data.truth)) == (n_left,) * 3
    assert [record.getMessage() for record in caplog.records] == [f"{path}: {told}"]
    assert len(data.pairs.screen.drugs) == len(data.pairs.screen.molecules)
    out = tmp_path / "splits.json"
    run_splits("response_cold", files.cells, "planted", out, path, {"n_repeats": 1})
    frame = run(files, tmp_path, baseline("ridge"), "cold", responses=path, splits=[out])
    assert set(frame["status"]) == {"ok"}


def test_of_many_names_the_first_are_told(
    files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = changed(
        files, tmp_path, lambda t: t.__setitem__("cell_line", t["cell_line"].str.replace("-0", "-1"))
    )
    with pytest.raises(UserError, match="no pair is left that has a response, expression and a structure"):
        DrugResponse.read(files.cells, path)
    assert "ACH-100, ACH-101, ACH-102, ACH-103, ACH-104 and 35 more" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.__setitem__("ln_ic50", 2.5), "all 360 responses are 2.5; there is nothing to predict"),
        (lambda t: t.__setitem__("screen", "GDSC:1"), r"the pair ACH-000\|100\|GDSC:1 occurs twice"),
        (
            spoil("smiles", "CCC", lambda t: t.index == 0),
            "the drug 100 has two different SMILES; keep one",
        ),
        (lambda t: t.drop(columns="smiles", inplace=True), "expected the columns cell_line, drug"),
    ],
)
def test_tables_that_are_refused(
    files: Files, tmp_path: Path, change: Callable[[pd.DataFrame], None], message: str
) -> None:
    path = changed(files, tmp_path, change)
    with pytest.raises(UserError, match=message) as error:
        DrugResponse.read(files.cells, path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": baseline("knn_pca")}, "unknown method 'knn_pca'; known are drug_mean"),
        ({"settings": '{"alpha": 5}'}, "unknown key 'alpha'; known are penalty"),
        ({"protocol": "loose"}, "protocols: expected some of strict, no_refit, paper, got 'loose'"),
        ({"data_set": "gdsc2"}, "splits of 'planted', expected those of 'gdsc2'"),
        ({"model": UNTRAINED, "settings": {"epoch": 5}}, "unknown key 'epoch'"),
        ({"responses": "nowhere.csv"}, "nowhere.csv: no such file"),
        ({"responses": None}, "no table of responses; pass --responses"),
        ({"splits": []}, "splits: no file"),
    ],
)
def test_bad_input_stops_in_one_line_and_writes_nothing(
    files: Files, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        run(files, tmp_path, **{"model": baseline("ridge"), **change})
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_splits_of_other_pairs_are_refused(files: Files, tmp_path: Path) -> None:
    path = changed(files, tmp_path, spoil("ln_ic50", np.nan, lambda t: t.index == 5))
    with pytest.raises(UserError, match="is not in the data set"):
        run(files, tmp_path, baseline("ridge"), responses=path)


def test_an_encoder_of_other_genes_is_refused(files: Files, tmp_path: Path) -> None:
    symbols = tuple(f"G{i:02d}" for i in range(61))
    Vocabulary(symbols, ("",) * 61).write(tmp_path / "genes.tsv")
    with pytest.raises(UserError, match="trained with another gene list"):
        run(files, tmp_path, trained(files), genes=tmp_path / "genes.tsv")


@pytest.mark.parametrize(("task", "group", "n_folds"), [("tissue", "tissue", 4), ("drug", "drug", None)])
def test_tissues_and_drugs_are_held_out_whole(
    files: Files, tmp_path: Path, task: str, group: str, n_folds: int | None
) -> None:
    data = anndata.read_h5ad(files.cells)
    data.obs["tissue"] = [f"tissue{i % 5}" for i in range(data.n_obs)]
    tissue = dict(zip(data.obs_names, data.obs["tissue"], strict=True))
    h5ad.write(data, tmp_path / "ccle.h5ad")
    settings = {"group": group, "n_folds": n_folds, "validation": "groups"}
    name, splits = f"response_{task}", tmp_path / "splits.json"
    run_splits(name, tmp_path / "ccle.h5ad", "planted", splits, files.responses, settings)
    folds = read_splits(splits).folds
    assert len(folds) == (n_folds or len(SMILES))
    for fold in folds:
        parts = [{pair.split("|")[1] if task == "drug" else tissue[pair.split("|")[0]] for pair in part}
                 for part in (fold.train, fold.validation, fold.test)]  # fmt: skip
        assert all(parts) and sum(map(len, parts)) == len(set.union(*parts))
    run_score(
        cells=tmp_path / "ccle.h5ad", responses=files.responses, data_set="planted", genes=files.genes,
        splits=[splits], model={"name": "ridge", "kind": "baseline"}, protocols=["strict"], out=tmp_path,
    )  # fmt: skip
    found = scores.read_many([tmp_path / name / "planted/ridge/strict.csv"])
    assert set(found["table"]) == {"table_s3"} and set(found["task"]) == {name}
    assert found["split"].nunique() == len(folds)
    with pytest.raises(UserError, match=r"ccle\.h5ad: no column 'tissue' in obs .* expected one of sample"):
        run_splits("response_tissue", files.cells, "planted", splits, files.responses, {"group": "tissue"})
