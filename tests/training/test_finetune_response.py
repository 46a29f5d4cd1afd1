"""Regression on pairs: batches, the choice of the epoch, and how often a cell line is encoded."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from celllm.corpus.expressed import CellsInMemory, from_csr, not_normalised
from celllm.corpus.tokens import Tokeniser
from celllm.errors import UserError
from celllm.model.embedder import Embedder
from celllm.model.encoder import Encoder
from celllm.model.settings import EncoderConfig, PoolingActivation
from celllm.settings import as_settings
from celllm.training.finetune_response import EncodedLines, ResponseModel, ResponseSettings, ResponseTuner
from celllm.training.frozen import States
from celllm.training.regression import (
    Floats,
    KnownPairs,
    Numbers,
    PairModel,
    RegressionSettings,
    batches,
    choose,
    run_epoch,
)

N_LINES, N_DRUGS, N_GENES = 24, 6, 60
GENES = np.arange(3, 53)
QUICK = ResponseSettings(
    epochs=4,
    batch_size=12,
    learning_rate=3e-3,
    cell_layers=(16, 8),
    drug_size=5,
    regression_layers=(16,),
    line_bins="normalised",
    precision="float32",
)


def cells(seed: int = 0) -> tuple[CellsInMemory, NDArray[np.float64]]:
    """Cell lines with one programme of ten genes, and how strong it is."""
    rng = np.random.default_rng(seed)
    strength = rng.normal(size=N_LINES)
    rates = np.full((N_LINES, len(GENES)), 2.0)
    rates[:, :10] *= np.exp(strength)[:, None]
    return from_csr(csr_matrix(rng.poisson(rates).astype(np.float32)), GENES), strength


def encoder(dropout: float = 0.1) -> Encoder:
    torch.manual_seed(1)
    config = EncoderConfig(
        n_genes=N_GENES, dim=16, depth=3, heads=2, dim_head=8, n_features=16, dropout=dropout
    )
    return Encoder(config, torch.randn(N_GENES, 16))


class DrugTable(nn.Module):
    """A vector per drug; counts how many it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Embedding(N_DRUGS, 5)
        self.asked: list[list[int]] = []

    def forward(self, numbers: NDArray[np.int64]) -> Tensor:
        self.asked.append(numbers.tolist())
        return self.vectors(torch.from_numpy(numbers))


def pairs() -> KnownPairs:
    lines, drugs = (grid.ravel() for grid in np.indices((N_LINES, N_DRUGS)))
    slopes = np.linspace(-2, 2, N_DRUGS)
    return KnownPairs(lines, drugs, 3.0 + drugs + slopes[drugs] * cells()[1][lines])


def some(of: KnownPairs, rows: Any) -> KnownPairs:
    return KnownPairs(of.lines[rows], of.drugs[rows], of.responses[rows])


def tuner(settings: ResponseSettings = QUICK, dropout: float = 0.1) -> ResponseTuner:
    embedder = Embedder(encoder(dropout), Tokeniser(N_GENES))
    return ResponseTuner(embedder, cells()[0], GENES, DrugTable, settings)


def minus_rmse(truth: Floats, predicted: Floats) -> float:
    return -float(np.sqrt(np.mean((truth - predicted) ** 2)))


def fitted(made: ResponseTuner, seed: int = 0) -> tuple[ResponseModel, KnownPairs]:
    """A model of two thirds of the pairs, its epoch chosen on a sixth; and the rest."""
    part = np.random.default_rng(3).permutation(N_LINES * N_DRUGS) % 6
    train_on, choose_on, test = (some(pairs(), rows) for rows in (part < 4, part == 4, part == 5))
    found = made.choose(train_on, choose_on, minus_rmse, seed)
    found.predict((test.lines, test.drugs))
    assert isinstance(found.model, ResponseModel)
    return found.model, test


