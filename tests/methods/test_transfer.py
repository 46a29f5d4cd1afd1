import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.metrics import roc_auc_score

from celllm.errors import UserError
from celllm.methods import transfer

N_GENES = 200


def cells(
    n: int, types: list[int], seed: int, effect: float = 0.3, dim: int = 24, seen: int = 8
) -> tuple[NDArray, csr_matrix, NDArray]:
    """Embeddings, counts and labels of cells of eight types, each with 40 % of the genes raised or lowered.

    The embedding is a linear map of the logarithm of a cell's counts; of what marks types from ``seen`` on it
    has nothing, as an encoder that has not met them.
    """
    fixed = np.random.default_rng(0)
    marks = fixed.normal(size=(8, N_GENES)) * (fixed.random((8, N_GENES)) < 0.4)
    base = fixed.normal(size=N_GENES) * 0.5
    subspace = np.linalg.qr(np.c_[marks[:seen].T, fixed.normal(size=(N_GENES, dim - seen))])[0]
    rng = np.random.default_rng(seed)
    number = rng.choice(types, size=n)
    depth = rng.lognormal(0, 0.3, size=(n, 1))
    counts = rng.poisson(np.exp(base + effect * marks[number]) * depth)
    x = np.log1p(100 * counts / counts.sum(1, keepdims=True)) @ subspace
    return x, csr_matrix(counts.astype(np.float32)), number.astype(str)


KNOWN = [0, 1, 2, 3, 4, 5]


def test_the_confidence_is_the_share_that_is_right() -> None:
    """Where one cell in eleven is of a type that the reference lacks; without these it is a little low."""
    fitted = transfer.fit(*cells(1200, KNOWN, 1))
    (x, counts, labels), other = cells(4000, KNOWN, 2), cells(400, [6], 3)
    found, confidence = fitted.predict(
        np.vstack([x, other[0]]), csr_matrix(np.vstack([counts.todense(), other[1].todense()]))
    )
    right = found == np.concatenate([labels, other[2]])
    assert 0.7 < right.mean() < 0.9
    assert fitted.held_out_accuracy == pytest.approx(right[:4000].mean(), abs=0.03)
    assert confidence.mean() == pytest.approx(right.mean(), abs=0.04)
    assert 0 <= right[:4000].mean() - confidence[:4000].mean() < 0.08
    assert 0 <= confidence.min() <= confidence.max() <= 1
    checked = 0
    for low in np.arange(0, 1, 0.1):
        chosen = (confidence >= low) & (confidence < low + 0.1)
        if chosen.sum() > 150:
            checked += 1
            assert right[chosen].mean() == pytest.approx(confidence[chosen].mean(), abs=0.12)
    assert checked >= 5


@pytest.mark.parametrize("missing", [6, 7])
@pytest.mark.parametrize("seen", [8, 6], ids=["encoder knows the type", "encoder is blind to it"])
def test_cells_of_no_label_get_a_low_confidence(missing: int, seen: int) -> None:
    fitted = transfer.fit(*cells(1200, KNOWN, 1, effect=0.6, seen=seen))
    x, counts, labels = cells(1500, [*KNOWN, missing], 2, effect=0.6, seen=seen)
    found, confidence = fitted.predict(x, counts)
    unknown = labels == str(missing)
    assert (found == labels)[~unknown].mean() > 0.95
    assert roc_auc_score(~unknown, confidence) > 0.95
    assert np.median(confidence[unknown]) < 0.2
    assert np.median(confidence[~unknown]) > 0.9


def test_of_two_labels_none_can_be_left_out_and_distance_decides() -> None:
    fitted = transfer.fit(*cells(800, [0, 1], 1, effect=1.0))
    x, counts, labels = cells(600, [0, 1, 6], 2, effect=1.0)
    _, confidence = fitted.predict(x, counts)
    unknown = labels == "6"
    assert np.median(confidence[unknown]) < 0.2 < 0.9 < np.median(confidence[~unknown])


def test_few_cells_perfect_classes_and_cells_without_counts_stay_finite() -> None:
    x = np.vstack([np.random.default_rng(0).normal(m, 0.1, size=(3, 4)) for m in (0, 5)])
    counts = csr_matrix(np.array([[9, 1, 0, 0]] * 3 + [[0, 0, 1, 9]] * 2 + [[0, 0, 0, 0]]))
    fitted = transfer.fit(x, counts, ["a"] * 3 + ["b"] * 3)
    found, confidence = fitted.predict(x, counts)
    assert found.tolist() == ["a"] * 3 + ["b"] * 3
    assert np.isfinite(confidence).all()
    assert confidence.max() < 1


def test_a_large_reference_is_thinned_and_rare_labels_stay() -> None:
    labels = np.repeat(["a", "b", "c"], [900, 70, 30])
    rows = transfer.thinned(labels, most=200)
    of = {name: int((labels[rows] == name).sum()) for name in "abc"}
    assert 140 < of["a"] < 200 and of["b"] >= 50 and of["c"] == 30
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(transfer.thinned(labels), np.arange(1000))


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["a", "a", "a"], r"1 label\(s\) \(a\)"), (["a", "a", "b"], "a single cell of b")],
)
def test_too_little_to_learn_from_is_refused(labels: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        transfer.fit(np.eye(3), csr_matrix(np.eye(3)), labels)
