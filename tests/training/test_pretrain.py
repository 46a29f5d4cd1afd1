import csv
import json
import math
import signal
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from celllm.cells.genes import Vocabulary
from celllm.cli import main
from celllm.corpus.settings import TokenSettings
from celllm.corpus.shards import Corpus
from celllm.corpus.tokens import Tokeniser
from celllm.errors import UserError
from celllm.graph.embeddings import digest_of, load_gene_embeddings, save_gene_embeddings
from celllm.io import sha256
from celllm.model.settings import MEASURES
from celllm.model.weights import load_encoder
from celllm.training import pretrain
from celllm.training.checkpoints import exclusive
from celllm.training.distributed import joined
from celllm.training.model_row import commonest_genes, row_tokeniser, training_cells
from celllm.training.pretrain import hold_out, prepare
from celllm.training.schedule import cosine_restarts
from celllm.training.settings import ModelRow, PretrainSettings
from celllm.training.trainer import Trainer, resolve_precision
from tests.training.conftest import run_pretrain

Pretrained = Callable[..., dict[str, Any]]
Arguments = Callable[..., dict[str, Any]]

CONTRASTS = ["divide_and_conquer", "end_to_end", "moco", "none"]
LOSSES = ("mlm", "tumour", "contrast")


def read(path: str | Path) -> list[dict[str, str]]:
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


def open_run(arguments: dict[str, Any]) -> pretrain.Run:
    """The run before its first step."""
    with joined("cpu") as processes:
        return prepare(
            ModelRow(**arguments["model"]),
            PretrainSettings(**arguments["settings"]),
            processes,
            arguments["corpus"],
            arguments["genes"],
            arguments["gene_embeddings"],
            Path(arguments["checkpoints"]),
        )


def gradients(run: pretrain.Run, step: int = 0) -> tuple[dict[str, float], torch.Tensor]:
    """Losses and gradient of the first batch."""
    torch.manual_seed(step)
    losses = run.trainer.add_gradients(run.batches.make(step))
    return losses, torch.cat([p.grad.double().flatten() for p in run.trainer.trained])


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_same_seed_gives_the_same_file(pretrained: Pretrained, contrast: str) -> None:
    one, two, other = (
        sha256(pretrained(name, row={"contrast": contrast}, seed=seed)["out"])
        for name, seed in (("one", 1), ("two", 1), ("other", 2))
    )
    assert one == two
    assert one != other


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_every_loss_falls(pretrained: Pretrained, contrast: str) -> None:
    made = pretrained(row={"contrast": contrast}, max_steps=25, learning_rate=3e-3, queue_length=24)
    rows = read(made["metrics"])
    assert [int(row["step"]) for row in rows] == list(range(1, 26))
    for name in LOSSES:
        values = [float(row[name]) for row in rows if row[name]]
        if name == "contrast" and contrast == "none":
            assert not values
        else:
            assert np.mean(values[-5:]) < 0.95 * np.mean(values[:3]), name


