import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from celllm.corpus.expressed import CellsInMemory, from_csr
from celllm.corpus.tokens import Tokeniser
from celllm.errors import UserError
from celllm.model.embedder import Embedder
from celllm.model.encoder import Encoder
from celllm.model.heads import ClassificationHead
from celllm.model.settings import EncoderConfig, PoolingActivation
from celllm.training import finetune
from celllm.training.finetune import FineTuned, Finetuner, FinetuneSettings, class_weights
from celllm.training.frozen import FrozenStates, Store
from celllm.training.schedule import cosine_restarts

N_GENES = 90  # of the vocabulary
GENES = np.arange(5, 75)  # of the data set
QUICK = FinetuneSettings(epochs=6, accumulation=1, learning_rate=3e-3, precision="float32")


def planted(n: int = 120, seed: int = 0) -> tuple[CellsInMemory, NDArray[np.int64]]:
    """Cells of three classes of unequal size; each class has ten genes of its own, six times as high."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(3, size=n, p=[0.5, 0.3, 0.2])
    rates = np.full((n, len(GENES)), 0.5)
    for gene in range(30):
        rates[targets == gene // 10, gene] = 3.0
    return from_csr(csr_matrix(rng.poisson(rates).astype(np.float32)), GENES), targets


def encoder(depth: int = 3, **changes: float) -> Encoder:
    torch.manual_seed(1)
    config = EncoderConfig(
        n_genes=N_GENES, dim=16, depth=depth, heads=2, dim_head=8, n_features=16, **changes
    )
    return Encoder(config, torch.randn(N_GENES, 16))


def embedder(**changes: float) -> Embedder:
    return Embedder(encoder(**changes), Tokeniser(N_GENES))


def tuner(settings: FinetuneSettings = QUICK, **changes: float) -> Finetuner:
    return Finetuner(embedder(**changes), planted()[0], GENES, 3, settings)


def accuracy(true: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    return float((true == predicted).mean())


def fitted(made: Finetuner, seed: int = 0, score: object = accuracy) -> NDArray[np.int64]:
    """Predictions of the last 40 cells after training on the first 60."""
    _, targets = planted()
    rows = np.arange(120)
    found = made.choose(rows[:60], targets[:60], rows[60:80], targets[60:80], score, seed)
    return found.predict(rows[80:]).argmax(1)


def test_states_are_what_the_encoder_makes() -> None:
    cells, _ = planted()
    made, rows = encoder(), np.array([7, 3, 50, 3])
    states = FrozenStates(Embedder(made, Tokeniser(N_GENES)), cells, n_frozen=2).take(rows)
    batch = Tokeniser(N_GENES)(cells.take(rows))
    wanted = made.eval().run_layers(made.embed(batch.gene_ids, batch.bins), batch.mask, 0, 2)
    assert torch.equal(states.gene_ids, batch.gene_ids)
    assert torch.equal(states.mask, batch.mask)
    assert (states.x - wanted)[batch.mask].abs().max() < 1e-5
    assert not states.x.requires_grad


def test_frozen_layers_run_without_dropout_and_once_per_cell() -> None:
    made = FrozenStates(embedder(dropout=0.5), planted()[0], n_frozen=2)
    rows = np.arange(10)
    first, again = made.take(rows), made.take(rows[::-1].copy())
    assert made.n_computed == 120  # all fit: they are computed at once
    assert torch.equal(first.x.flip(0), again.x)


def test_a_store_that_is_full_computes_the_rest_again() -> None:
    cells = planted(2000)[0]
    made = FrozenStates(embedder(), cells, n_frozen=2, store=Store(limit_mib=1))
    all_of_it = FrozenStates(embedder(), cells, n_frozen=2)
    rows = np.arange(2000)
    assert (made.take(rows).x - all_of_it.take(rows).x).abs().max() < 1e-5
    assert (made.take(rows).x - all_of_it.take(rows).x).abs().max() < 1e-5
    kept = np.array(sorted(made._kept))
    assert made.n_computed == 2000 + (2000 - len(kept))
    # 16 float32 and one int32 for each token, [CLS] among them.
    assert 0.99 * 2**20 < (1 + cells.lengths[kept]).sum() * 68 <= 2**20


def test_a_bfloat16_store_keeps_three_digits() -> None:
    cells, rows = planted()[0], np.arange(20)
    exact = FrozenStates(embedder(), cells, 2).take(rows).x
    rough = FrozenStates(embedder(), cells, 2, Store(dtype=torch.bfloat16)).take(rows).x
    assert rough.dtype == torch.float32
    error = (rough - exact).abs().max()
    assert 0 < error < exact.abs().max() * 2**-8


def test_reuse_changes_nothing() -> None:
    reuse, afresh = tuner(), tuner(QUICK.changed(store_mib=0, spill_mib=0))
    _, targets = planted()
    rows, models = np.arange(120), []
    for made in (reuse, afresh):
        torch.manual_seed(0)
        model = FineTuned(made.encoder, made.n_frozen, GENES, 3, made.settings)
        for _ in made.epochs(model, (rows[:60], targets[:60]), 6, np.random.default_rng(0)):
            made.logits(model, rows[60:80])
        models.append(model)
    first, second = (made.logits(model, rows) for made, model in zip((reuse, afresh), models, strict=True))
    assert np.abs(first).max() > 1
    assert np.abs(first - second).max() < 1e-5
    assert reuse.states.n_computed == 120
    assert afresh.states.n_computed > 6 * 80


def test_it_learns_the_planted_classes() -> None:
    _, targets = planted()
    majority = (targets[80:] == np.bincount(targets[:60]).argmax()).mean()
    assert accuracy(targets[80:], fitted(tuner())) > max(0.9, majority + 0.2)


def test_layers_above_the_trained_one_stay_as_they_are() -> None:
    """As scBERT's released code, which trains the last layer but one and the norm."""
    made = tuner(QUICK.changed(frozen_top=1, epochs=2))
    assert made.n_frozen == 1
    _, targets = planted()
    model = FineTuned(made.encoder, 1, GENES, 3, made.settings)
    train = np.arange(60), targets[:60]
    assert len(list(made.epochs(model, train, 2, np.random.default_rng(0)))) == 2

    def moved(ours: torch.nn.Module, theirs: torch.nn.Module) -> bool:
        pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
        return any(not torch.equal(one, other) for one, other in pairs)

    assert moved(model.layers[0], made.encoder.layers[1])
    assert not moved(model.layers[1], made.encoder.layers[2])
    assert moved(model.norm, made.encoder.norm)


