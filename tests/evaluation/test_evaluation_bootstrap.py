"""Bootstrap intervals against SciPy's, and those of differences, which pair the people."""

import numpy as np
import pytest
from scipy import stats

from champ_jax.evaluation.bootstrap import ratio_interval
from champ_jax.evaluation.held_out import Comparison, person_of
from champ_jax.evaluation.regions import Values

PEOPLE = 12


@pytest.fixture
def sums():
    rng = np.random.default_rng(0)
    weights = rng.integers(10, 40, PEOPLE).astype(float)
    return weights * rng.normal(25, 3, PEOPLE), weights


def test_the_interval_is_scipys(sums):
    totals, weights = sums
    theirs = stats.bootstrap(
        (totals, weights), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True, vectorized=True,
        method="percentile", n_resamples=20_000, rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    np.testing.assert_allclose(ratio_interval(totals, weights, 20_000), theirs, atol=0.05)


def test_people_without_values_are_left_out(sums):
    totals, weights = sums
    more = ratio_interval(np.append(totals, 0), np.append(weights, 0), 500)
    assert more == ratio_interval(totals, weights, 500)


@pytest.mark.parametrize(("count", "resamples"), [(0, 100), (1, 100), (5, 0)])
def test_too_little_gives_no_interval(sums, count, resamples):
    totals, weights = sums
    assert ratio_interval(totals[:count], weights[:count], resamples) is None


def test_a_difference_is_certain_where_the_levels_are_not():
    """People differ by ten, the two systems by one in everybody."""
    rng, comparison = np.random.default_rng(0), Comparison()
    for person in range(PEOPLE):
        level = rng.normal(20, 10) + rng.normal(0, 0.1, 5)
        comparison.add("one", f"p{person:05}_m00000", {"psnr": Values.of(level + 1)})
        comparison.add("other", f"p{person:05}_m00000", {"psnr": Values.of(level)})
    _, (low, high) = comparison.mean("one", "psnr", 1000)
    value, (lower, higher) = comparison.difference("one", "other", "psnr", 1000)
    assert high - low > 4
    assert value == pytest.approx(1)
    assert higher - lower < 1e-9


def test_systems_that_were_measured_on_other_frames_have_no_difference():
    comparison = Comparison()
    comparison.add("one", "a", {"psnr": Values.of(np.array([1.0, 2.0]))})
    comparison.add("other", "a", {"psnr": Values.of(np.array([1.0, np.nan]))})
    assert comparison.difference("one", "other", "psnr") is None
    assert comparison.difference("one", "third", "psnr") is None


def test_videos_of_a_person_are_drawn_together():
    assert person_of("p00003_m00007") == person_of("p00003_m00001") == "p00003"
    assert person_of("walk_m1") == "walk_m1"
    comparison = Comparison()
    for video in ("p00000_m00000", "p00000_m00001"):
        comparison.add("one", video, {"psnr": Values.of(np.array([1.0, 3.0]))})
    assert comparison.mean("one", "psnr", 100) == (2.0, None)  # one person gives no interval
