"""Zero-phase smoothing of a motion on SO(3) and in space."""

import dataclasses
import math

import numpy as np

from champ_jax.body.interpolation import find_runs
from champ_jax.body.motion import Motion
from champ_jax.body.rotations import axis_angle_to_matrix, matrix_to_axis_angle, nearest_rotation
from champ_jax.common.ranges import Number

VISIBLE = 0.3

STRENGTH = Number(minimum=0, maximum=50)
"""Standard deviations in frames that a motion can be smoothed by; the time it takes grows with the square."""


def smooth(motion: Motion, strength: float) -> Motion:
    """Smooths rotations, translation and key points with a Gaussian of standard deviation `strength` frames.

    Repeated symmetric steps between neighboring frames, R <- R exp(w log(R^T R_before) + w log(R^T R_after)), whose
    variances add up: a heat flow on SO(3) with no delay, exact however far the whole motion turns as long as it turns
    less than half round between two frames. A motion of constant velocity, and the first and last frame, do not
    change. Runs of valid frames are smoothed apart; invalid frames stay as they are. Rotations come out as rotations
    (nearest in the Frobenius norm) even if they went in rounded. Key points smooth among the neighbors that are
    visible (score above 0.3); scores stay.

    Raises:
      InputError: `strength` is outside of `STRENGTH`.
    """
    STRENGTH.check("smooth", strength)
    if strength == 0:
        return motion
    # A step with weight w on each neighbor has variance 2 w; w <= 1/4 keeps it a low pass at every frequency.
    steps = max(1, math.ceil(2 * strength**2))
    weight = strength**2 / (2 * steps)
    rotations = motion.rotations.astype(np.float64)
    translation = motion.translation.astype(np.float64)
    keypoints = None if motion.keypoints is None else motion.keypoints.astype(np.float64)
    for first, last in find_runs(motion.valid):
        run = slice(first, last + 1)
        rotations[run] = _flow_rotations(nearest_rotation(rotations[run]), steps, weight)
        translation[run] = _flow_points(translation[run], np.ones(last - first + 1, bool), steps, weight)
        if keypoints is not None:
            visible = keypoints[run][..., 2] > VISIBLE
            keypoints[run][..., :2] = _flow_points(keypoints[run][..., :2], visible, steps, weight)
    return dataclasses.replace(
        motion,
        rotations=rotations.astype(np.float32),
        translation=translation.astype(np.float32),
        keypoints=None if keypoints is None else keypoints.astype(np.float32),
    )


def _flow_rotations(rotations: np.ndarray, steps: int, weight: float) -> np.ndarray:
    for _ in range(steps):
        # log(R_t^T R_{t+1}) also gives the backward step: log(R_{t+1}^T R_t) is its negative.
        forward = matrix_to_axis_angle(np.swapaxes(rotations[:-1], -1, -2) @ rotations[1:])
        push = np.zeros((*rotations.shape[:-2], 3))
        push[1:-1] = weight * (forward[1:] - forward[:-1])
        rotations = rotations @ axis_angle_to_matrix(push)
    return rotations


def _flow_points(points: np.ndarray, visible: np.ndarray, steps: int, weight: float) -> np.ndarray:
    """Points (T, ..., C) with visibility (T, ...): a step moves a point only between two visible neighbors."""
    inner = weight * (visible[:-2] & visible[1:-1] & visible[2:])[..., None]
    for _ in range(steps):
        points = points.copy()
        points[1:-1] += inner * (points[:-2] - 2 * points[1:-1] + points[2:])
    return points
