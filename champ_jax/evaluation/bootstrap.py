"""Bootstrap intervals of means over units that are drawn together, as all frames of a video or a person are."""

import numpy as np

_DRAWN_TOGETHER = 1000  # resamples; bounds the memory


def ratio_interval(
    totals: np.ndarray, weights: np.ndarray, resamples: int, seed: int = 0
) -> tuple[float, float] | None:
    """The 95 % percentile interval of sum(totals) / sum(weights) when units are drawn with replacement (Efron 1979).

    Args:
      totals: (U,) the sum of each unit's values.
      weights: (U,) how many values those are; units without any are left out.
      resamples: how many draws of U units.
      seed: The seed of the draws.

    Returns:
      The 2.5 and the 97.5 percentile, or None with fewer than two units or no resamples.
    """
    counted = np.asarray(weights) > 0
    totals, weights = np.asarray(totals)[counted], np.asarray(weights)[counted]
    if len(totals) < 2 or resamples < 1:
        return None
    rng = np.random.default_rng(seed)
    means = []
    for first in range(0, resamples, _DRAWN_TOGETHER):
        drawn = rng.integers(len(totals), size=(min(resamples - first, _DRAWN_TOGETHER), len(totals)))
        means.append(totals[drawn].sum(1) / weights[drawn].sum(1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