# --- batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines_per_batch", [0, 1, 3, 50])
def test_batches_are_a_partition(lines_per_batch: int) -> None:
    lines = np.random.default_rng(0).integers(30, size=500)
    cut = batches(lines, 16, lines_per_batch, np.random.default_rng(1))
    assert sorted(np.concatenate(cut)) == list(range(500))
    assert all(2 <= len(rows) <= (16 if lines_per_batch < 50 else 50) for rows in cut)
    again, other = (batches(lines, 16, lines_per_batch, np.random.default_rng(seed)) for seed in (1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(cut, again, strict=True))
    assert cut[0].tolist() != other[0].tolist()


@pytest.mark.parametrize("lines_per_batch", [1, 2, 4])
def test_batches_hold_few_lines(lines_per_batch: int) -> None:
    lines = np.repeat(np.arange(10), 64)
    cut = batches(lines, 16, lines_per_batch, np.random.default_rng(0))
    assert {len(rows) for rows in cut} == {16}
    assert max(len(np.unique(lines[rows])) for rows in cut) == lines_per_batch
    assert len(batches(lines, 16, 0, np.random.default_rng(0))) == len(cut) == 40


@pytest.mark.parametrize("lines", [[0, 0, 0, 1], [0, 1, 2], [0, 0], [7]])
def test_no_pair_stands_alone_unless_it_is_the_only_one(lines: list[int]) -> None:
    cut = batches(np.array(lines), 2, 1, np.random.default_rng(0))
    assert sorted(np.concatenate(cut)) == list(range(len(lines)))
    assert len(lines) == 1 or all(len(rows) > 1 for rows in cut)


# --- epochs ------------------------------------------------------------------------------------------------


class Constant(PairModel):
    """Predicts one number, which takes the given values after the epochs."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.number, self.values, self.epoch = nn.Parameter(torch.zeros(())), values, 0

    def forward(self, lines: Numbers, drugs: Numbers) -> Tensor:
        raise NotImplementedError

    def backward(self, lines: Numbers, drugs: Numbers, responses: Floats, size: float) -> float:
        self.number.grad = torch.zeros(())
        return 0.0

    def predict(self, lines: Numbers, drugs: Numbers) -> Floats:
        with torch.no_grad():
            self.number.fill_(self.values[self.epoch])
        self.epoch += 1
        return np.full(len(lines), self.values[self.epoch - 1])

    def start_at(self, mean: float) -> None:
        self.started = mean


class Watching(Constant):
    """Keeps the pairs of each step."""

    def __init__(self) -> None:
        super().__init__([])
        self.steps: list[KnownPairs] = []

    def backward(self, lines: Numbers, drugs: Numbers, responses: Floats, size: float) -> float:
        self.steps.append(KnownPairs(lines, drugs, responses))
        return super().backward(lines, drugs, responses, size)

    def epoch_of(self, known: KnownPairs, settings: RegressionSettings, order: np.random.Generator) -> int:
        """Make an epoch; return the number of pairs that it told of."""
        self.steps.clear()
        return run_epoch(self, torch.optim.Adam(self.parameters()), known, settings, order)[1]


def test_steps_of_few_drugs() -> None:
    lines, drugs = (grid.ravel() for grid in np.indices((32, 10)))
    model = Watching()
    settings = RegressionSettings(batch_size=16, drugs_per_batch=2)
    model.epoch_of(KnownPairs(lines, drugs, np.zeros(320)), settings, np.random.default_rng(0))
    assert len(model.steps) == 20
    assert max(len(np.unique(step.drugs)) for step in model.steps) == 2
    with pytest.raises(UserError, match="drugs_per_batch: expected 0 with lines_per_batch, got 1"):
        settings.changed(lines_per_batch=1, drugs_per_batch=1)


@pytest.mark.parametrize("lines_per_batch", [0, 2])
def test_an_epoch_of_some_pairs_is_whole_batches_and_others_each_time(lines_per_batch: int) -> None:
    lines, drugs = (grid.ravel() for grid in np.indices((20, 32)))
    known, order, model = (
        KnownPairs(lines, drugs, 100.0 * lines + drugs),
        np.random.default_rng(0),
        Watching(),
    )
    settings = RegressionSettings(batch_size=16, pairs_per_epoch=40, lines_per_batch=lines_per_batch)
    met = []
    for _ in range(2):
        assert model.epoch_of(known, settings, order) == 48
        assert [len(step) for step in model.steps] == [16] * 3
        assert all((step.responses == 100.0 * step.lines + step.drugs).all() for step in model.steps)
        met.append(np.concatenate([step.responses for step in model.steps]).tolist())
        assert len(set(met[-1])) == 48
    assert met[0] != met[1]
    for n in (0, 640, 641):
        everything = settings.changed(pairs_per_epoch=n)
        assert model.epoch_of(known, everything, order) == 640
        assert sorted(np.concatenate([step.responses for step in model.steps])) == sorted(known.responses)


class Additive(PairModel):
    """A number per line and per drug; keeps the gradient of each step, and the weights stay."""

    def __init__(self) -> None:
        super().__init__()
        self.of_line, self.of_drug = (nn.Parameter(torch.zeros(40, dtype=torch.float64)) for _ in range(2))

    def forward(self, lines: Numbers, drugs: Numbers) -> Tensor:
        return self.of_line[lines] + self.of_drug[drugs]

    def start_at(self, mean: float) -> None:
        raise NotImplementedError

    def gradients(self, known: KnownPairs, settings: RegressionSettings, seed: int) -> Tensor:
        """Of every step of an epoch, (n_steps, n_parameters)."""
        met = []

        class Watch(torch.optim.SGD):
            def step(self, closure: Any = None) -> None:
                met.append(torch.cat([p.grad.clone() for p in self.param_groups[0]["params"]]))

        run_epoch(self, Watch(self.parameters()), known, settings, np.random.default_rng(seed))
        return torch.stack(met)


@pytest.mark.parametrize(
    "change", [{}, {"lines_per_batch": 1}, {"lines_per_batch": 4}, {"drugs_per_batch": 2}]
)
def test_batches_of_few_lines_have_the_mean_gradient_of_random_pairs(change: dict[str, int]) -> None:
    """Lines with 1 to 40 pairs: the mean over an epoch's steps is the gradient over all pairs (Table F.1)."""
    rng = np.random.default_rng(0)
    lines = np.repeat(np.arange(40), np.arange(1, 41))
    drugs = np.concatenate([rng.permutation(40)[: n + 1] for n in range(40)])
    known, model = KnownPairs(lines, drugs, rng.normal(size=len(lines)) + lines / 10), Additive()
    model.backward(known.lines, known.drugs, known.responses, len(known))
    wanted = torch.cat([model.of_line.grad, model.of_drug.grad])
    model.zero_grad()
    settings = RegressionSettings(batch_size=16, **change)
    found = model.gradients(known, settings, 1)
    torch.testing.assert_close(found.mean(0), wanted, rtol=1e-9, atol=1e-12)
    # An epoch of some pairs: the same in expectation, here over 300 epochs of a fifth of the pairs.
    part = settings.changed(pairs_per_epoch=len(known) // 5)
    some = torch.cat([model.gradients(known, part, seed) for seed in range(300)])
    error = some.std(0) / len(some) ** 0.5
    assert ((some.mean(0) - wanted).abs() <= 5 * error + 1e-12).all()


@pytest.mark.parametrize(
    ("values", "patience", "best", "n_epochs"),
    [
        ([5.0, 3.0, 1.0, 2.0, 4.0, 9.0], 2, 1.0, 5),  # two epochs without a better one
        ([5.0, 3.0, 4.0, 1.0], 2, 1.0, 4),  # the patience was enough
    ],
)
def test_the_best_epoch_is_kept(values: list[float], patience: int, best: float, n_epochs: int) -> None:
    model, known = Constant(values), some(pairs(), slice(0, 30))
    wanted = dataclasses.replace(known, responses=np.zeros(30))
    settings = RegressionSettings(epochs=len(values), patience=patience)
    found = choose(model, known, wanted, settings, minus_rmse, np.random.default_rng(0))
    assert (model.number.item(), model.epoch) == (values[n_epochs - 1], n_epochs)
    assert found.epochs == values.index(best) + 1
    assert found.best.state is not None
    assert found.best.state["number"].item() == best
    assert model.started == pytest.approx(known.responses.mean())


def test_an_epoch_that_is_not_finite_is_an_error_with_its_number() -> None:
    known, model = some(pairs(), slice(0, 4)), Constant([1.0, np.nan, 1.0])
    with pytest.raises(FloatingPointError, match="the error on the selection part is nan in epoch 2"):
        choose(model, known, known, RegressionSettings(epochs=3), minus_rmse, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, r"settings\.epochs: expected at least 1, got 0"),
        ({"batch_size": 1}, r"settings\.batch_size: expected at least 2"),
        ({"cell_layers": ()}, r"settings\.cell_layers: expected at least 1 item"),
    ],
)
def test_wrong_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_settings(ResponseSettings, change)


