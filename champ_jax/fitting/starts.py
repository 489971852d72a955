"""Where the fit starts: every few frames from several directions that the person may face, then the likeliest path."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from champ_jax.body.rotations import rotation_about
from champ_jax.fitting.kinematics import JOINTS, NUM_STATE, TRANSLATION, pose
from champ_jax.fitting.objective import BETAS, Observed, State, Weights, frame_costs, frame_terms, moved
from champ_jax.fitting.points import PointModel
from champ_jax.fitting.predicted import PredictedPoses

EVERY = 4
"""Frames between two that are started from."""

YAWS = 8
"""Directions, evenly around the vertical."""

BATCH = 64
"""Starts that are settled at once; a multiple of `YAWS`."""

# How sharply points are seen, iteration by iteration: from far away only the rough direction counts.
_SHARPNESS = np.concatenate([np.full(7, 1 / 16), np.ones(8)]).astype(np.float32)
_JUMP = 400.0  # cost of a change of the pose, per meter that joints move on average
_LARGEST_JUMP = 0.5  # meters; further changes cost no more
_NEAREST = 0.5  # meters


@partial(jax.jit, donate_argnums=(2,))
def settle(
    model: PointModel, observed: Observed, state: State, border: jax.Array, weights: Weights
) -> tuple[State, jax.Array, jax.Array]:
    """Levenberg-Marquardt on frames that know nothing of each other, each with its own damping.

    Returns:
      The states, their costs (N,), and the joints relative to the pelvis (N, 24, 3).
    """

    def step(carry: tuple[State, jax.Array], sharpness: jax.Array) -> tuple[tuple[State, jax.Array], None]:
        state, damping = carry
        seen = dataclasses.replace(observed, precision=observed.precision * sharpness)
        terms, _, _ = frame_terms(model, seen, state, border, weights)
        diagonal = jnp.diagonal(terms.hessian, axis1=1, axis2=2)
        damped = terms.hessian + (damping[:, None] * diagonal + 1e-5)[..., None] * jnp.eye(NUM_STATE)
        lower = jnp.linalg.cholesky(damped)
        change = -jax.scipy.linalg.cho_solve((lower, True), terms.gradient[..., None])[..., 0]
        change = jnp.where(jnp.isfinite(change), change, 0)
        tried = moved(state, change)
        better = frame_costs(model, seen, tried, border, weights) < terms.cost
        ahead = jnp.sum(observed.camera[:, 2] * tried.vector[:, TRANSLATION], axis=1)
        better &= ahead > _NEAREST / 2
        state = State(
            jnp.where(better[:, None], tried.vector, state.vector),
            jnp.where(better[:, None, None], tried.root, state.root),
        )
        return (state, jnp.clip(jnp.where(better, damping * 0.3, damping * 5), 1e-6, 1e4)), None

    damping = jnp.full(len(state.vector), 1e-2)
    (state, _), _ = jax.lax.scan(step, (state, damping), jnp.asarray(_SHARPNESS))
    joints = pose(model, state.vector, state.root, border[BETAS]).joints
    return state, frame_costs(model, observed, state, border, weights), joints - joints[:, :1]


def place(points: np.ndarray, observed: Observed) -> np.ndarray:
    """Translations (N, 3) that bring posed points (N, K, 3) onto what was observed, by linear least squares."""
    camera = np.asarray(observed.camera, np.float64)
    points = np.einsum("nab,nkb->nka", camera, np.asarray(points, np.float64))
    seen = np.asarray(observed.points, np.float64)
    weight = np.sqrt(np.asarray(observed.precision, np.float64))
    focal = np.asarray(observed.focal, np.float64)
    result = np.zeros((len(points), 3))
    for index in range(len(points)):
        w, f = weight[index], focal[index]
        if not w.any():
            result[index] = [0, 0, 4]
            continue
        if f == 0:
            result[index] = np.average(seen[index] - points[index], axis=0, weights=w)
            continue
        u, v = seen[index, :, 0], seen[index, :, 1]
        x, y, z = points[index].T
        rows = np.concatenate(
            [
                np.stack([np.full(len(u), f), np.zeros(len(u)), -u, u * z - f * x], axis=1) * w[:, None],
                np.stack([np.zeros(len(v)), np.full(len(v), f), -v, v * z - f * y], axis=1) * w[:, None],
            ]
        )
        found = np.linalg.lstsq(rows[:, :3], rows[:, 3], rcond=None)[0]
        if not found[2] > _NEAREST:  # the points lie too close together, or the other way round
            extent = max(np.ptp(u[w > 0]), np.ptp(v[w > 0]), 1.0)
            depth = max(f * 1.2 / extent, _NEAREST)
            found = np.array([np.median(u[w > 0]) * depth / f, np.median(v[w > 0]) * depth / f, depth])
        result[index] = found
    return np.einsum("nba,nb->na", camera, result)


def start(
    model: PointModel,
    observed: Observed,
    border: np.ndarray,
    weights: Weights,
    progress: Callable[[int], None],
    predicted: PredictedPoses | None = None,
) -> State:
    """The states of all frames, interpolated between every `EVERY`-th frame's likeliest one.

    Args:
      observed: all frames, as NumPy arrays.
      progress: is called with the number of frames that are done.
      predicted: the poses that a network saw in all frames, which are started from as well.
    """
    frames = len(observed.points)
    chosen = np.unique(np.r_[np.arange(0, frames, EVERY), frames - 1])
    yaws = 2 * np.pi * np.arange(YAWS) / YAWS
    facing = np.stack([rotation_about("x", np.pi) @ rotation_about("y", yaw) for yaw in yaws])
    vector = np.zeros((YAWS, NUM_STATE))
    vector[:, JOINTS] = np.asarray(weights.mean)[3:]
    shape, share = jnp.asarray(border), BATCH // YAWS
    posed = jax.jit(pose)
    rest = np.asarray(
        posed(model, jnp.asarray(vector, jnp.float32), jnp.asarray(facing, jnp.float32), shape[BETAS]).points
    )
    found = []
    for first in range(0, len(chosen), share):
        some = chosen[first : first + share]
        padded = np.concatenate([some, np.repeat(some[-1:], share - len(some))])
        seen = jax.tree.map(lambda array, at=padded: np.repeat(array[at], YAWS, axis=0), observed)
        vectors = np.tile(vector, (share, 1))
        vectors[:, TRANSLATION] = place(np.tile(rest, (share, 1, 1)), seen)
        state = State(jnp.asarray(vectors, jnp.float32), jnp.asarray(np.tile(facing, (share, 1, 1)), jnp.float32))
        settled, cost, joints = settle(model, jax.tree.map(jnp.asarray, seen), state, shape, weights)
        parts = [np.asarray(array).reshape(share, YAWS, *array.shape[1:]) for array in (*_pair(settled), cost, joints)]
        found.append([part[: len(some)] for part in parts])
        progress(int(some[-1]) + 1)
    vectors, roots, costs, joints = (np.concatenate(parts) for parts in zip(*found))
    if predicted is not None:
        seen_so = _settled_predictions(model, observed, predicted, chosen, shape, weights)
        vectors, roots, costs, joints = (
            np.concatenate([own, one[:, None]], axis=1) for own, one in zip((vectors, roots, costs, joints), seen_so)
        )
    path = likeliest_path(costs, joints)
    rows = np.arange(len(chosen))
    return interpolate(chosen, vectors[rows, path], roots[rows, path], frames)


def _settled_predictions(
    model: PointModel,
    observed: Observed,
    predicted: PredictedPoses,
    chosen: np.ndarray,
    shape: jax.Array,
    weights: Weights,
) -> list[np.ndarray]:
    """What `settle` makes of the poses that a network saw in the frames `chosen` (F,).

    Returns:
      Vectors (F, 75), roots (F, 3, 3), costs (F,), infinite where the network saw nobody, and joints (F, 24, 3).
    """
    vectors, roots, usable = predicted.starts(), predicted.roots(), predicted.usable()
    found = []
    for first in range(0, len(chosen), BATCH):
        some = chosen[first : first + BATCH]
        padded = np.concatenate([some, np.repeat(some[-1:], BATCH - len(some))])
        seen = jax.tree.map(lambda array, at=padded: jnp.asarray(array[at]), observed)
        state = State(jnp.asarray(vectors[padded]), jnp.asarray(roots[padded]))
        settled, cost, joints = settle(model, seen, state, shape, weights)
        cost = np.where(usable[padded], cost, np.inf)
        found.append([np.asarray(array)[: len(some)] for array in (*_pair(settled), cost, joints)])
    return [np.concatenate(parts) for parts in zip(*found)]


def _pair(state: State) -> tuple[jax.Array, jax.Array]:
    return state.vector, state.root


def likeliest_path(costs: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Viterbi's algorithm: which candidate of each frame, so that costs and jumps of the joints are least in sum.

    Args:
      costs: (F, C).
      joints: (F, C, J, 3) meters.

    Returns:
      (F,).
    """
    costs = np.where(np.isfinite(costs), costs, 1e9)
    best, back = costs[0].astype(np.float64), np.zeros(costs.shape, int)
    for frame in range(1, len(costs)):
        between = joints[frame - 1][:, None] - joints[frame][None]
        distance = np.linalg.norm(between, axis=-1).mean(axis=-1)
        total = best[:, None] + _JUMP * np.minimum(distance, _LARGEST_JUMP)
        back[frame] = total.argmin(axis=0)
        best = total.min(axis=0) + costs[frame]
    path = [int(best.argmin())]
    for frame in range(len(costs) - 1, 0, -1):
        path.append(int(back[frame, path[-1]]))
    return np.array(path[::-1])


def interpolate(frames: np.ndarray, vectors: np.ndarray, roots: np.ndarray, count: int) -> State:
    """States of frames 0..count-1 between those of some (F,), whose first is 0 and whose last is count-1."""
    time = np.arange(count)
    columns = [np.interp(time, frames, vectors[:, column]) for column in range(NUM_STATE)]
    if len(frames) == 1:
        turned = np.repeat(roots, count, axis=0)
    else:
        turned = Slerp(frames, Rotation.from_matrix(roots))(time).as_matrix()
    return State(np.stack(columns, axis=1).astype(np.float32), turned.astype(np.float32))
