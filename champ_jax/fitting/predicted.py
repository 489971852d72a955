"""Poses that a network saw in single pictures: one more start of the fit, and a weak term in what it minimizes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from champ_jax.body.motion import NUM_BETAS
from champ_jax.body.rotations import matrix_to_axis_angle
from champ_jax.fitting.kinematics import JOINTS, NUM_STATE, TRANSLATION

SIGMA = 0.25
"""By how much a network is taken to be off: rad, in each component of a joint's rotation vector and of the root's turn.
Weak: twelve points seen to 3 px say more of every limb."""

BETA_SIGMA = 1.0
"""The same of each beta, the whole clip's."""

_ROBUST = 9.0  # (3 sigma)^2: a joint that is further off loses its pull
_NEAREST, _FARTHEST = 0.5, 1000.0  # meters; bodies elsewhere are not believed

AnyArray = Any  # NumPy's outside of compiled programs, JAX's inside


@dataclasses.dataclass(frozen=True)
class PredictedPoses:
    """What a network saw, frame by frame, in the camera of the whole picture. Arrays are NumPy.

    Attributes:
      rotations: (T, 24, 3, 3) as a `Motion` has them.
      translation: (T, 3) meters.
      known: (T,) bool; False where the network saw nobody and the values mean nothing.
      betas: (10,) of the body that is fitted; None where the network's shapes are another body's.
    """

    rotations: np.ndarray
    translation: np.ndarray
    known: np.ndarray
    betas: np.ndarray | None = None

    def starts(self) -> np.ndarray:
        """(T, 75) state vectors to start from; what is not known stands 4 m away in the rest pose."""
        usable = self.usable()
        vectors = np.zeros((len(self.known), NUM_STATE), np.float32)
        vectors[:, TRANSLATION] = np.where(usable[:, None], self.translation, [0, 0, 4])
        vectors[:, JOINTS] = self._joint_vectors(usable)
        return vectors

    def roots(self) -> np.ndarray:
        """(T, 3, 3) the roots' rotations; what is not known is the identity."""
        return np.where(self.usable()[:, None, None], self.rotations[:, 0], np.eye(3)).astype(np.float32)

    def target(self) -> "PoseTarget":
        """What the fit is pulled to."""
        usable = self.usable()
        precision = np.where(usable, np.float32(1 / SIGMA**2), np.float32(0))
        return PoseTarget(self.roots(), self._joint_vectors(usable), precision)

    def usable(self) -> np.ndarray:
        """(T,) bool: known, finite, and at a distance that can be."""
        finite = np.isfinite(self.rotations).all(axis=(1, 2, 3)) & np.isfinite(self.translation).all(axis=1)
        depth = np.where(finite, self.translation[:, 2], 0)
        return self.known & (depth > _NEAREST) & (depth < _FARTHEST)

    def shape(self) -> tuple[np.ndarray, float]:
        """The betas (10,), and the precision of each; 0 where the network's shapes are another body's."""
        if self.betas is None or not np.isfinite(self.betas).all() or not self.usable().any():
            return np.zeros(NUM_BETAS), 0.0
        return np.asarray(self.betas, np.float64), 1 / BETA_SIGMA**2

    def _joint_vectors(self, usable: np.ndarray) -> np.ndarray:
        rotations = np.where(usable[:, None, None, None], self.rotations[:, 1:], np.eye(3))
        return matrix_to_axis_angle(rotations).reshape(len(usable), -1).astype(np.float32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PoseTarget:
    """Poses that T frames are pulled to. Arrays are float32.

    Attributes:
      root: (T, 3, 3) the roots' rotations.
      vectors: (T, 69) the rotation vectors of joints 1..23.
      precision: (T,) 1/rad^2 of every component; 0: not known.
    """

    root: AnyArray
    vectors: AnyArray
    precision: AnyArray


def target_costs(target: PoseTarget, vectors: jax.Array, root: jax.Array) -> jax.Array:
    """(T,) Cauchy losses over the joints and the root.

    Args:
      vectors: (T, 69) rotation vectors of joints 1..23.
      root: (T, 3, 3).
    """
    return _ROBUST * jnp.sum(jnp.log1p(_squares(target, vectors, root) / _ROBUST), axis=1)


def target_terms(target: PoseTarget, vectors: jax.Array, root: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(T, 72) the Gauss-Newton Hessian's diagonal and (T, 72) half the gradient, by an increment of the root's rotation
    (from the left, at 0) and by the rotation vectors.

    The root's residual is (root - target) / sqrt(2), whose length is 2 sin(angle / 2); the Hessian of its square is the
    identity.
    """
    square = _squares(target, vectors, root)
    weight = target.precision[:, None] / (1 + square / _ROBUST)
    diagonal = jnp.repeat(weight, 3, axis=1)
    turn = -jnp.sum(jnp.cross(root, target.root, axis=1), axis=2) / 2
    return diagonal, diagonal * jnp.concatenate([turn, vectors - target.vectors], axis=1)


def _squares(target: PoseTarget, vectors: jax.Array, root: jax.Array) -> jax.Array:
    """(T, 24) squared distances in units of sigma, the root's first."""
    away = jnp.sum((vectors - target.vectors).reshape(len(vectors), -1, 3) ** 2, axis=-1)
    turned = jnp.sum((root - target.root) ** 2, axis=(1, 2)) / 2
    return jnp.concatenate([turned[:, None], away], axis=1) * target.precision[:, None]
