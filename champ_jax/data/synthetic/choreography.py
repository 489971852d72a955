"""Whole motions: actions one after the other, blended, with the feet on the ground."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from champ_jax.body.smpl import BodyModel, smpl
from champ_jax.data.synthetic.actions import ACTIONS, Style, draw_style, perform
from champ_jax.data.synthetic.poses import to_rotations, within_limits

FPS = 24.0
_BLEND = 0.6  # seconds from one action to the next
_SHORTEST = 1.6  # seconds of an action
_POSED_AT_ONCE = 8


@dataclasses.dataclass(frozen=True)
class Motif:
    """A sequence of actions, independent of the person who performs it.

    Attributes:
      actions: names in `ACTIONS` in order.
      styles: The styles of the actions.
      seconds: durations of the actions.
      heading: angle between the person's first direction and +z, radians.
    """

    actions: tuple[str, ...]
    styles: tuple[Style, ...]
    seconds: tuple[float, ...]
    heading: float


def draw_motif(rng: np.random.Generator, seconds: float) -> Motif:
    """A random motion that lasts at least `seconds`."""
    actions, lengths = [], []
    while sum(lengths) < seconds:
        rest = [name for name in ACTIONS if not actions or name != actions[-1]]
        actions.append(str(rng.choice(rest)))
        lengths.append(float(rng.uniform(_SHORTEST, 3.2)))
    return Motif(
        tuple(actions),
        tuple(draw_style(rng) for _ in actions),
        tuple(lengths),
        float(rng.normal(0, 0.35) if rng.uniform() < 0.88 else rng.uniform(-np.pi, np.pi)),
    )


def choreograph(motif: Motif, frames: int, reach: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joint angles and path of a motion.

    Args:
      reach: factor on the way over the ground; 0 keeps the person on the spot.

    Returns:
      angles (T, 24, 3) within the limits of `poses`, the root's at 0; root rotations (T, 3, 3) in the world; and a path
      (T, 3): x and z of the pelvis, meters, and the height of the lowest point above the ground.
    """
    seconds = np.arange(frames) / FPS
    starts = np.concatenate([[0.0], np.cumsum(motif.seconds)])[:-1]
    angles, speed, total, height = 0.0, 0.0, 0.0, 0.0
    for name, style, start, length in zip(motif.actions, motif.styles, starts, motif.seconds):
        # Every action fades in and out; shares are normalized below.
        share = np.clip((seconds - start) / _BLEND + 0.5, 0, 1) * np.clip(
            (start + length - seconds) / _BLEND + 0.5, 0, 1
        )
        if name == motif.actions[0] and start == 0:
            share = np.clip((length - seconds) / _BLEND + 0.5, 0, 1)
        share = share * share * (3 - 2 * share)
        # It begins before it is seen, while the previous one still runs.
        own, path = perform(name, np.maximum(seconds - start + (_BLEND if start else 0.0), 0), style)
        moved = np.gradient(np.concatenate([own[:, 0, 1:2], path[:, :2]], axis=1), axis=0)
        angles = angles + share[:, None, None] * own
        speed, height, total = speed + share[:, None] * moved, height + share * path[:, 2], total + share
    total = np.maximum(total, 1e-6)
    angles, speed, height = angles / total[:, None, None], speed / total[:, None], height / total
    place = np.cumsum(np.concatenate([np.zeros((1, 3)), speed[:-1]]), axis=0)
    yaw = motif.heading + place[:, 0]
    ahead = np.diff(place[:, 1], prepend=0.0)
    sideways = np.diff(place[:, 2], prepend=0.0)
    x = np.cumsum(ahead * np.sin(yaw) + sideways * np.cos(yaw))
    z = np.cumsum(ahead * np.cos(yaw) - sideways * np.sin(yaw))
    turned = to_rotations(np.stack([np.zeros(frames), yaw, np.zeros(frames)], -1)[:, None])[:, 0]
    leaned = to_rotations(angles[:, :1] * [1, 0, 1])[:, 0]
    angles = within_limits(angles)
    angles[:, 0] = 0
    path = np.stack([x - x.mean(), z - z.mean()], axis=-1) * reach
    return angles, turned @ leaned, np.concatenate([path, height[:, None]], axis=1)


@jax.jit
def _posed(model: BodyModel, betas: jax.Array, rotations: jax.Array) -> tuple[jax.Array, jax.Array]:
    return smpl(model, betas, rotations)


def pose_frames(model: BodyModel, betas: np.ndarray, rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`smpl` over any number of frames, compiled once: vertices (T, N, 3) and joints (T, 24, 3) of (T, 24, 3, 3)."""
    vertices, joints = [], []
    for start in range(0, len(rotations), _POSED_AT_ONCE):
        part = rotations[start : start + _POSED_AT_ONCE].astype(np.float32)
        padded = np.concatenate([part, np.repeat(part[-1:], _POSED_AT_ONCE - len(part), axis=0)])
        some, points = _posed(model, jnp.asarray(betas, jnp.float32), padded)
        vertices.append(np.asarray(some)[: len(part)])
        joints.append(np.asarray(points)[: len(part)])
    return np.concatenate(vertices), np.concatenate(joints)