def test_the_same_seed_gives_the_same_model() -> None:
    made = tuner(QUICK.changed(epochs=1))
    first, again, other = (fitted(made, seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_the_global_random_state_stays_where_it_was() -> None:
    made = tuner(QUICK.changed(epochs=1))
    before = torch.random.get_rng_state()
    fitted(made)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_only_the_last_layer_the_norm_and_the_head_are_trained() -> None:
    made = tuner(QUICK.changed(epochs=1))
    before = {name: value.clone() for name, value in made.encoder.state_dict().items()}
    fitted(made)
    assert all(torch.equal(value, before[name]) for name, value in made.encoder.state_dict().items())
    model = FineTuned(made.encoder, made.n_frozen, GENES, 3, QUICK)
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"layers", "norm", "head"}
    assert len(model.layers) == 1
    last = dict(made.encoder.layers[-1].named_parameters())
    assert all(torch.equal(value, last[name]) for name, value in model.layers[0].named_parameters())


@pytest.mark.parametrize(("wanted", "n_frozen", "trained"), [(0, 3, 0), (1, 2, 1), (2, 1, 2), (-1, 0, 3)])
def test_how_many_layers_are_trained_is_a_setting(wanted: int, n_frozen: int, trained: int) -> None:
    made = tuner(QUICK.changed(trainable_layers=wanted, epochs=1))
    model = FineTuned(made.encoder, made.n_frozen, GENES, 3, made.settings)
    assert (made.n_frozen, len(model.layers)) == (n_frozen, trained)
    assert bool(list(model.norm.parameters())) == (trained > 0)
    assert len(fitted(made)) == 40
    rows = np.arange(4)
    batch = Tokeniser(N_GENES)(made.states.cells.take(rows))
    final = made.encoder(*batch)
    with_head = model.eval().head(final, model.places[batch.gene_ids], batch.mask)
    assert (model(made.states.take(rows)) - with_head).abs().max() < 1e-6


def test_too_many_layers_are_refused() -> None:
    with pytest.raises(UserError, match="trainable_layers: expected -1 to 3, got 4"):
        tuner(QUICK.changed(trainable_layers=4))


def test_settings_below_their_least_are_refused() -> None:
    with pytest.raises(UserError, match=r"settings\.batch_size: expected at least 1, got 0"):
        QUICK.changed(batch_size=0)


@pytest.mark.parametrize("pretrained", [0.0, 0.5])
def test_trained_layers_keep_the_dropout_of_pre_training_and_the_head_has_its_own(pretrained: float) -> None:
    made = tuner(QUICK.changed(dropout=0.25), dropout=pretrained)
    model = FineTuned(made.encoder, made.n_frozen, GENES, 3, made.settings)
    for part, wanted in ((model.layers, pretrained), (model.head, 0.25)):
        assert {m.p for m in part.modules() if isinstance(m, torch.nn.Dropout)} == {wanted}


@pytest.mark.parametrize(("kind", "negative"), [("relu", False), ("none", True)])
def test_a_gene_counts_for_the_labels_of_cells_only_where_its_number_is_positive(
    kind: PoolingActivation, negative: bool
) -> None:
    """As the released ctc_model.py: convolution, ReLU, then back to the places of the genes."""
    assert FinetuneSettings().pooling_activation == "relu"
    made = tuner(QUICK.changed(pooling_activation=kind))
    model = FineTuned(made.encoder, made.n_frozen, GENES, 3, made.settings).eval()
    states = made.states.take(np.arange(9))
    pooled = model.pooled(states)
    assert bool((pooled < 0).any()) is negative
    numbers = model.head.pooling.to_number(model.norm(model.layers[0](states.x, states.mask))).squeeze(-1)
    assert torch.allclose(pooled[:, -1], numbers[:, 0] if negative else numbers[:, 0].relu())


def test_a_head_over_the_genes_of_the_data_set_is_the_head_over_all_genes() -> None:
    made = tuner()
    model = FineTuned(made.encoder, made.n_frozen, GENES, 3, QUICK).eval()
    full = ClassificationHead(N_GENES, 16, (512, 128, 3)).eval()
    full.pooling.load_state_dict(model.head.pooling.state_dict())
    inner = {k: v for k, v in model.head.layers.state_dict().items() if not k.startswith("0.weight")}
    full.layers.load_state_dict(inner, strict=False)
    with torch.no_grad():
        full.layers[0].weight[:, [*GENES, N_GENES]] = model.head.layers[0].weight
    states = made.states.take(np.arange(9))
    x = model.norm(model.layers[0](states.x, states.mask))
    assert (full(x, states.gene_ids, states.mask) - model(states)).abs().max() < 1e-6


def test_the_first_linear_layer_starts_in_the_range_of_the_full_vector() -> None:
    model = FineTuned(encoder(), 2, GENES, 3, QUICK)
    largest = model.head.layers[0].weight.abs().max().item()
    assert largest == pytest.approx(1 / math.sqrt(N_GENES + 1), rel=0.01)


def test_the_gradient_does_not_depend_on_the_token_budget() -> None:
    _, targets = planted()
    rows, weights, gradients = np.arange(50), torch.tensor([0.2, 0.7, 1.5]), []
    for budget in (1, 300, 100000):
        made = tuner(QUICK.changed(dropout=0.0, token_budget=budget))
        torch.manual_seed(0)
        model = FineTuned(made.encoder, made.n_frozen, GENES, 3, made.settings)
        loss = made.backward(model, rows, targets[:50], weights)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    logits = torch.from_numpy(made.logits(model, rows))
    whole = torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets[:50]), weights)
    assert loss == pytest.approx(whole.item(), rel=1e-5)
    for other in gradients[1:]:
        assert (other - gradients[0]).norm() / gradients[0].norm() < 1e-5


