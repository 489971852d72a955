"""Where a posed body touches the ground, and how large it is."""

import jax
import numpy as np

from champ_jax.body.motion import Motion
from champ_jax.body.smpl import BodyModel, smpl

_CHUNK = 32


@jax.jit
def _extent_and_pelvis(body: BodyModel, betas: jax.Array, rotations: jax.Array) -> tuple[jax.Array, jax.Array]:
    vertices, joints = smpl(body, betas, rotations)
    return vertices[..., 1].max(axis=-1), joints[..., 0, :]


def lowest_points(body: BodyModel, motion: Motion) -> np.ndarray:
    """(T,) the camera-frame y of each frame's lowest vertex (y points down) relative to the pelvis joint, meters.

    The body's space is not checked: poses mean the same on every body.
    """
    lows = []
    for start in range(0, len(motion), _CHUNK):
        rotations = motion.rotations[start : start + _CHUNK]
        padding = np.broadcast_to(np.eye(3, dtype=np.float32), (_CHUNK - len(rotations), 24, 3, 3))
        low, pelvis = _extent_and_pelvis(body, motion.betas, np.concatenate([rotations, padding]))
        lows.append(np.asarray(low - pelvis[..., 1])[: len(rotations)])
    return np.concatenate(lows)


def rest_pelvis(body: BodyModel, betas: np.ndarray) -> np.ndarray:
    """(3,) the pelvis joint of the rest shape: a pelvis in the camera's frame is this plus the translation."""
    return np.asarray(body.J_regressor)[0] @ rest_vertices(body, betas)


def rest_height(body: BodyModel, betas: np.ndarray) -> float:
    """How tall the body stands in its rest pose, meters."""
    return float(np.ptp(rest_vertices(body, betas)[:, 1]))


def rest_vertices(body: BodyModel, betas: np.ndarray) -> np.ndarray:
    """(V, 3) the rest shape, meters."""
    return np.asarray(body.v_template) + np.asarray(body.shapedirs) @ np.asarray(betas)
