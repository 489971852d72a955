"""The Frechet distance against exact values, scipy, and itself in parts."""

import json

import numpy as np
import pytest
import scipy.linalg
from evaluation_weights import GOLDEN, normal
from hypothesis import given, settings
from hypothesis import strategies as st

from champ_jax.evaluation.frechet import Gaussian, frechet_distance

EXPECTED = json.loads((GOLDEN / "frechet.json").read_text())


def synthetic(name):
    def r(key, *shape):
        return normal(f"frechet_{key}", shape)

    return {
        "synthetic_full_rank": lambda: (r("a1", 200, 64) * np.linspace(0.5, 2, 64), r("a2", 180, 64) + 0.3),
        "synthetic_n8_d400": lambda: (r("b1", 8, 400), 1.5 * r("b2", 8, 400) + 0.1),
        "synthetic_n2_d400": lambda: (r("c1", 2, 400), r("c2", 2, 400)),
        "synthetic_n100_d128": lambda: (r("e1", 100, 128), r("e2", 110, 128) + 0.2),
        "synthetic_n300_d256": lambda: (r("f1", 300, 256), r("f2", 310, 256) + 0.2),
    }[name]()


def distance(a, b):
    return frechet_distance(Gaussian.from_features(a), Gaussian.from_features(b))


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("synthetic") and "same" not in name])
def test_exact_values_with_many_and_with_few_samples(name):
    assert distance(*synthetic(name)) == pytest.approx(EXPECTED[name]["exact_low_rank_float64"], rel=1e-10)


def test_recorded_features():
    outputs = np.load(GOLDEN / "outputs.npz")
    pairs = {
        "fvd_videos": ("fvd_videos_gen", "fvd_videos_gt"),
        "pytorch_fid_dims64": ("fid64_activations_gen", "fid64_activations_gt"),
        "pytorch_fid_2048": ("fid_features_gen", "fid_features_gt"),
    }
    for name, (a, b) in pairs.items():
        exact = EXPECTED[name]["exact_low_rank_float64"]
        assert distance(outputs[a], outputs[b]) == pytest.approx(exact, rel=1e-9), name


def test_identical_sets_are_at_zero():
    features = normal("frechet_d1", (8, 400))
    assert distance(features, features) == pytest.approx(0, abs=1e-9)


def test_agrees_with_scipys_matrix_square_root():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((90, 20)) @ rng.standard_normal((20, 20)), rng.standard_normal((70, 20)) + 1
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_singular_covariances():
    """Diagonal covariances with zeros in one set or in both have the distance in closed form."""
    signs = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], float)  # orthogonal columns
    a, b = signs[:, 1:] * [2.0, 0.0, 0.0], signs[:, 1:] * [3.0, 1.0, 0.0] + 0.5
    variance = 4 / 3  # of a column of signs, n - 1
    expected = 3 * 0.5**2 + variance * ((2 - 3) ** 2 + (0 - 1) ** 2)
    assert distance(a, b) == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 9), st.randoms(use_true_random=False))
def test_merging_in_any_order_gives_the_moments_of_all(sizes, dimension, random):
    rng = np.random.default_rng(sum(sizes))
    parts = [rng.standard_normal((size, dimension)) * 3 + 100 for size in sizes]
    states = [Gaussian.from_features(part) for part in parts]
    random.shuffle(states)
    merged = Gaussian.empty(dimension)
    for state in states:
        merged = merged.merge(state)
    everything = np.concatenate(parts)
    assert merged.count == len(everything)
    assert len(merged.factor) <= 2 * dimension
    if len(everything) > 1:
        np.testing.assert_allclose(merged.mean, everything.mean(0), rtol=1e-12)
        expected = np.cov(everything, rowvar=False).reshape(dimension, dimension)
        np.testing.assert_allclose(merged.covariance(), expected, rtol=1e-9, atol=1e-9)


def test_one_sample_is_refused():
    with pytest.raises(ValueError, match="two samples"):
        distance(np.zeros((1, 4)), np.zeros((5, 4)))
