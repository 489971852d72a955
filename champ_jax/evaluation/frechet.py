"""The Frechet distance between two sets of features, exact for any number of samples, from states that merge.

A set is kept as its count, its mean and a factor R of its scatter matrix (R^T R = sum of centered outer products) with
at most as many rows as features. Merging stacks factors and, when they grow too tall, takes a QR decomposition: the
memory is bounded, nothing is squared, and the covariance of fewer samples than features stays exactly singular, where
the usual matrix square root fails or loses digits.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Gaussian:
    """The first two moments of a set of feature vectors. Empty, from_features, merge, compute with `frechet_distance`.

    Attributes:
      count: number of vectors n.
      mean: (d,) float64.
      factor: (r, d) float64, r <= 2 d, with factor.T @ factor = sum (x - mean)(x - mean)^T.
    """

    count: int
    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def empty(cls, dimension: int) -> "Gaussian":
        return cls(0, np.zeros(dimension), np.zeros((0, dimension)))

    @classmethod
    def from_features(cls, features: np.ndarray) -> "Gaussian":
        """From vectors (n, d)."""
        features = np.asarray(features, np.float64)
        if not len(features):
            return cls.empty(features.shape[1])
        mean = features.mean(0)
        return cls(len(features), mean, _shorten(features - mean))

    def merge(self, other: "Gaussian") -> "Gaussian":
        """The moments of both sets together."""
        if not self.count or not other.count:
            return other if not self.count else self
        count = self.count + other.count
        step = other.mean - self.mean
        mean = self.mean + step * (other.count / count)
        between = step * np.sqrt(self.count * other.count / count)
        return Gaussian(count, mean, _shorten(np.concatenate([self.factor, other.factor, between[None]])))

    @property
    def dimension(self) -> int:
        return len(self.mean)

    def covariance(self) -> np.ndarray:
        """(d, d), with n - 1."""
        return self.factor.T @ self.factor / (self.count - 1)


def _shorten(factor: np.ndarray) -> np.ndarray:
    """The same scatter in at most 2 d rows (d after a decomposition, so that decompositions are rare)."""
    rows, dimension = factor.shape
    return np.linalg.qr(factor, mode="r") if rows > 2 * dimension else factor


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mu_a - mu_b|^2 + tr S_a + tr S_b - 2 tr sqrt(S_a S_b), covariances with n - 1.

    With S = R^T R / (n - 1) the last trace is the sum of the singular values of R_a R_b^T / sqrt((n_a - 1)(n_b - 1)).

    Raises:
      ValueError: a set has fewer than two vectors, so no covariance.
    """
    if min(a.count, b.count) < 2:
        raise ValueError(f"a covariance needs two samples, the sets have {a.count} and {b.count}")
    product = a.factor @ b.factor.T
    cross = np.linalg.svd(product, compute_uv=False).sum() / np.sqrt((a.count - 1) * (b.count - 1))
    traces = (a.factor**2).sum() / (a.count - 1) + (b.factor**2).sum() / (b.count - 1)
    distance = ((a.mean - b.mean) ** 2).sum() + traces - 2 * cross
    return max(float(distance), 0.0)  # identical sets leave rounding of either sign
