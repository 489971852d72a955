"""What is known of poses before anything is seen: a Gaussian over poses, joint ranges, and accelerations.

The numbers come from the motions of synthetic people (`tools/build_pose_prior.py`) and ship with the package.
"""

import dataclasses
from collections.abc import Mapping
from importlib import resources

import numpy as np

from champ_jax.body.fields import Field, read_fields
from champ_jax.common.arrays import open_npz
from champ_jax.common.ranges import Integer

NUM_POSE = 72
"""A pose in the prior: the direction up in the pelvis's frame (3), and the rotation vectors of joints 1..23 (69)."""

_WIDER = 3.0  # people move in more ways than 14 actions show: what is seen decides, the prior fills in what is not
_FLOORS = np.concatenate([[0.15, 0.06, 0.15], np.full(69, 0.06)])  # nothing is known better than this
# Root rotation (rad/s^2), pelvis (m/s^2), joints (rad/s^2); as numbers, half of what real movement has is beyond.
_LEAST_ACCELERATION = np.concatenate([np.full(3, 4.0), np.full(3, 2.0), np.full(69, 4.0)])

FIELDS = {
    "mean": Field((NUM_POSE,), np.float64),
    "covariance": Field((NUM_POSE, NUM_POSE), np.float64),
    "low": Field((69,), np.float64),
    "high": Field((69,), np.float64),
    "acceleration": Field((75,), np.float64),
    "landmarks": Field((116, "near"), np.int64, Integer(minimum=0)),
    "landmark_weights": Field((116, "near"), np.float64),
}
"""What pose_prior.npz holds; the landmarks are the points 18..133 of the 134 on the open body."""


@dataclasses.dataclass(frozen=True)
class PosePrior:
    """Arrays are float64.

    Attributes:
      mean: (72,) the mean pose.
      factor: (72, 72) whose product with a pose's difference from the mean has the identity as covariance.
      low: (69,) the smallest plausible components of rotation vectors.
      high: (69,) the largest ones.
      acceleration: (75,) how strongly the root's rotation, the pelvis and the joints accelerate, per s^2.
    """

    mean: np.ndarray
    factor: np.ndarray
    low: np.ndarray
    high: np.ndarray
    acceleration: np.ndarray

    @classmethod
    def of(cls, statistics: Mapping[str, np.ndarray]) -> "PosePrior":
        """The prior of `data.synthetic.pose_statistics`'s numbers, widened."""
        covariance = np.asarray(statistics["covariance"], np.float64) * _WIDER**2 + np.diag(_FLOORS**2)
        factor = np.linalg.cholesky(np.linalg.inv(covariance)).T
        return cls(
            mean=np.asarray(statistics["mean"], np.float64),
            factor=factor,
            low=np.asarray(statistics["low"], np.float64),
            high=np.asarray(statistics["high"], np.float64),
            acceleration=np.maximum(np.asarray(statistics["acceleration"], np.float64), _LEAST_ACCELERATION),
        )


def read_shipped() -> dict[str, np.ndarray]:
    """The arrays of the shipped pose_prior.npz, as `FIELDS` says."""
    shipped = resources.files("champ_jax") / "assets/fitting/pose_prior.npz"
    with resources.as_file(shipped) as path, open_npz(path) as (names, read):
        return read_fields(str(path), {name: read(name) for name in names}, FIELDS)


def load_prior() -> PosePrior:
    """The shipped prior."""
    return PosePrior.of(read_shipped())