def test_a_step_is_batch_size_times_accumulation(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    inner = Finetuner.backward

    def counted(self: Finetuner, model: object, rows: NDArray[np.int64], *rest: object) -> float:
        sizes.append(len(rows))
        return inner(self, model, rows, *rest)

    monkeypatch.setattr(Finetuner, "backward", counted)
    fitted(tuner(QUICK.changed(epochs=1, batch_size=8, accumulation=3)))
    assert sizes == [24, 24, 12]


def test_the_best_epoch_is_put_back_and_patience_ends_training() -> None:
    seen: list[float] = []

    def falling(true: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
        seen.append(len(seen) in (1, 2))  # epochs 2 and 3 are the best, and equally good
        return float(seen[-1])

    made = tuner(QUICK.changed(epochs=50, patience=4))
    until_here = tuner(QUICK.changed(epochs=3))
    later_is_better = fitted(made, score=falling)
    assert len(seen) == 3 + 4
    assert (later_is_better == fitted(until_here, score=lambda true, predicted: 0.0)).all()


def test_a_choice_is_a_number_of_epochs_that_a_fit_repeats_bit_for_bit() -> None:
    _, targets = planted()
    rows, scores = np.arange(120), iter([0.0, 1.0, 0.5, 0.2])
    made = tuner(QUICK.changed(epochs=50, patience=2))
    found = made.choose(rows[:60], targets[:60], rows[60:80], targets[60:80], lambda t, p: next(scores), 3)
    assert found.epochs == 2
    best, last = found.predict(rows[80:]), found.predict_last(rows[80:])
    assert best.sum(axis=1) == pytest.approx(1)
    assert (made.fit(rows[:60], targets[:60], 2, 3)(rows[80:]) == best).all()
    assert (made.fit(rows[:60], targets[:60], 4, 3)(rows[80:]) == last).all()
    assert (best != last).any()


def test_a_loss_that_is_not_finite_ends_training_with_the_epoch() -> None:
    _, targets = planted()
    made, rows = tuner(QUICK.changed(learning_rate=1e30)), np.arange(60)
    with pytest.raises(FloatingPointError, match=r"the loss.* is (nan|inf) in epoch \d+; lower the learning"):
        fitted(made)
    with pytest.raises(FloatingPointError, match=r"in epoch \d+"):
        made.fit(rows, targets[:60], 8, 0)


def test_class_weights() -> None:
    targets = np.array([0] * 6 + [1] * 2)
    assert class_weights(targets, 3, "released") == pytest.approx([1 / 16, 9 / 16, 1.0])
    assert class_weights(targets, 3, "balanced") == pytest.approx([8 / 18, 8 / 6, 1.0])
    assert class_weights(targets, 3, "none") == pytest.approx([1, 1, 1])


def test_full_gene_vectors_train_too() -> None:
    """As scBERT reads cells: zeros are tokens, and genes that the data set lacks are among them."""
    cells, targets = planted()
    full = Tokeniser(N_GENES, zeros=True, genes=np.arange(0, 80))
    made = Finetuner(Embedder(encoder(), full), cells, GENES, 3, QUICK.changed(epochs=20))
    assert accuracy(targets[80:], fitted(made)) > 0.9
    assert made.states.take(np.arange(2)).x.shape == (2, 81, 16)


def test_bfloat16_products_train_too() -> None:
    _, targets = planted()
    made = tuner(QUICK.changed(precision="bfloat16"))
    assert accuracy(targets[80:], fitted(made)) > 0.9


def test_rates_of_the_epochs_follow_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    met: dict[str, list[float]] = {}
    for schedule in ("constant", "cosine_restarts"):
        made = tuner(QUICK.changed(epochs=7, schedule=schedule))
        met[schedule] = rates = []

        def watched(
            model: object, optimiser: torch.optim.Optimizer, *rest: object, met: list = rates
        ) -> float:
            met.append(optimiser.param_groups[0]["lr"])
            return 0.0

        monkeypatch.setattr(made, "epoch", watched)
        made.fit(np.arange(10), planted()[1][:10], 7, 0)
    assert met["constant"] == [3e-3] * 7
    assert met["cosine_restarts"] == [cosine_restarts(epoch, 3e-3) for epoch in range(7)]


def test_a_head_that_lets_nothing_through_gets_the_other_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40 seeds some have a convolution that is negative for every token of the cells; none stays so."""
    made = tuner()
    made.encoder.norm.weight.data.zero_()
    made.encoder.norm.bias.data.normal_(generator=torch.Generator().manual_seed(0))  # all tokens alike
    alive = []
    for wake in (lambda *_: None, finetune._wake):
        monkeypatch.setattr(finetune, "_wake", wake)
        positive = []
        for seed in range(40):
            torch.manual_seed(seed)
            model = made._model(np.arange(20)).eval()
            positive.append(bool((model.pooled(made.states.take(np.arange(20))) > 0).any()))
        alive.append(sum(positive))
    assert 10 < alive[0] < 30
    assert alive[1] == 40