def test_more_layers_than_there_are() -> None:
    with pytest.raises(UserError, match=r"settings\.trainable_layers: expected -1 to 3, got 4"):
        tuner(QUICK.changed(trainable_layers=4))


# --- encoder and drugs -------------------------------------------------------------------------------------


def test_the_planted_programme_is_learned_and_runs_agree() -> None:
    settings = QUICK.changed(epochs=40, learning_rate=0.01)
    model, test = fitted(tuner(settings))
    found = model.predict(test.lines, test.drugs)
    # The drugs' means alone, without the expression, leave 0.68 of the spread.
    assert -minus_rmse(test.responses, found) < 0.45 * np.std(test.responses)
    again, _ = fitted(tuner(settings))
    assert (again.predict(test.lines, test.drugs) == found).all()
    other, _ = fitted(tuner(settings), seed=1)
    assert (other.predict(test.lines, test.drugs) != found).any()


class Watch:
    """Which lines the trained part of the encoder is given, batch by batch."""

    def __init__(self, model: ResponseModel) -> None:
        self.seen: list[int] = []
        assert isinstance(model.lines, EncodedLines)
        self.states = model.lines.states
        take = self.states.take

        def watched(rows: NDArray[np.int64]) -> Any:
            self.seen += rows.tolist()
            return take(rows)

        self.states.take = watched  # type: ignore[method-assign]