def test_first_losses_are_those_of_not_knowing(arguments: Arguments) -> None:
    """Eight tokens, two classes, 24 cells: the logarithms of these, as far as random parameters go."""
    losses, _ = gradients(open_run(arguments(temperature=100.0)))
    assert losses["mlm"] == pytest.approx(math.log(8), abs=0.5)
    assert losses["tumour"] == pytest.approx(math.log(2), abs=0.5)
    assert losses["contrast"] == pytest.approx(math.log(24), abs=0.02)
    assert losses["loss"] == pytest.approx(sum(losses[name] for name in LOSSES))


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_losses_and_gradients_do_not_depend_on_the_chunks(arguments: Arguments, contrast: str) -> None:
    """One cell a chunk, a few, all at once: the normalisers are those of the whole batch."""
    row = {"contrast": contrast, "size": {"dim": 16, "depth": 2, "heads": 2, "dim_head": 8, "dropout": 0.0}}
    runs = [open_run(arguments(row=row, token_budget=budget)) for budget in (1, 110, 10**6)]
    assert [len(run.batches.make(0).chunks) for run in runs] == [24, pytest.approx(5, abs=3), 1]
    for run in runs:
        run.batches.sampler.load({**run.sampler, "position": 0})
    (losses, expected), *others = [gradients(run) for run in runs]
    for found, gradient in others:
        assert found == pytest.approx(losses, rel=1e-5)
        assert float((gradient - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize("budget", [1, 150, 10**6], ids=["one cell a chunk", "short last chunk", "one chunk"])
def test_divide_and_conquer_is_end_to_end(arguments: Arguments, budget: int) -> None:
    """All losses of the real model in float64, dropout on, the same dropout masks in both."""
    found = []
    for contrast in ("divide_and_conquer", "end_to_end"):
        run = open_run(arguments(row={"contrast": contrast}, token_budget=budget))
        run.trainer.model.double()
        found.append(gradients(run))
    (losses, gradient), (expected_losses, expected) = found
    assert float((gradient - expected).norm() / expected.norm()) < 1e-10
    assert losses == pytest.approx(expected_losses, rel=1e-10)


def test_checkpointing_layers_changes_no_gradient(arguments: Arguments) -> None:
    """Layers run three times then, each time with the same dropout masks."""
    plain, thrifty = (
        gradients(open_run(arguments(gradient_checkpointing=thrift))) for thrift in (False, True)
    )
    assert float((plain[1] - thrifty[1]).norm() / plain[1].norm()) < 1e-6


def test_weights_scale_gradients_and_not_the_losses_told(arguments: Arguments) -> None:
    plain = gradients(open_run(arguments()))
    weights = {f"{name}_weight": 3.0 for name in LOSSES}
    weighted = gradients(open_run(arguments(**weights)))
    assert {n: weighted[0][n] for n in LOSSES} == pytest.approx({n: plain[0][n] for n in LOSSES}, rel=1e-5)
    assert weighted[0]["loss"] == pytest.approx(3 * plain[0]["loss"], rel=1e-5)
    assert torch.allclose(weighted[1], 3 * plain[1], rtol=1e-3, atol=1e-6)


def test_every_cell_of_a_batch_is_in_one_process(arguments: Arguments) -> None:
    whole = open_run(arguments()).batches.make(0)
    parts = []
    for rank in range(3):
        run = open_run(arguments())
        run.batches.rank, run.batches.n_ranks = rank, 3
        parts.append(run.batches.make(0))
    rows = [np.concatenate(batch.rows) for batch in (whole, *parts)]
    assert sorted(np.concatenate(rows[1:])) == sorted(rows[0])
    assert [len(part) for part in rows[1:]] == [8, 8, 8]
    assert sum(part.n_masked for part in parts) == whole.n_masked
    assert sum(part.n_tokens for part in parts) == whole.n_tokens


def test_scbert_row(arguments: Arguments, tiny: dict[str, Path]) -> None:
    """Full vectors of the commonest genes, normal cells, masked expressions alone, a trained gene table."""
    row = {
        "contrast": "none",
        "tumour_task": False,
        "cells": "normal",
        "tokens": {"zeros": True, "n_genes": 12, "log_base": "2"},
    }
    made = arguments(row=row) | {"gene_embeddings": None}
    run = open_run(made)
    corpus = Corpus.open(tiny["corpus"])
    batch = run.batches.make(0)
    assert (corpus.tumour[np.concatenate(batch.rows)] == 0).all()
    assert {chunk.gene_ids.shape[1] for chunk in batch.chunks} == {13}
    assert all((chunk.targets > 0).all() for chunk in batch.chunks)
    before = run.trainer.model.encoder.embedding.genes.weight.clone()
    assert run_pretrain(**made) == 0
    encoder, meta = load_encoder(made["out"])
    changed = (encoder.embedding.genes.weight != before).any(1)
    assert set(torch.nonzero(changed).flatten().tolist()) <= set(meta["tokeniser"]["genes"])
    assert changed.any()
    assert set(read(made["metrics"])[0]["contrast"]) == set(read(made["metrics"])[0]["tumour"]) == set()


def test_commonest_genes(tiny: dict[str, Path]) -> None:
    corpus = Corpus.open(tiny["corpus"])
    rows = np.arange(3, 70)
    counts = np.zeros(40, dtype=int)
    for row in rows:
        counts[corpus.take([row]).gene_ids] += 1
    kept = commonest_genes(corpus, rows, np.arange(40), 7, block=10)
    assert kept.tolist() == sorted(sorted(range(40), key=lambda gene: (-counts[gene], gene))[:7])


def test_cells_of_some_sources_and_of_normal_samples(tiny: dict[str, Path]) -> None:
    """scBERT is trained on normal cells of PanglaoDB: normal cells of another source are not among them."""
    corpus = Corpus.open(tiny["corpus"])
    source = np.repeat([e.source for e in corpus.entries], [e.n_cells for e in corpus.entries])
    first = corpus.entries[0].source
    for cells, sources in product(("all", "normal"), (None, (first,))):
        row = ModelRow(size="8m", cells=cells, sources=sources)
        wanted = np.isin(source, sources or source) & ((corpus.tumour == 0) | (cells == "all"))
        assert training_cells(row, corpus).tolist() == np.flatnonzero(wanted).tolist()
    with pytest.raises(UserError, match="the corpus has no cell of elsewhere; add a source of such cells"):
        training_cells(ModelRow(size="8m", sources=("elsewhere",)), corpus)


def test_full_gene_vectors_have_the_genes_of_the_embeddings(tiny: dict[str, Path]) -> None:
    corpus, table = Corpus.open(tiny["corpus"]), torch.zeros(40, 4)
    table[[3, 8, 20]] = 1.0
    row = ModelRow(size="8m", tokens=TokenSettings(zeros=True))
    assert row_tokeniser(row, 40, corpus, table).genes.tolist() == [3, 8, 20]
    assert row_tokeniser(row, 40, corpus).genes is None
    few = ModelRow(size="8m", tokens=TokenSettings(zeros=True, n_genes=2))
    assert set(row_tokeniser(few, 40, corpus, table).genes.tolist()) < {3, 8, 20}


def test_the_rate_follows_the_schedule_of_the_settings(pretrained: Pretrained) -> None:
    made = pretrained(row={"contrast": "none"}, max_steps=10, learning_rate=1e-3, schedule="cosine_restarts")
    rates = [float(row["learning_rate"]) for row in read(made["metrics"])]
    assert rates == pytest.approx([cosine_restarts(10 * step, 1e-3) for step in range(10)])


def test_the_encoder_says_how_it_was_made(pretrained: Pretrained, tiny: dict[str, Path]) -> None:
    made = pretrained(row={"name": "toy", "title": "Toy", "tokens": {"max_length": 9}})
    vocabulary = Vocabulary.read(tiny["genes"])
    encoder, meta = load_encoder(made["out"], vocabulary.sha256)
    assert meta["steps"] == 6
    assert meta["model"]["name"] == "toy"
    assert meta["settings"]["temperature"] == 0.05
    assert "token_budget" not in meta["settings"]
    assert meta["gene_embeddings_sha256"] == digest_of(load_gene_embeddings(tiny["gene_embeddings"]))
    assert Tokeniser.from_json(meta["tokeniser"]) == open_run(arguments_of(made, "again")).batches.tokeniser
    table = load_gene_embeddings(tiny["gene_embeddings"])
    assert torch.equal(encoder.embedding.genes.weight[:-1], table), "graph embeddings stay frozen"


def arguments_of(made: dict[str, Any], folder: str) -> dict[str, Any]:
    return made | {"checkpoints": str(Path(made["checkpoints"]).parent / folder)}


def test_interval_of_redraws(arguments: Arguments) -> None:
    run = open_run(arguments(feature_redraw_steps=2))
    projections = []
    for step in range(5):
        run.trainer.step(run.batches.make(step), step, 1e-4)
        projections.append(run.trainer.model.encoder.layers[0].attention.projection.clone())
    same = [torch.equal(a, b) for a, b in pairwise(projections)]
    assert same == [True, False, True, False]


def test_nan_stops_the_run_and_names_the_cells(
    arguments: Arguments, tiny: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gene vector of NaN: the cells that have the gene are to blame, and the last checkpoint stays."""
    table = load_gene_embeddings(tiny["gene_embeddings"])
    table[-1] = torch.nan
    path = Path(arguments()["checkpoints"]).parent.parent / "broken.safetensors"
    finite = torch.Tensor.isfinite  # of states (B, L, dim); tables and checkpoints would not be written
    monkeypatch.setattr(
        torch.Tensor, "isfinite", lambda x: finite(x) if x.ndim == 3 else torch.ones_like(x) > 0
    )
    save_gene_embeddings(path, table, Vocabulary.read(tiny["genes"]).sha256)
    made = arguments(batch_size=1, checkpoint_steps=1, token_budget=10**6) | {"gene_embeddings": str(path)}
    run = open_run(made)
    corpus = run.batches.corpus
    first = next(n for n in range(90) if 39 in corpus.take(run.batches.make(n).rows[0]).gene_ids)
    run.batches.sampler.load({**run.sampler, "position": 0})
    row = int([run.batches.make(n).rows[0] for n in range(first + 1)][-1][0])
    made["settings"] |= {"max_steps": first + 1}
    kept = f"the checkpoint of step {first} stays" if first else "no checkpoint yet"
    where = rf"at 1 cell\(s\), corpus rows {row} \({corpus.samples([row])[0]}\)"
    with pytest.raises(UserError, match=rf"step {first + 1}: loss '\w+' is nan {where}; {kept};"):
        run_pretrain(**made)
    assert not Path(made["out"]).exists()


def test_an_infinite_gradient_stops_the_run(arguments: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(math.inf))
    with pytest.raises(UserError, match=r"step 1: the norm of the gradient is inf \(in no cell by itself\)"):
        run_pretrain(**arguments())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_names_the_budget_to_try(
    arguments: Arguments, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Trainer, "add_gradients", fail)
    with pytest.raises(UserError, match=r"step 1: out of memory; try settings.token_budget \d+ "):
        run_pretrain(**arguments())
    with pytest.raises(UserError, match=r"one cell of \d+ tokens does not fit; set gradient_checkpointing"):
        run_pretrain(**arguments(token_budget=1))


def test_other_errors_stay_what_they_are(arguments: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(Trainer, "add_gradients", fail)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        run_pretrain(**arguments())


def test_a_folder_in_use_is_refused(arguments: Arguments) -> None:
    made = arguments()
    with (
        exclusive(made["checkpoints"]),
        pytest.raises(UserError, match="another process is training into this folder"),
    ):
        run_pretrain(**made)


@pytest.mark.parametrize(
    ("row", "settings", "message"),
    [
        ({}, {"learning_rate": 0.5}, "settings.learning_rate was 0.001, now it is 0.5"),
        ({"contrast": "moco"}, {}, "model.contrast was 'divide_and_conquer', now it is 'moco'"),
        (
            {"size": {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8}},
            {},
            "model.size.depth was 2, now it is 1",
        ),
        ({}, {"max_steps": 7}, "settings.max_steps was 6, now it is 7"),
    ],
)
def test_another_configuration_is_refused(
    pretrained: Pretrained, arguments: Arguments, row: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    checkpoints = Path(pretrained(checkpoint_steps=4)["checkpoints"])
    (checkpoints / "step-000000006.safetensors").unlink()  # as if it had been killed after the fourth step
    with pytest.raises(UserError, match=message):
        run_pretrain(**arguments(row=row, **settings))
    assert (checkpoints / "step-000000004.safetensors").exists()


def test_a_finished_training_makes_room_for_another(pretrained: Pretrained) -> None:
    first = pretrained()
    again = pretrained(learning_rate=0.5)
    assert again["checkpoints"] == first["checkpoints"]
    assert len(read(again["metrics"])) == 6


def test_resources_and_names_may_change(pretrained: Pretrained) -> None:
    first = pretrained()
    Path(first["out"]).unlink()
    again = pretrained(row={"title": "Another"}, token_budget=50, log_steps=3, gradient_checkpointing=True)
    assert Path(again["out"]).exists()
    assert len(read(again["metrics"])) == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batchsize": 4}, "settings.batchsize: unknown key 'batchsize'; did you mean 'batch_size'[?]"),
        ({"temperature": 0.0}, "settings.temperature: expected more than 0, got 0.0"),
        ({"mask_rate": 1.5}, "settings.mask_rate: expected at most 1, got 1.5"),
        ({"held_out_cells": 90}, "settings.held_out_cells: 90 of 90 cells leave none to train on"),
        ({"geometry_steps": 5}, "geometry_steps: expected null, or held_out_cells of 2 or more, got 5"),
        ({"batch_size": 0}, "settings.batch_size: expected at least 1, got 0"),
        ({"epochs": "many"}, 'settings.epochs: expected an integer, got "many"'),
        ({"precision": "float16"}, "float16 runs on GPUs only"),
        ({"device": "abacus"}, "device: expected auto, cpu, cuda or cuda:<number>, got 'abacus'"),
    ],
)
def test_bad_settings_are_told_in_one_line(
    arguments: Arguments, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run_pretrain(**arguments(**settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"size": "9000m"}, "model.size: unknown size '9000m'; known are 8m, 25m, 50m"),
        ({"contrast": "some"}, "model.contrast: expected"),
        ({"tokens": {"zeroes": True}}, "model.tokens.zeroes: unknown key 'zeroes'; did you mean 'zeros'[?]"),
        ({"tokens": {"n_genes": 5}}, "model.tokens.n_genes: expected null without zeros"),
    ],
)
def test_bad_rows_are_told_in_one_line(arguments: Arguments, row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_pretrain(**arguments(row=row))


def test_the_command_takes_json_text(arguments: Arguments) -> None:
    made = arguments()
    made |= {name: json.dumps(made[name]) for name in ("model", "settings")}
    words = [word for name, value in made.items() for word in (f"--{name.replace('_', '-')}", value)]
    assert main(["pretrain", *words]) == 0
    assert Path(made["out"]).exists()


def test_bfloat16_comes_close(arguments: Arguments) -> None:
    exact, _ = gradients(open_run(arguments()))
    rough, _ = gradients(open_run(arguments(precision="bfloat16")))
    assert rough == pytest.approx(exact, rel=0.03)
    assert rough != exact


def test_auto_precision_is_float32_or_bfloat16() -> None:
    chosen = resolve_precision("auto", torch.device("cpu"))
    assert chosen in (torch.float32, torch.bfloat16)
    assert resolve_precision("float32", torch.device("cpu")) == torch.float32


def test_signal_handlers_are_put_back(pretrained: Pretrained) -> None:
    before = signal.getsignal(signal.SIGTERM)
    pretrained()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
@pytest.mark.parametrize("contrast", ["divide_and_conquer", "moco"])
def test_compiled_layers_change_nothing_but_rounding(arguments: Arguments, contrast: str) -> None:
    """Dropout is on: masks and their replay stay those of plain layers; so do the names in a checkpoint."""
    row = {"contrast": contrast, "size": {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8}}
    plain, compiled = (open_run(arguments(row=row, compile=value)) for value in (False, True))
    (losses, expected), (found, gradient) = gradients(plain), gradients(compiled)
    layer = compiled.trainer.model.encoder.layers[0]
    assert layer._compiled_call_impl is not None
    assert found == pytest.approx(losses, rel=1e-5)
    assert float((gradient - expected).norm() / expected.norm()) < 1e-5
    assert compiled.trainer.tensors().keys() == plain.trainer.tensors().keys()


def test_held_out_cells_are_watched_and_not_trained_on(pretrained: Pretrained, arguments: Arguments) -> None:
    """Measuring them is no part of the training: without it the result has the same bits."""
    watched = pretrained("watched", held_out_cells=12, geometry_steps=2)
    rows = read(watched["metrics"])
    for name in MEASURES:
        assert [row["step"] for row in rows if row[name]] == ["2", "4", "6"]
    assert all(-1 <= float(row["mean_cosine"]) < 1 for row in rows[1::2])
    assert len({row["effective_rank"] for row in rows[1::2]}) == 3, "parameters move, so do embeddings"
    assert sha256(pretrained("unwatched", held_out_cells=12)["out"]) == sha256(watched["out"])
    run = open_run(arguments("again", held_out_cells=12))
    seen = {row for step in range(6) for part in run.batches.make(step).rows for row in part.tolist()}
    _, held_out = hold_out(np.arange(90), run.settings)
    assert len(set(held_out.tolist())) == 12
    assert seen == set(range(90)) - set(held_out.tolist())
