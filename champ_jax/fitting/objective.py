"""What the fit minimizes, and its Gauss-Newton approximation, for pieces of a clip.

A frame's terms: the observed points under a robust loss (Cauchy), a heavy-tailed Gaussian over the pose (Student's t),
joint ranges, forearms outside of the torso, and planted feet at the height of the ground. Between frames: planted feet
that stay where they are, and accelerations. The border, shared by all frames, is the shape (10), the logarithm of a
factor on the focal length (1), how the camera is tilted against gravity (about its x and z axis, 2), and how far below
the camera the ground is (1).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from champ_jax.body.smpl import JOINT_NAMES
from champ_jax.fitting.banded import Blocks
from champ_jax.fitting.kinematics import (
    JOINTS,
    NUM_BETAS,
    NUM_STATE,
    ROOT,
    TRANSLATION,
    Derivatives,
    Posed,
    left_jacobian,
    pose,
    pose_with_derivatives,
    rotation,
    skew,
)
from champ_jax.fitting.points import PointModel
from champ_jax.fitting.predicted import PoseTarget, target_costs, target_terms

NUM_BORDER = NUM_BETAS + 4
BETAS, FOCAL, TILT, GROUND = slice(0, NUM_BETAS), NUM_BETAS, slice(NUM_BETAS + 1, NUM_BETAS + 3), NUM_BETAS + 3
NUM_FEET = 6
HALO = 2
"""Frames before and after a piece that its terms reach."""

AnyArray = Any  # NumPy's outside of compiled programs, JAX's inside

_ROBUST = 9.0  # (3 sigma)^2: beyond, an observed point loses its pull
_FREEDOM = 144.0  # of Student's t over poses: a pose of twice the usual distance from the mean has a third of the pull
_NEAREST = 0.1  # meters; points are not projected from nearer
_COLLISION = np.array(
    [JOINT_NAMES.index(name) for name in ("left_wrist", "right_wrist", "left_hand", "right_hand")], np.int32
)
_ELBOWS = np.array([JOINT_NAMES.index(name) for name in ("left_elbow", "right_elbow")], np.int32)
_TORSO = np.array([JOINT_NAMES.index(name) for name in ("pelvis", "spine1", "spine2", "spine3")], np.int32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Observed:
    """What is known of T frames. Arrays are float32.

    Attributes:
      points: (T, K, 3): px from the picture's center and 0, or meters in the camera's frame.
      precision: (T, K) 1/sigma^2 of each point, in the same unit; 0: not seen.
      focal: (T,) px, before the border's factor; 0: the points are in meters.
      camera: (T, 3, 3) each frame's world-to-camera rotation; the state is in the world.
      planted: (T, 6) how much each point of the feet stays until the next frame, 0..1.
      standing: (T, 6) how much each point of the feet is on the ground, 0..1.
      known: (T,) 1 for frames of the clip, 0 for padding.
      free: (T,) 1 for frames to solve for, 0 for padding and frames that are settled already.
      predicted: the poses that a network saw, if one did.
    """

    points: AnyArray
    precision: AnyArray
    focal: AnyArray
    camera: AnyArray
    planted: AnyArray
    standing: AnyArray
    known: AnyArray
    free: AnyArray
    predicted: PoseTarget | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Weights:
    """The strengths of the terms. Arrays are float32.

    Attributes:
      mean: (72,) the mean pose.
      factor: (72, 72) see `priors.PosePrior`.
      low, high: (69,) joint ranges.
      limit: 1/rad; the pull back into the ranges.
      acceleration: (75,) 1/(expected second difference between frames).
      border: (14,) what is expected of the border.
      border_precision: (14,) how firmly; beyond 1e9 it stays.
      skating: 1/m; the pull of planted feet to where they were.
      height: 1/m; the pull of standing feet to the ground.
      collision: the pull of forearms out of the torso, 1 over a share of its radius.
      torso: (2,) meters, the torso's half width and half depth.
    """

    mean: jax.Array
    factor: jax.Array
    low: jax.Array
    high: jax.Array
    limit: jax.Array
    acceleration: jax.Array
    border: jax.Array
    border_precision: jax.Array
    skating: jax.Array
    height: jax.Array
    collision: jax.Array
    torso: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Frames as they are believed to be: vector (T, 75), whose root increment is 0, and root (T, 3, 3)."""

    vector: AnyArray
    root: AnyArray


