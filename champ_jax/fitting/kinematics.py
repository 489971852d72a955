"""Points of posed bodies and their derivatives, by hand: a joint's turn moves all that hangs on it about its place.

A state of a frame is 75 numbers: an increment of the root's rotation (a rotation vector in the camera's frame, from the
left), the translation, and the rotation vectors of joints 1..23.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from champ_jax.body.smpl import NUM_JOINTS
from champ_jax.fitting.points import PointModel

NUM_STATE = 75
ROOT, TRANSLATION, JOINTS = slice(0, 3), slice(3, 6), slice(6, 75)
NUM_BETAS = 10


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Posed:
    """Bodies in camera space, meters.

    Attributes:
      points: (T, K, 3) the points of the `PointModel`.
      joints: (T, 24, 3).
      turns: (T, 24, 3, 3) rotations of the joints in the camera's frame.
    """

    points: jax.Array
    joints: jax.Array
    turns: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Derivatives:
    """How `Posed` changes with the state and the shape.

    Attributes:
      points: (T, K, 3, 75).
      points_by_shape: (T, K, 3, 10).
      joints: (T, 24, 3, 75).
      joints_by_shape: (T, 24, 3, 10).
      axes: (T, 24, 3, 3) the axis in the camera's frame about which the components of each joint's rotation vector (of
        the root's increment) turn it; a column a component.
    """

    points: jax.Array
    points_by_shape: jax.Array
    joints: jax.Array
    joints_by_shape: jax.Array
    axes: jax.Array


def skew(vectors: jax.Array) -> jax.Array:
    """(..., 3) -> (..., 3, 3), the matrices of the cross product with them."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    zero = jnp.zeros_like(x)
    rows = [jnp.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return jnp.stack(rows, -2)


def rotation(vectors: jax.Array) -> jax.Array:
    """Rotation vectors (..., 3) -> matrices (..., 3, 3) (Rodrigues)."""
    a, b, _ = _coefficients(vectors)
    cross = skew(vectors)
    return jnp.eye(3, dtype=vectors.dtype) + a * cross + b * _product(cross, cross)


def left_jacobian(vectors: jax.Array) -> jax.Array:
    """(..., 3) -> (..., 3, 3) J with rotation(v + dv) = rotation(J dv) rotation(v) to first order."""
    _, b, c = _coefficients(vectors)
    cross = skew(vectors)
    return jnp.eye(3, dtype=vectors.dtype) + b * cross + c * _product(cross, cross)


def _coefficients(vectors: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """sin(t)/t, (1-cos t)/t^2 and (t-sin t)/t^3 of the lengths t, (..., 1, 1); by their series near 0."""
    square = jnp.sum(vectors * vectors, axis=-1)[..., None, None]
    small = square < 1e-3
    safe = jnp.where(small, 1.0, square)
    length = jnp.sqrt(safe)
    sine, cosine = jnp.sin(length), jnp.cos(length)
    return (
        jnp.where(small, 1 - square / 6, sine / length),
        jnp.where(small, 0.5 - square / 24, (1 - cosine) / safe),
        jnp.where(small, 1 / 6 - square / 120, (length - sine) / (safe * length)),
    )


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    """Products of 3x3 matrices as sums: exact on every backend."""
    return jnp.sum(left[..., :, :, None] * right[..., None, :, :], axis=-2)


def _apply(matrices: jax.Array, vectors: jax.Array) -> jax.Array:
    return jnp.sum(matrices * vectors[..., None, :], axis=-1)


def _levels(parents: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(joints, their parents) of each depth of the tree from 1 on."""
    depths = [0]
    for parent in parents[1:]:
        depths.append(depths[parent] + 1)
    levels = []
    for depth in range(1, max(depths) + 1):
        level = np.array([joint for joint, value in enumerate(depths) if value == depth])
        levels.append((level, np.array([parents[joint] for joint in level])))
    return levels


def _descendants(parents: tuple[int, ...]) -> np.ndarray:
    """(24, 24) 1 where the second joint hangs on the first, or is it."""
    table = np.eye(NUM_JOINTS, dtype=np.float32)
    for joint in range(1, NUM_JOINTS):
        above = parents[joint]
        while above >= 0:
            table[above, joint] = 1
            above = parents[above]
    return table


def pose(model: PointModel, state: jax.Array, root: jax.Array, betas: jax.Array) -> Posed:
    """Poses the points.

    Args:
      state: (T, 75).
      root: (T, 3, 3) the root's rotation, which the state's increment comes before.
      betas: (10,).
    """
    rotations, rest = _rotations(state, root), _rest(model, betas)
    turns, joints = _chain(model.parents, rotations, rest)
    return _posed(model, turns, joints, rest, betas, state)[0]


def _rest(model: PointModel, betas: jax.Array) -> jax.Array:
    return model.joints + model.joints_by_shape @ betas


def _rotations(state: jax.Array, root: jax.Array) -> jax.Array:
    vectors = state[:, JOINTS].reshape(len(state), NUM_JOINTS - 1, 3)
    return jnp.concatenate([_product(rotation(state[:, ROOT]), root)[:, None], rotation(vectors)], axis=1)


def _chain(parents: tuple[int, ...], rotations: jax.Array, rest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rotations and places of the joints in the camera's frame, without the translation."""
    turns = [rotations[:, 0]] + [rotations[:, 0]] * (NUM_JOINTS - 1)
    joints = [jnp.broadcast_to(rest[0], (len(rotations), 3))] * NUM_JOINTS
    for level, above in _levels(parents):
        upper = jnp.stack([turns[joint] for joint in above], axis=1)
        places = jnp.stack([joints[joint] for joint in above], axis=1) + _apply(upper, rest[level] - rest[above])
        lower = _product(upper, rotations[:, level])
        for index, joint in enumerate(level):
            turns[joint], joints[joint] = lower[:, index], places[:, index]
    return jnp.stack(turns, axis=1), jnp.stack(joints, axis=1)


def _posed(
    model: PointModel,
    turns: jax.Array,
    joints: jax.Array,
    rest: jax.Array,
    betas: jax.Array,
    state: jax.Array,
) -> tuple[Posed, jax.Array]:
    """The posed points, and (T, K, 24, 3) what each joint contributes to each of them."""
    local = model.rest + model.rest_by_shape @ betas - model.share[..., None] * rest
    parts = jnp.einsum("tjab,kjb->tkja", turns, local) + model.share[..., None] * joints[:, None]
    translation = state[:, None, TRANSLATION]
    return Posed(parts.sum(axis=2) + translation, joints + translation, turns), parts


def pose_with_derivatives(
    model: PointModel, state: jax.Array, root: jax.Array, betas: jax.Array
) -> tuple[Posed, Derivatives]:
    """As `pose`, and the derivatives by the state at its root increment (which must be 0) and by the shape."""
    rotations, rest = _rotations(state, root), _rest(model, betas)
    turns, joints = _chain(model.parents, rotations, rest)
    posed, parts = _posed(model, turns, joints, rest, betas, state)
    frames = len(state)

    # A component of joint j's rotation vector turns all that hangs on it about the joint's place, around an axis: the
    # column of (rotation of the parent) x (left Jacobian). The root's increment turns about the camera's axes.
    vectors = state[:, JOINTS].reshape(frames, NUM_JOINTS - 1, 3)
    upper = turns[:, np.array(model.parents[1:])]
    axes = jnp.concatenate(
        [jnp.broadcast_to(jnp.eye(3), (frames, 1, 3, 3)), _product(upper, left_jacobian(vectors))], axis=1
    )
    below = _descendants(model.parents)
    levers = jnp.einsum("ji,tkia->tkja", below, parts)
    levers = levers - (model.share @ below.T)[..., None] * joints[:, None]
    joint_levers = jnp.asarray(below.T[:, :, None]) * (
        joints[:, :, None] - joints[:, None]
    )  # (T, moved joint, turning joint, 3)

    # How joints move with the shape, down the tree.
    by_shape = [jnp.broadcast_to(model.joints_by_shape[0], (frames, 3, NUM_BETAS))] * NUM_JOINTS
    for level, above in _levels(model.parents):
        bones = model.joints_by_shape[level] - model.joints_by_shape[above]
        moved = jnp.stack([by_shape[joint] for joint in above], axis=1)
        moved = moved + jnp.einsum("tjab,jbk->tjak", turns[:, above], bones)
        for index, joint in enumerate(level):
            by_shape[joint] = moved[:, index]
    joints_by_shape = jnp.stack(by_shape, axis=1)
    local = model.rest_by_shape - model.share[..., None, None] * model.joints_by_shape
    points_by_shape = jnp.einsum("tjab,kjbm->tkam", turns, local) + jnp.einsum(
        "kj,tjam->tkam", model.share, joints_by_shape
    )
    return posed, Derivatives(
        points=_by_state(levers, axes),
        points_by_shape=points_by_shape,
        joints=_by_state(joint_levers, axes),
        joints_by_shape=joints_by_shape,
        axes=axes,
    )


def _by_state(levers: jax.Array, axes: jax.Array) -> jax.Array:
    """(T, K, 3, 75) from levers (T, K, 24, 3) and axes (T, 24, 3, 3): axis x lever, and the translation."""
    ax, ay, az = axes[:, None, :, 0], axes[:, None, :, 1], axes[:, None, :, 2]  # (T, 1, 24, 3 components)
    lx, ly, lz = (levers[..., axis, None] for axis in range(3))
    moved = jnp.stack([ay * lz - az * ly, az * lx - ax * lz, ax * ly - ay * lx], axis=2)  # (T, K, 3, 24, 3)
    moved = moved.reshape(*moved.shape[:3], 3 * NUM_JOINTS)
    shift = jnp.broadcast_to(jnp.eye(3, dtype=moved.dtype), (*moved.shape[:2], 3, 3))
    return jnp.concatenate([moved[..., :3], shift, moved[..., 3:]], axis=-1)
