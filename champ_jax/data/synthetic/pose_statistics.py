"""What the motions of synthetic people say about poses: the statistics that the fit's prior is made of."""

from collections.abc import Collection

import numpy as np

from champ_jax.body.rotations import matrix_to_axis_angle
from champ_jax.data.synthetic.choreography import FPS, choreograph, draw_motif
from champ_jax.data.synthetic.poses import LIMITS, to_rotations

_EVERY = 4  # frames between two poses that count
_UP = np.array([0.0, 1.0, 0.0])


def pose_statistics(seed: int, motions: int, frames: int = 72, without: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Means, covariances, ranges and accelerations over random motions.

    A pose is 72 numbers: the direction up in the pelvis's frame (3), and the rotation vectors of joints 1..23 (69).

    Args:
      seed: The seed of the motions.
      motions: their number.
      frames: their length, at `choreography.FPS`.
      without: names of actions that none of the motions contains.

    Returns:
      `mean` (72,) and `covariance` (72, 72) of the pose; `low` and `high` (69,), the smallest and the largest component
      of rotation vectors within `poses.LIMITS`; `acceleration` (75,), the root mean square of the second derivatives of
      the root's rotation (3, rad/s^2), the pelvis's place (3, m/s^2) and the rotation vectors (69, rad/s^2).
    """
    rng = np.random.default_rng(seed)
    poses, accelerations = [], []
    while len(poses) < motions:
        motif = draw_motif(rng, frames / FPS)
        if set(motif.actions) & set(without):
            continue
        angles, root, path = choreograph(motif, frames)
        joints = matrix_to_axis_angle(to_rotations(angles)[:, 1:]).reshape(frames, -1)
        up = np.einsum("tba,b->ta", root, _UP)
        poses.append(np.concatenate([up, joints], axis=1)[::_EVERY])
        turns = matrix_to_axis_angle(np.einsum("tab,tcb->tac", root[1:], root[:-1]))
        place = path[:, [0, 2, 1]]
        # Near pi a rotation vector may change its sign between two frames: such a step is no movement.
        steps = np.diff(joints, axis=0)
        steps = np.where(np.abs(steps) < 1.5, steps, 0)
        accelerations.append(
            np.concatenate([np.diff(turns, axis=0), np.diff(place, 2, axis=0), np.diff(steps, axis=0)], axis=1) * FPS**2
        )
    pose = np.concatenate(poses)
    low, high = joint_ranges()
    return {
        "mean": pose.mean(axis=0).astype(np.float32),
        "covariance": np.cov(pose.T).astype(np.float32),
        "low": low.astype(np.float32),
        "high": high.astype(np.float32),
        "acceleration": np.sqrt((np.concatenate(accelerations) ** 2).mean(axis=0)).astype(np.float32),
    }


def joint_ranges(samples: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """The smallest box of rotation vectors that holds the joints' limits, two arrays (69,), from random angles."""
    rng = np.random.default_rng(0)
    low, high = LIMITS[1:, :, 0], LIMITS[1:, :, 1]
    share = np.clip(rng.uniform(-0.1, 1.1, (samples, *low.shape)), 0, 1)
    angles = low + share * (high - low)
    vectors = matrix_to_axis_angle(to_rotations(angles)).reshape(samples, -1)
    return np.quantile(vectors, 0.002, axis=0), np.quantile(vectors, 0.998, axis=0)