def moved(state: State, step: jax.Array) -> State:
    """The state after a step (T, 75); the root's increment goes into its rotation, kept a rotation."""
    vector = state.vector + step
    root = jnp.einsum("tab,tbc->tac", rotation(vector[:, ROOT]), state.root, precision="highest")
    # One step of the Newton iteration for the nearest rotation removes what rounding adds.
    root = 1.5 * root - 0.5 * jnp.einsum("tab,tcb,tcd->tad", root, root, root, precision="highest")
    return State(vector.at[:, ROOT].set(0), root)


def up_direction(tilt: jax.Array) -> jax.Array:
    """(3,) the direction up in the camera's frame: (0, -1, 0) for a level camera."""
    return rotation(jnp.stack([tilt[0], jnp.zeros_like(tilt[0]), tilt[1]])) @ jnp.array([0.0, -1.0, 0.0])


def _up_derivative(tilt: jax.Array) -> jax.Array:
    """(3, 2) of `up_direction` by the tilt."""
    vector = jnp.stack([tilt[0], jnp.zeros_like(tilt[0]), tilt[1]])
    up = up_direction(tilt)
    return (-skew(up) @ left_jacobian(vector))[:, jnp.array([0, 2])]


def before_camera(camera: AnyArray, points: AnyArray) -> jax.Array:
    """(T, K, 3) of the world, in each frame's camera."""
    return jnp.einsum("tab,tkb->tka", camera, points, precision="highest")


def _residuals(observed: Observed, posed: Posed, border: jax.Array) -> jax.Array:
    """(T, K, 3) observed points missed by, in their unit."""
    spatial = observed.focal[:, None, None] == 0
    focal = observed.focal[:, None, None] * jnp.exp(border[FOCAL])
    points = before_camera(observed.camera, posed.points)
    depth = jnp.maximum(points[..., 2:], _NEAREST)
    flat = jnp.concatenate([focal * points[..., :2] / depth, jnp.zeros_like(depth)], axis=-1)
    return jnp.where(spatial, points, flat) - observed.points


def _pose_differences(state: State, border: jax.Array, weights: Weights) -> jax.Array:
    """(T, 72) from the mean pose."""
    up = jnp.einsum("tba,b->ta", state.root, up_direction(border[TILT]), precision="highest")
    return jnp.concatenate([up, state.vector[:, JOINTS]], axis=1) - weights.mean


def _beyond(vectors: jax.Array, weights: Weights) -> jax.Array:
    return weights.limit * (jnp.maximum(vectors - weights.high, 0) - jnp.maximum(weights.low - vectors, 0))


def _forearms(joints: jax.Array) -> jax.Array:
    """(T, 6, 3): wrists, hands and the middles of the forearms."""
    middles = (joints[:, _ELBOWS] + joints[:, _COLLISION[:2]]) / 2
    return jnp.concatenate([joints[:, _COLLISION], middles], axis=1)


