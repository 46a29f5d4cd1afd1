import numpy as np
import pytest
from numpy.typing import NDArray

from celllm.errors import UserError
from celllm.methods import transfer


def clouds(n: int, of: int, seed: int, dim: int = 64, spread: float = 0.35) -> tuple[NDArray, NDArray]:
    """Cells around the first ``of`` of seven centres."""
    centres = np.random.default_rng(0).normal(size=(7, dim)) * spread
    rng = np.random.default_rng(seed)
    number = rng.integers(of, size=n)
    return centres[number] + rng.normal(size=(n, dim)), number.astype(str)


def test_the_confidence_is_the_share_that_is_right() -> None:
    fitted = transfer.fit(*clouds(1500, 6, 1))
    x, labels = clouds(6000, 6, 2)
    found, confidence = fitted.predict(x)
    right = found == labels
    assert 0.8 < right.mean() < 0.97
    assert fitted.held_out_accuracy == pytest.approx(right.mean(), abs=0.03)
    assert 0 <= confidence.min() <= confidence.max() <= 1
    for low in np.arange(0.3, 1, 0.1):
        chosen = (confidence >= low) & (confidence < low + 0.1)
        if chosen.sum() > 200:
            assert right[chosen].mean() == pytest.approx(confidence[chosen].mean(), abs=0.1)


def test_cells_of_no_label_get_a_low_confidence() -> None:
    fitted = transfer.fit(*clouds(1500, 6, 1, spread=1.0))
    x, labels = clouds(2000, 7, 2, spread=1.0)
    found, confidence = fitted.predict(x)
    unknown = labels == "6"
    assert (found == labels)[~unknown].mean() > 0.99
    assert np.median(confidence[unknown]) < 0.1
    assert np.median(confidence[~unknown]) > 0.95


def test_a_far_cell_is_not_trusted_however_sure_the_classifier_is() -> None:
    x, labels = clouds(600, 2, 1, spread=1.0)
    fitted = transfer.fit(x, labels)
    far = x[labels == "0"].mean(0) + 10 * (x[labels == "0"].mean(0) - x[labels == "1"].mean(0))
    assert fitted.predict(far[None])[1] < 0.05


def test_few_cells_and_perfect_classes_stay_finite() -> None:
    x = np.vstack([np.random.default_rng(0).normal(m, 0.1, size=(3, 4)) for m in (0, 5)])
    fitted = transfer.fit(x, ["a"] * 3 + ["b"] * 3)
    found, confidence = fitted.predict(x)
    assert found.tolist() == ["a"] * 3 + ["b"] * 3
    assert np.isfinite(confidence).all()
    assert confidence.max() < 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["a", "a", "a"], r"1 label\(s\) \(a\)"), (["a", "a", "b"], "a single cell of b")],
)
def test_too_little_to_learn_from_is_refused(labels: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        transfer.fit(np.eye(3), labels)
