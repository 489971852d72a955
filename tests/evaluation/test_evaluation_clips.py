"""Windows of a streamed video: every one once, in order, however the frames arrive and the work is split."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from champ_jax.evaluation.clips import ClipFeatures
from champ_jax.evaluation.devices import pad_batch
from champ_jax.evaluation.evaluator import _Features
from champ_jax.evaluation.frechet import Gaussian


def ends(chunks):
    """Stands for a network: the first and last frame number of each window of (D, K + 15, 1, 1, 1)."""
    numbers = chunks[..., 0, 0, 0]
    windows = numbers.shape[1] - 15
    return np.concatenate([[(row[k], row[k + 15]) for k in range(windows)] for row in numbers])


@settings(deadline=None)
@given(st.integers(1, 90), st.integers(1, 4), st.integers(1, 5), st.integers(1, 30))
def test_every_window_once(frames, devices, windows, portion):
    video = np.arange(frames, dtype=np.float32).reshape(-1, 1, 1, 1)
    clips = ClipFeatures(ends, SimpleNamespace(count=devices), windows)
    found = [f for start in range(0, frames, portion) for f in clips.add(video[start : start + portion])]
    found += clips.finish()
    expected = [[k, k + 15] for k in range(frames - 15)]
    assert [row for part in found for row in part.tolist()] == expected


def test_features_of_long_videos_are_merged_in_portions():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((1300, 3))
    features = _Features()
    for start in range(0, 1300, 100):
        features.add(rows[start : start + 100])
    found, expected = features.gaussian(), Gaussian.from_features(rows)
    assert found.count == 1300
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(found.covariance(), expected.covariance(), rtol=1e-12)


@pytest.mark.parametrize(("count", "size", "expected"), [(2, 4, [0, 1, 1, 1]), (3, 3, [0, 1, 2]), (1, 2, [0, 0])])
def test_batches_are_filled_with_their_last_item(count, size, expected):
    assert pad_batch(np.arange(count), size).tolist() == expected