def _inside(posed: Posed, weights: Weights) -> tuple[jax.Array, jax.Array, jax.Array]:
    """How deep in the torso the points of the forearms are.

    The torso is an elliptic cylinder around the spine's joints, which turns with spine2.

    Returns:
      depth (T, 6), a share of the radius, 0 outside; its direction (T, 6, 3) in the camera's frame, by which it changes
      with the point's place relative to the spine; and the share (T, 6, 4) of the spine's joints in the axis point.
    """
    spine = posed.joints[:, _TORSO]
    turn = posed.turns[:, _TORSO[2]]
    points = _forearms(posed.joints)
    top, bottom = spine[:, -1], spine[:, 0]
    axis = top - bottom
    along = jnp.einsum("tpa,ta->tp", points - bottom[:, None], axis) / jnp.sum(axis * axis, axis=-1)[:, None]
    place = jnp.clip(along, 0, 1) * (len(_TORSO) - 1)
    share = jnp.maximum(1 - jnp.abs(place[..., None] - jnp.arange(len(_TORSO))), 0)
    local = jnp.einsum("tba,tpb->tpa", turn, points - jnp.einsum("tps,tsa->tpa", share, spine))
    scaled = local[..., jnp.array([0, 2])] / weights.torso
    distance = jnp.sqrt(jnp.sum(scaled * scaled, axis=-1) + 1e-6)
    within = (along > -0.1) & (along < 1.1)
    depth = jnp.where(within, jnp.maximum(1 - distance, 0), 0)
    inward = -scaled / weights.torso / distance[..., None]
    inward = jnp.stack([inward[..., 0], jnp.zeros_like(distance), inward[..., 1]], axis=-1)
    direction = jnp.einsum("tab,tpb->tpa", turn, inward) * (depth > 0)[..., None]
    return depth, jax.lax.stop_gradient(direction), jax.lax.stop_gradient(share)


def _heights(posed: Posed, border: jax.Array) -> jax.Array:
    """(T, 6) the feet's points above the ground, meters."""
    return posed.points[:, -NUM_FEET:] @ up_direction(border[TILT]) + border[GROUND]


def frame_costs(model: PointModel, observed: Observed, state: State, border: jax.Array, weights: Weights) -> jax.Array:
    """(T,) the costs of the terms that reach one frame."""
    posed = pose(model, state.vector, state.root, border[BETAS])
    return _frame_costs(observed, posed, state, border, weights)


def _frame_costs(observed: Observed, posed: Posed, state: State, border: jax.Array, weights: Weights) -> jax.Array:
    square = jnp.sum(_residuals(observed, posed, border) ** 2, axis=-1) * observed.precision
    cost = _ROBUST * jnp.sum(jnp.log1p(square / _ROBUST), axis=1)
    whitened = _pose_differences(state, border, weights) @ weights.factor.T
    cost += _FREEDOM * jnp.log1p(jnp.sum(whitened**2, axis=1) / _FREEDOM)
    cost += jnp.sum(_beyond(state.vector[:, JOINTS], weights) ** 2, axis=1)
    cost += jnp.sum((weights.collision * _inside(posed, weights)[0]) ** 2, axis=1)
    cost += jnp.sum(observed.standing * (weights.height * _heights(posed, border)) ** 2, axis=1)
    if observed.predicted is not None:
        cost += target_costs(observed.predicted, state.vector[:, JOINTS], state.root)
    return cost * observed.known


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FrameTerms:
    """Gauss-Newton blocks of the terms of single frames.

    Attributes:
      cost: (T,).
      hessian: (T, 75, 75). cross: (T, 75, 14). border: (T, 14, 14).
      gradient: (T, 75). border_gradient: (T, 14).
    """

    cost: jax.Array
    hessian: jax.Array
    cross: jax.Array
    border: jax.Array
    gradient: jax.Array
    border_gradient: jax.Array


