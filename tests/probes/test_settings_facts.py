"""Settings as facts: those of the full run beside Table F.1, and what the code does whatever they say."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from celllm import optimiser
from celllm.cells.genes import Vocabulary
from celllm.config import load
from celllm.errors import UserError
from celllm.model.encoder import Encoder
from celllm.model.settings import SIZES, EncoderConfig
from celllm.probes.settings_facts import FIXED, FIXED_IN_PRETRAINING, of_pretraining, run_settings_facts
from celllm.report import published
from celllm.report.settings import TableSettings
from celllm.report.tables import run_table
from celllm.scores.facts import find
from celllm.settings import as_settings
from celllm.training import finetune, regression
from celllm.training.contrastive import info_nce
from celllm.training.distributed import Processes
from celllm.training.schedule import cosine
from celllm.training.settings import FinetuneSettings, ModelRow, PretrainSettings, ResponseSettings
from celllm.training.trainer import Trainer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def genes(tmp_path) -> Path:
    names = tuple(f"GENE{i:05d}" for i in range(50))
    Vocabulary(names, ("",) * len(names)).write(tmp_path / "genes.tsv")
    return tmp_path / "genes.tsv"


@pytest.fixture
def counts(tmp_path) -> Path:
    path = tmp_path / "counts.json"
    path.write_text(json.dumps({"data_sets": {"zheng68k": {"n_classes": 11}, "baron": {"n_classes": 13}}}))
    return path


KINDS = {
    "model": ModelRow,
    "pretraining": PretrainSettings,
    "annotation": FinetuneSettings,
    "drug_sensitivity": FinetuneSettings,
    "drug_response": ResponseSettings,
}


def facts_of(config: str, genes: Path, counts: Path, out: Path, **changes) -> dict:
    """The facts of a configuration, from what the workflow hands over."""
    run = load(ROOT / "config" / config)
    row = run["models"]["celllm"]
    model = row | {"size": run["sizes"][row["size"]], "tokens": row["tokens"] | run["tokens"]}
    arguments = {
        "model": model,
        "pretraining": run["pretraining"]["settings"],
        "annotation": run["annotation"]["finetuning"],
        "drug_sensitivity": run["drug_sensitivity"]["finetuning"],
        "drug_response": ResponseSettings(),
        "sizes": run["sizes"],
        "splits": run["drug_sensitivity"]["splits"],
        "facts": [counts],
        "data_sets": ["zheng68k", "baron"],
    }
    arguments |= changes
    for name, kind in KINDS.items():
        arguments[name] = arguments[name] and as_settings(kind, arguments[name], name)
    run_settings_facts(genes=genes, out=out, **arguments)
    return json.loads(out.read_text())


def test_the_full_run_uses_every_setting_of_table_f1(tmp_path, genes, counts) -> None:
    facts = facts_of("paper.yaml", genes, counts, tmp_path / "settings.json")
    rows = published.load().fact_tables["tablef1"].rows
    assert len(rows) == 51
    for row in rows:
        assert row.fact is not None and find(facts, row.fact) is not None, (row.group, row.title)
    run_table("tablef1", [], {}, TableSettings(run="x"), tmp_path / "f1", [tmp_path / "settings.json"])
    frame = pd.read_csv(tmp_path / "f1.csv", keep_default_na=False)
    assert list(frame.loc[frame["status"] != "same", "title"]) == []


def test_a_toys_settings_differ_and_are_marked(tmp_path, genes, counts) -> None:
    facts_of("toy.yaml", genes, counts, tmp_path / "settings.json")
    run_table(
        "tablef1", [], {}, TableSettings(run="x", toy=True), tmp_path / "f1", [tmp_path / "settings.json"]
    )
    frame = pd.read_csv(tmp_path / "f1.csv", keep_default_na=False).set_index(["group", "title"])
    assert list(frame.loc[("Model", "Feature size"), ["ours", "status"]]) == ["32", "differs"]
    assert frame.loc[("Pre-training", "Size of convolution layer for pooling"), "ours"] == "(1, 32)"
    assert frame.loc[("Cell type annotation", "Feed-forward layer sizes"), "ours"] == "64, 32, 11/13"
    assert frame.loc[("Model", "Dropout"), "status"] == "same"
    assert "| Feature size | 512 | **32** |" in (tmp_path / "f1.md").read_text()
    assert r"\textbf{32}" in (tmp_path / "f1.tex").read_text()
    assert "<b>32</b>" in (tmp_path / "f1.html").read_text()


def test_parameters_are_those_of_the_encoder(tmp_path, genes, counts) -> None:
    facts = facts_of("toy.yaml", genes, counts, tmp_path / "settings.json")
    run = load(ROOT / "config/toy.yaml")
    config = ModelRow(size=run["sizes"]["50m"]).encoder_config(50)
    expected = sum(p.numel() for p in Encoder(config).parameters())
    assert facts["model"]["n_parameters"] == facts["model"]["n_parameters_by_size"]["50m"] == expected
    assert set(facts["model"]["n_parameters_by_size"]) == set(run["sizes"])


def test_shares_of_training_cells_are_per_cent(tmp_path, genes, counts) -> None:
    facts = facts_of("paper.yaml", genes, counts, tmp_path / "settings.json")
    assert facts["settings"]["splits"] == {"drug_few_shot": 5.0, "drug_full": 80.0}


def test_a_task_that_is_not_run_has_no_facts(tmp_path, genes, counts) -> None:
    facts = facts_of("paper.yaml", genes, counts, tmp_path / "s.json", model={"size": SIZES["8m"]},
                     drug_response=None, annotation=None)  # fmt: skip
    assert set(facts["settings"]) == {"model", "tokens", "pretraining", "drug", "splits"}


def test_slips_are_told_in_one_line(tmp_path, genes, counts) -> None:
    out = tmp_path / "settings.json"
    with pytest.raises(UserError, match=r"drug_sensitivity\.had: unknown key 'had'"):
        facts_of("toy.yaml", genes, counts, out, drug_sensitivity={"had": [3]})
    with pytest.raises(UserError, match=r"sizes\.9m\.deep: unknown key 'deep'"):
        facts_of("toy.yaml", genes, counts, out, sizes={"9m": {"deep": 3}})
    with pytest.raises(UserError, match=r"facts: no data_sets\.liver\.n_classes"):
        facts_of("toy.yaml", genes, counts, out, data_sets=["baron", "liver"])
    assert not out.exists()


class _Made(Exception):
    """An optimiser is made."""


def _adam(*arguments: object, **options: object) -> None:
    raise _Made


def test_all_training_is_by_the_optimiser_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    row = ModelRow(size={"dim": 8, "depth": 1, "heads": 1, "dim_head": 8})
    encoder = Encoder(row.encoder_config(5))
    processes = Processes(0, 1, torch.device("cpu"))
    trainer = Trainer(row, PretrainSettings(precision="float32"), encoder, processes)
    assert isinstance(trainer.optimiser, getattr(torch.optim, FIXED["optimiser"]))
    monkeypatch.setattr(optimiser, FIXED["optimiser"], _adam)
    tuner = finetune.Finetuner.__new__(finetune.Finetuner)
    tuner.settings = finetune.FinetuneSettings()
    with pytest.raises(_Made):
        next(tuner.epochs(torch.nn.Linear(1, 1), (None, None), 1, None))
    pairs = regression.KnownPairs(*np.zeros((3, 2)))
    with pytest.raises(_Made):
        regression.choose(_Pairs(), pairs, pairs, regression.RegressionSettings(), None, None)


class _Pairs(regression.PairModel):
    def forward(self, lines, drugs):
        raise NotImplementedError

    def backward(self, lines, drugs, responses, size) -> float:
        return 0.0

    def predict(self, lines, drugs):
        return np.zeros(len(lines))

    def start_at(self, mean: float) -> None:
        assert mean == 0


def test_similarity_and_schedule_are_as_told() -> None:
    assert FIXED_IN_PRETRAINING["similarity"] == "Cosine similarity"
    h, h_plus = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert info_nce(3 * h, h_plus).item() == pytest.approx(info_nce(h, h_plus).item(), rel=1e-12)
    assert of_pretraining(PretrainSettings(), EncoderConfig(n_genes=5))["schedule"] == "Cosine annealing"
    restarts = of_pretraining(PretrainSettings(schedule="cosine_restarts"), EncoderConfig(n_genes=5))[
        "schedule"
    ]
    assert restarts == "Cosine annealing with restarts"
    assert [cosine(step, 4, 1.0) for step in (0, 2, 4)] == pytest.approx([1.0, 0.5, 0.0])
