import numpy as np
from scipy import sparse

from celllm.graph.features import factorised, node_features, spectral
from celllm.graph.network import GeneNetwork

SIZE = 16


def cosines(rows: np.ndarray) -> np.ndarray:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit @ unit.T


def group_margin(rows: np.ndarray) -> float:
    """Mean cosine within the planted groups minus between them."""
    same = np.equal.outer(np.arange(150) // 25, np.arange(150) // 25)
    near = cosines(rows[:150])
    return float(near[same & ~np.eye(150, dtype=bool)].mean() - near[~same].mean())


def test_factors_of_a_matrix_of_known_spectrum() -> None:
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((60, 60)))
    values = np.concatenate([[5.0, 3.0, 2.0, 1.0], np.linspace(0.1, -0.1, 55), [-4.0]])
    matrix = sparse.csr_array((basis * values) @ basis.T)
    leading = (basis[:, :4] * values[:4]) @ basis[:, :4].T
    factors = factorised(matrix, 4, seed=1)
    assert factors.shape == (60, 4)
    np.testing.assert_allclose(factors @ factors.T, leading, atol=1e-4)


def test_more_dimensions_than_positive_eigenvalues_are_zero(planted: GeneNetwork) -> None:
    factors = spectral(planted, 200, seed=0)
    assert factors.shape == (160, 200)
    assert np.isfinite(factors).all()
    assert not factors[:, 160:].any()


def test_groups_show_in_the_spectrum_and_lonely_genes_are_zero(planted: GeneNetwork) -> None:
    rows = spectral(planted, SIZE, 0)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows[150:], 0, atol=1e-6)
    assert group_margin(rows) > 0.5


def test_features_have_unit_scale_and_tell_all_genes_apart(planted: GeneNetwork) -> None:
    rows = node_features(planted, SIZE, identity=0.2, seed=0)
    np.testing.assert_allclose((rows**2).mean(axis=1), 1, rtol=1e-5)
    near = cosines(rows) - np.eye(160)
    assert near.max() < 0.999
    assert group_margin(rows) > 0.4


def test_identity_separates_genes_with_the_same_neighbours() -> None:
    """The leaves of a star: the spectrum knows no difference between them."""
    ends = np.zeros(20, np.int32), np.arange(1, 21, dtype=np.int32)
    star = GeneNetwork(*ends, np.full(20, 1000, np.int32), 21, "")
    assert cosines(node_features(star, SIZE, identity=0.0, seed=0))[1, 2] > 0.9999
    assert cosines(node_features(star, SIZE, identity=0.3, seed=0))[1, 2] < 0.95


def test_same_seed_same_features(planted: GeneNetwork) -> None:
    one, two, other = (node_features(planted, SIZE, 0.1, seed) for seed in (3, 3, 4))
    assert (one == two).all()
    assert not np.allclose(one, other)