def frame_terms(
    model: PointModel, observed: Observed, state: State, border: jax.Array, weights: Weights
) -> tuple[FrameTerms, Posed, Derivatives]:
    """The terms of single frames, each with all derivatives."""
    posed, by = pose_with_derivatives(model, state.vector, state.root, border[BETAS])
    frames = len(state.vector)
    rows, values = [], []

    def add(jacobian: jax.Array, by_border: jax.Array, residual: jax.Array) -> None:
        """Residuals (T, R) with derivatives (T, R, 75) and (T, R, 14)."""
        rows.append(jnp.concatenate([jacobian, by_border], axis=-1))
        values.append(residual)

    def border_columns(by_shape: jax.Array, rest: jax.Array | None = None) -> jax.Array:
        """(..., 14) from (..., 10) and (..., 4)."""
        return jnp.concatenate(
            [by_shape, jnp.zeros((*by_shape.shape[:-1], 4), by_shape.dtype) if rest is None else rest], -1
        )

    # Observed points.
    missed = _residuals(observed, posed, border)
    square = jnp.sum(missed**2, axis=-1) * observed.precision
    root_weight = jnp.sqrt(observed.precision / (1 + square / _ROBUST))
    spatial = (observed.focal == 0)[:, None, None, None]
    focal = (observed.focal * jnp.exp(border[FOCAL]))[:, None, None]
    points = before_camera(observed.camera, posed.points)
    depth = jnp.maximum(points[..., 2:], _NEAREST)
    ahead = (points[..., 2:] > _NEAREST).astype(depth.dtype)
    slope = points[..., :2] / depth

    def project(jacobian: jax.Array) -> jax.Array:
        jacobian = jnp.einsum("tab,tkbx->tkax", observed.camera, jacobian)
        inward = slope[..., None] * ahead[..., None] * jacobian[..., 2:, :]
        flat = (focal / depth)[..., None] * (jacobian[..., :2, :] - inward)
        flat = jnp.concatenate([flat, jnp.zeros_like(flat[..., :1, :])], axis=-2)
        return jnp.where(spatial, jacobian, flat)

    by_focal = jnp.concatenate([focal * slope, jnp.zeros_like(depth)], axis=-1) * (observed.focal != 0)[:, None, None]
    others = jnp.concatenate([by_focal[..., None], jnp.zeros((*by_focal.shape, 3))], axis=-1)
    scale = root_weight[..., None, None]
    add(
        (scale * project(by.points)).reshape(frames, -1, NUM_STATE),
        (scale * border_columns(project(by.points_by_shape), others)).reshape(frames, -1, NUM_BORDER),
        (root_weight[..., None] * missed).reshape(frames, -1),
    )

    # Forearms outside of the torso. The torso's own turn is left out of the derivative; steps are checked by the cost.
    inside, direction, share = _inside(posed, weights)
    middle = (by.joints[:, _ELBOWS] + by.joints[:, _COLLISION[:2]]) / 2
    relative = jnp.concatenate([by.joints[:, _COLLISION], middle], axis=1)
    relative -= jnp.einsum("tps,tsax->tpax", share, by.joints[:, _TORSO])
    pull = weights.collision * jnp.einsum("tpa,tpax->tpx", direction, relative)
    add(pull, jnp.zeros((*pull.shape[:2], NUM_BORDER)), weights.collision * inside)

    # Planted feet at the ground's height.
    up, by_tilt = up_direction(border[TILT]), _up_derivative(border[TILT])
    scale = weights.height * jnp.sqrt(observed.standing)[..., None]
    feet = posed.points[:, -NUM_FEET:]
    tilted = jnp.concatenate([jnp.zeros((*feet.shape[:2], 1)), feet @ by_tilt, jnp.ones((*feet.shape[:2], 1))], axis=-1)
    add(
        scale * jnp.einsum("a,tkax->tkx", up, by.points[:, -NUM_FEET:]),
        scale * border_columns(jnp.einsum("a,tkax->tkx", up, by.points_by_shape[:, -NUM_FEET:]), tilted),
        scale[..., 0] * _heights(posed, border),
    )

    jacobian, residual = jnp.concatenate(rows, axis=1), jnp.concatenate(values, axis=1)
    whole = jnp.einsum("trx,try->txy", jacobian, jacobian)
    slope_of_all = jnp.einsum("trx,tr->tx", jacobian, residual)

    # The pose, whose Jacobian is an identity but for the direction up.
    difference = _pose_differences(state, border, weights)
    pulled = difference @ (weights.factor.T @ weights.factor)
    belief = 1 / (1 + jnp.sum(difference * pulled, axis=1) / _FREEDOM)
    by_pose = jnp.zeros((frames, len(weights.mean), NUM_STATE + NUM_BORDER))
    by_pose = by_pose.at[:, :3, ROOT].set(jnp.einsum("tba,bc->tac", state.root, skew(up)))
    by_pose = by_pose.at[:, 3:, JOINTS].set(jnp.eye(len(weights.mean) - 3))
    tilt_columns = slice(NUM_STATE + TILT.start, NUM_STATE + TILT.stop)
    by_pose = by_pose.at[:, :3, tilt_columns].set(jnp.einsum("tba,bc->tac", state.root, by_tilt))
    by_whitened = jnp.einsum("pq,tqx->tpx", weights.factor, by_pose)
    whole += belief[:, None, None] * jnp.einsum("tpx,tpy->txy", by_whitened, by_whitened)
    slope_of_all += belief[:, None] * jnp.einsum("tqx,tq->tx", by_pose, pulled)

    # Joint ranges.
    beyond = _beyond(state.vector[:, JOINTS], weights)
    places = jnp.arange(JOINTS.start, JOINTS.stop)
    whole = whole.at[:, places, places].add(weights.limit**2 * (beyond != 0))
    slope_of_all = slope_of_all.at[:, JOINTS].add(weights.limit * beyond)

    if observed.predicted is not None:
        places = np.r_[ROOT, JOINTS]
        curvature, slope = target_terms(observed.predicted, state.vector[:, JOINTS], state.root)
        whole = whole.at[:, places, places].add(curvature)
        slope_of_all = slope_of_all.at[:, places].add(slope)

    known = observed.known
    whole, slope_of_all = whole * known[:, None, None], slope_of_all * known[:, None]
    terms = FrameTerms(
        cost=_frame_costs(observed, posed, state, border, weights),
        hessian=whole[:, :NUM_STATE, :NUM_STATE],
        cross=whole[:, :NUM_STATE, NUM_STATE:],
        border=whole[:, NUM_STATE:, NUM_STATE:],
        gradient=slope_of_all[:, :NUM_STATE],
        border_gradient=slope_of_all[:, NUM_STATE:],
    )
    return terms, posed, by