@pytest.mark.parametrize("token_budget", [1, 200, 100_000])
def test_a_line_and_a_drug_are_encoded_once_per_step_and_never_per_pair(token_budget: int) -> None:
    made = tuner(QUICK.changed(token_budget=token_budget))
    model = made.model()
    drugs = model.drugs
    assert isinstance(drugs, DrugTable)
    watch, all_pairs = Watch(model), pairs()
    rows = np.random.default_rng(0).permutation(len(all_pairs))[:40]
    step = some(all_pairs, rows)
    model.backward(step.lines, step.drugs, step.responses, len(step))
    assert sorted(watch.seen) == sorted(set(step.lines))
    assert drugs.asked == [sorted(set(step.drugs))]
    watch.seen.clear()
    drugs.asked.clear()
    model.predict(all_pairs.lines, all_pairs.drugs)
    assert sorted(watch.seen) == list(range(N_LINES))
    assert drugs.asked == [list(range(N_DRUGS))]
    assert made.states.n_computed == N_LINES  # the frozen layers: once for each line, whatever came


@pytest.mark.parametrize("trainable_layers", [-1, 0, 1])
def test_gradients_are_those_of_encoding_every_pair(trainable_layers: int) -> None:
    """One graph over all pairs, each with its own pass of line and drug, without dropout."""
    settings = QUICK.changed(trainable_layers=trainable_layers, token_budget=150)
    made = tuner(settings)
    torch.manual_seed(0)
    model = made.model().eval()
    assert isinstance(model.lines, EncodedLines)
    cells_of = model.lines.cells
    step = some(pairs(), np.random.default_rng(0).permutation(144)[:30])
    loss = model.backward(step.lines, step.drugs, step.responses, 30.0) / 30
    ours = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()

    def cell_vector(states: States) -> Tensor:
        return torch.relu(cells_of(states))

    vectors = [
        torch.cat([model.drugs(np.array([drug])), cell_vector(made.states.take(np.array([line])))], 1)
        for line, drug in zip(step.lines, step.drugs, strict=True)
    ]
    wanted = torch.as_tensor(step.responses, dtype=torch.float32)
    naive = (model.regression(torch.cat(vectors)).squeeze(1) - wanted).square().mean()
    naive.backward()
    assert loss == pytest.approx(naive.item(), rel=1e-5)
    for one, parameter in zip(ours, model.parameters(), strict=True):
        assert (one - parameter.grad).abs().max() <= 1e-5 * max(1.0, float(parameter.grad.abs().max()))