def _turned(root: jax.Array) -> jax.Array:
    """(T-1, 3) the rotation vectors from each frame's root to the next one's. Half turns in a frame do not happen."""
    between = jnp.einsum("tab,tcb->tac", root[1:], root[:-1], precision="highest")
    sine = (
        jnp.stack(
            [
                between[:, 2, 1] - between[:, 1, 2],
                between[:, 0, 2] - between[:, 2, 0],
                between[:, 1, 0] - between[:, 0, 1],
            ],
            axis=-1,
        )
        / 2
    )
    length = jnp.sqrt(jnp.sum(sine**2, axis=-1) + 1e-12)
    cosine = (jnp.trace(between, axis1=1, axis2=2) - 1) / 2
    return sine * (jnp.arctan2(length, cosine) / length)[:, None]


def _accelerations(observed: Observed, state: State, weights: Weights) -> tuple[jax.Array, jax.Array]:
    """(T-2, 75) second differences in units of what is expected, around frames 1..T-2, and (T-2,) which count."""
    turns = _turned(state.root)
    rest = state.vector[:, TRANSLATION.start :]
    second = jnp.concatenate([turns[1:] - turns[:-1], rest[2:] - 2 * rest[1:-1] + rest[:-2]], axis=1)
    counts = observed.known[2:] * observed.known[1:-1] * observed.known[:-2]
    return second * weights.acceleration * counts[:, None], counts


def _steps(observed: Observed, posed: Posed, weights: Weights) -> tuple[jax.Array, jax.Array]:
    """(T-1, 6, 3) how far planted feet move, in units of what is expected, and the roots of the weights (T-1, 6)."""
    feet = posed.points[:, -NUM_FEET:]
    root = weights.skating * jnp.sqrt(observed.planted[:-1] * (observed.known[1:] * observed.known[:-1])[:, None])
    return root[..., None] * (feet[1:] - feet[:-1]), root