def test_reuse_and_the_token_budget_change_nothing() -> None:
    settings = QUICK.changed(dropout=0.0, epochs=2)
    found = []
    for change in ({}, {"store_mib": 0}, {"token_budget": 1}, {"token_budget": 100_000}):
        model, test = fitted(tuner(settings.changed(**change), dropout=0.0))
        found.append(model.predict(test.lines, test.drugs))
    for other in found[1:]:
        assert np.abs(other - found[0]).max() < 1e-4


def test_a_frozen_encoder_is_kept_to_its_final_norm() -> None:
    made = tuner(QUICK.changed(trainable_layers=0))
    model, _ = fitted(made)
    assert made.states.n_computed == N_LINES
    assert not [name for name, _ in model.named_parameters() if "layers.0.attention" in name]
    assert isinstance(model.lines, EncodedLines)
    assert isinstance(model.lines.cells.norm, nn.Identity)


def test_the_pre_trained_encoder_stays_as_it_is() -> None:
    made = tuner()
    before = {name: value.clone() for name, value in made.states.encoder.state_dict().items()}
    fitted(made)
    after = made.states.encoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_sizes_are_those_of_table_f1() -> None:
    lines = EncodedLines(tuner().states, GENES, ResponseSettings())
    model = ResponseModel(lines, nn.Linear(3, 256), ResponseSettings())
    widths = [(one.in_features, one.out_features) for one in model.regression if isinstance(one, nn.Linear)]
    assert widths == [(512, 512), (512, 512), (512, 1)]
    head = [one for one in lines.cells.modules() if isinstance(one, nn.Linear)][-2:]
    assert [(one.in_features, one.out_features) for one in head] == [(len(GENES) + 1, 1024), (1024, 256)]
    for part, wanted in ((lines.cells.layers, 0.1), (lines.cells.head, 0.2), (model.regression, 0.2)):
        assert {one.p for one in part.modules() if isinstance(one, nn.Dropout)} == {wanted}


@pytest.mark.parametrize(("kind", "negative"), [("relu", False), ("none", True)])
def test_no_activation_between_convolution_and_cell_layers_as_in_the_released_drp_model(
    kind: PoolingActivation, negative: bool
) -> None:
    assert ResponseSettings().pooling_activation == "none"
    made = tuner(QUICK.changed(pooling_activation=kind))
    lines = EncodedLines(made.states, GENES, made.settings).eval()
    assert bool((lines.cells.pooled(made.states.take(np.arange(N_LINES))) < 0).any()) is negative


def test_lines_can_be_read_as_log2_tpm_or_normalised() -> None:
    """The released forward floors what it is given, at most 5; normalised, most of a line stands in bin 0."""
    tpm = np.array([[0.0, 0.5, 1.0, 3.0, 7.0, 30.0, 31.0, 1e5, 16000.0]], dtype=np.float32)
    genes, matrix = np.arange(9), csr_matrix(tpm)
    embedder = Embedder(encoder(), Tokeniser(N_GENES))
    found = {}
    for kind, lines in (("log2_tpm", not_normalised(matrix, genes)), ("normalised", from_csr(matrix, genes))):
        made = ResponseTuner(embedder, lines, genes, DrugTable, QUICK.changed(line_bins=kind))
        found[kind] = made.states.tokeniser(lines.take([0])).bins[0, 1:].tolist()
    assert found["log2_tpm"] == np.minimum(np.log2(tpm[0, 1:] + 1).astype(int), 5).tolist()
    share = 1e4 * tpm[0, 1:] / tpm.sum()
    assert found["normalised"] == np.minimum(np.log1p(share).astype(int), 5).tolist()
    assert ResponseSettings().line_bins == "log2_tpm"
    assert embedder.tokeniser.log_base == "e"