def piece_cost(model: PointModel, observed: Observed, state: State, border: jax.Array, weights: Weights) -> jax.Array:
    """(P,) the costs of a piece's frames; the inputs hold `HALO` frames more on both sides."""
    posed = pose(model, state.vector, state.root, border[BETAS])
    own = slice(HALO, -HALO)
    cost = _frame_costs(observed, posed, state, border, weights)[own]
    cost += jnp.sum(_accelerations(observed, state, weights)[0][1:-1] ** 2, axis=1)
    steps = _steps(observed, posed, weights)[0]
    return cost + jnp.sum(steps[HALO : HALO + len(cost)] ** 2, axis=(1, 2))


def piece_blocks(
    model: PointModel, observed: Observed, state: State, border: jax.Array, weights: Weights
) -> tuple[Blocks, jax.Array, jax.Array]:
    """The normal equations of a piece; the inputs hold `HALO` frames more on both sides.

    Returns:
      The piece's blocks, and what it adds to the border's block (14, 14) and gradient (14,).
    """
    terms, posed, by = frame_terms(model, observed, state, border, weights)
    frames = len(state.vector)
    count = frames - 2 * HALO
    own, ahead = slice(HALO, -HALO), slice(HALO + 1, frames - HALO + 1)

    # Planted feet: residual root * (foot of the next frame - foot of this frame).
    steps, root = _steps(observed, posed, weights)
    feet = by.points[:, -NUM_FEET:]
    first, second = root[..., None, None] * feet[:-1], root[..., None, None] * feet[1:]
    shape = by.points_by_shape[:, -NUM_FEET:]
    by_shape = root[..., None, None] * (shape[1:] - shape[:-1])

    def product(left: jax.Array, right: jax.Array) -> jax.Array:
        return jnp.einsum("tkax,tkay->txy", left, right)

    here, before = slice(HALO, HALO + count), slice(HALO - 1, HALO + count - 1)
    diagonal = terms.hessian[own] + product(first[here], first[here]) + product(second[before], second[before])
    coupling = -product(first[here], second[here])
    gradient = terms.gradient[own]
    gradient += jnp.einsum("tkax,tka->tx", second[before], steps[before])
    gradient -= jnp.einsum("tkax,tka->tx", first[here], steps[here])
    cross = terms.cross[own]
    cross = cross.at[..., BETAS].add(product(second[before], by_shape[before]) - product(first[here], by_shape[here]))
    border_block = (
        terms.border[own].sum(axis=0).at[BETAS, BETAS].add(product(by_shape[here], by_shape[here]).sum(axis=0))
    )
    border_gradient = terms.border_gradient[own].sum(axis=0)
    border_gradient = border_gradient.at[BETAS].add(jnp.einsum("tkax,tka->x", by_shape[here], steps[here]))

    # Accelerations: those around the frame before, this frame and the next one have it with factors 1, -2, 1.
    second_differences, counts = _accelerations(observed, state, weights)  # around frames 1..frames-2
    square = weights.acceleration**2
    around = [slice(HALO - 2 + place, HALO - 2 + place + count) for place in range(3)]  # before, this, next
    strength = counts[around[0]] + 4 * counts[around[1]] + counts[around[2]]
    places = jnp.arange(NUM_STATE)
    diagonal = diagonal.at[:, places, places].add(strength[:, None] * square)
    coupling = coupling.at[:, places, places].add(-2 * (counts[around[1]] + counts[around[2]])[:, None] * square)
    after_next = counts[around[2]][:, None] * square
    pulled = second_differences * weights.acceleration
    gradient += pulled[around[0]] - 2 * pulled[around[1]] + pulled[around[2]]

    # Frames that are settled keep their values.
    free = observed.free
    mine, following, last = free[own, None], free[ahead, None], free[HALO + 2 : HALO + 2 + count, None]
    diagonal = jnp.where(mine[..., None] > 0, diagonal, jnp.eye(NUM_STATE))
    blocks = Blocks(
        diagonal=diagonal,
        next=coupling * mine[..., None] * following[..., None],
        after_next=after_next * mine * last,
        border=cross * mine[..., None],
        gradient=gradient * mine,
    )
    return blocks, border_block, border_gradient
