"""From key points or 3D joints of a clip to a motion."""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from champ_jax.body.camera_path import turn_frames
from champ_jax.body.measurements import rest_pelvis
from champ_jax.body.motion import NUM_BETAS, Motion
from champ_jax.body.smpl import BodyModel
from champ_jax.common.arrays import open_npz
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.fitting.clip import PIECE, Clip
from champ_jax.fitting.contact import ground_height, planted_feet, standing_feet
from champ_jax.fitting.joints import Joints3D
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.kinematics import JOINTS, TRANSLATION, pose, rotation
from champ_jax.fitting.layouts import LAYOUTS_3D
from champ_jax.fitting.objective import (
    BETAS,
    FOCAL,
    GROUND,
    NUM_BORDER,
    NUM_FEET,
    TILT,
    Observed,
    State,
    Weights,
    before_camera,
    up_direction,
)
from champ_jax.fitting.points import (
    FEET,
    NUM_POINTS,
    Places,
    PointModel,
    feet_of,
    padded,
    place_of,
    point_model,
    whole_body_places,
)
from champ_jax.fitting.predicted import PredictedPoses
from champ_jax.fitting.priors import PosePrior, load_prior
from champ_jax.fitting.starts import start

FOCAL_SHARES = (0.9, 3.0)
"""The shortest and longest focal length that is believed, in lengths of the picture's longer side."""

DEFAULT_FOCAL_SHARE = 1.5
"""The focal length where nothing tells, likewise."""

_ROUNDS = ((0.3, 8), (0.15, 8), (0.15, 6))  # speed in m/s below which feet count as planted, and iterations at most
_FIRST_ITERATIONS = 12
_SHAPE = 1.5  # precision of each beta
_SMOOTHNESS = 0.5  # on accelerations; the shape shrinks under more
_FOCAL_SHARE, _FOCAL_SPREAD = 2.0, 0.4  # where the search for the focal length starts, and its logarithm's spread
_SURE = 0.3  # score below which a detector guesses
_ROUGH, _LEAST, _MOST = 0.008, 0.0015, 0.03  # errors of points, shares of the person's size

Report = Callable[[str, float], None]
"""Is called with a stage's name and how much of it is done, 0..1."""


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """How the fit weighs things.

    Attributes:
      ground: whether planted feet stay where they are, on the ground.
      shape_growth: by how much the shape's prior grows with every valid frame: points are off in the same way in all of
        them, so more frames do not tell the shape as much better as independent errors would have it.
      prior: the pose prior; the shipped one by default.
    """

    ground: bool = True
    shape_growth: float = 0.02
    prior: PosePrior | None = None


@dataclasses.dataclass(frozen=True)
class Fit:
    """What a fit found.

    Attributes:
      motion: the body's motion, with the key points.
      errors: (T,) median distance of the points that are seen for sure from the body's: px, or meters where joints were
        given in meters; 0 where there are none.
      planted: (T, 6) how much each point of the feet stays until the next frame, 0..1.
      focal: px, of the first frame.
      joints: (T, 24, 3) meters, in the motion's frame.
    """

    motion: Motion
    errors: np.ndarray
    planted: np.ndarray
    focal: float
    joints: np.ndarray


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the fit explains: points of a `PointModel` over T frames.

    Attributes:
      points: (T, K, 3) px from the picture's center and 0, or meters in the camera's frame.
      score: (T, K) how much each counts, 0..1; 0: not seen.
      valid: (T,) bool.
      focal: (T,) px; 0 for points in meters.
      focal_range: the smallest and the largest logarithm of a factor on `focal`; (0, 0) where it is known.
      fps: frames per second.
      size: how large the person is, in the points' unit.
      predicted: the poses that a network saw, if one did.
      camera: (T, 3, 3) the world-to-camera rotations of a camera that turned; None where it stood still.
    """

    points: np.ndarray
    score: np.ndarray
    valid: np.ndarray
    focal: np.ndarray
    focal_range: tuple[float, float]
    fps: float
    size: float
    predicted: PredictedPoses | None = None
    camera: np.ndarray | None = None


def fit_keypoints(
    keypoints: Keypoints,
    body: BodyModel,
    settings: FitSettings = FitSettings(),
    report: Report = lambda stage, share: None,
    store: str | os.PathLike | None = None,
    predict: Callable[[np.ndarray], PredictedPoses] | None = None,
) -> Fit:
    """Fits a body's shape and motion to key points, the whole clip at once.

    Args:
      keypoints: with `focal`, which is then kept, or without, and then it is estimated. With `camera_rotations` the
        points are seen through each frame's camera, and the motion is in the world: the first frame's camera.
      body: the body.
      store: a file where every stage's result is kept, from which an interrupted fit of the same points goes on.
      predict: gives the poses that a network saw, for a camera of these focal lengths (T,) px; see `fitting/predicted`.

    Raises:
      InputError: too few points are seen, or `store` cannot be written.
    """
    numbers, places = whole_body_places(body)
    spare = NUM_POINTS - len(numbers) - NUM_FEET
    shown = keypoints.keypoints
    seen = np.concatenate([shown[:, numbers], np.zeros((len(shown), spare, 3)), shown[:, FEET]], axis=1)
    score = np.where(keypoints.valid[:, None], np.clip(seen[..., 2], 0, 1), 0)
    if (score > 0).sum(axis=1).max() < 4:
        raise InputError("no frame shows four of the points that a body is fitted to (nose, eyes, ears, limbs, feet)")
    offsets = np.where(score[..., None] > 0, seen[..., :2] - keypoints.image_size / 2, 0)
    points = np.concatenate([offsets, np.zeros_like(offsets[..., :1])], axis=-1)
    longer = float(keypoints.image_size.max())
    if keypoints.focal is not None:
        focal, focal_range = keypoints.focal, (0.0, 0.0)
    else:
        focal = np.full(len(keypoints), _FOCAL_SHARE * longer, np.float32)
        low, high = np.log(np.array(FOCAL_SHARES) * longer / focal[0])
        focal_range = (float(low), float(high))
    evidence = Evidence(
        points=points,
        score=score,
        valid=keypoints.valid,
        focal=focal,
        focal_range=focal_range,
        fps=keypoints.fps,
        size=apparent_size(points, score),
        predicted=None if predict is None else _in_world(predict(np.asarray(focal)), keypoints.camera_rotations, body),
        camera=keypoints.camera_rotations,
    )
    clip = solve(evidence, point_model(body, padded(places, feet_of(body))), settings, report, store)
    focal = np.asarray(evidence.focal) * np.exp(clip.border[FOCAL])
    motion = _motion(clip, keypoints, body, focal, keypoints.keypoints)
    if keypoints.camera_rotations is not None:
        motion = dataclasses.replace(
            motion,
            focal=np.full_like(motion.focal, motion.focal[0]),
            camera_rotations=keypoints.camera_rotations,
            camera_focal=motion.focal,
        )
    return _fit(clip, evidence, motion)


def _in_world(predicted: PredictedPoses, camera: np.ndarray | None, body: BodyModel) -> PredictedPoses:
    """What a network saw in each frame's camera, in the world."""
    if camera is None:
        return predicted
    shape = np.zeros(NUM_BETAS) if predicted.betas is None else predicted.betas
    back = camera.transpose(0, 2, 1)
    rotations, translation = turn_frames(back, predicted.rotations, predicted.translation, rest_pelvis(body, shape))
    # What is no plausible place before its own camera might become one in the world.
    return dataclasses.replace(predicted, rotations=rotations, translation=translation, known=predicted.usable())


def fit_joints(
    joints: Joints3D,
    body: BodyModel,
    settings: FitSettings = FitSettings(),
    report: Report = lambda stage, share: None,
    store: str | os.PathLike | None = None,
) -> Fit:
    """Fits a body's shape and motion to 3D joints, the whole clip at once.

    Joints that are not before a camera (their median depth is below half a meter) are put before one, at the distance
    at which the person fills most of the picture.

    Args:
      joints: the joints; without `focal` it is `DEFAULT_FOCAL_SHARE` times the picture's longer side.
      body: the body.
      store: as in `fit_keypoints`.

    Raises:
      InputError: too few joints are seen, or `store` cannot be written.
    """
    columns, places = [], Places([], [], [])
    for column, target in enumerate(LAYOUTS_3D[joints.layout]):
        found = None if target is None or target in FEET else place_of(body, target)
        if found is not None:
            columns.append(column)
            places += found
    order = [LAYOUTS_3D[joints.layout].index(toe) if toe in LAYOUTS_3D[joints.layout] else -1 for toe in FEET]
    order = [*columns, *[-1] * (NUM_POINTS - len(columns) - NUM_FEET), *order]
    unseen = np.zeros((len(joints), 1))
    score = np.concatenate([np.clip(joints.scores, 0, 1) * joints.valid[:, None], unseen], axis=1)[:, order]
    points = np.concatenate([joints.joints, np.zeros((len(joints), 1, 3))], axis=1)[:, order]
    if (score > 0).sum(axis=1).max() < 4:
        raise InputError("no frame shows four of the joints that a body is fitted to")
    focal = joints.focal
    if focal is None:
        focal = np.full(len(joints), DEFAULT_FOCAL_SHARE * float(joints.image_size.max()), np.float32)
    size = joints.extent()
    if not joints.before_camera:
        points = points + [0, 0, float(size * focal[0] / (0.8 * joints.image_size[1]))] * (score > 0)[..., None]
    evidence = Evidence(
        points=points,
        score=score,
        valid=joints.valid,
        focal=np.zeros(len(joints), np.float32),
        focal_range=(0.0, 0.0),
        fps=joints.fps,
        size=size,
    )
    clip = solve(evidence, point_model(body, padded(places, feet_of(body))), settings, report, store)
    motion = _motion(clip, joints, body, focal, None)
    return _fit(clip, evidence, motion)


def solve(
    evidence: Evidence,
    model: PointModel,
    settings: FitSettings = FitSettings(),
    report: Report = lambda stage, share: None,
    store: str | os.PathLike | None = None,
) -> Clip:
    """The clip that explains the evidence: starts, a first fit of shape and motion, then rounds with the feet planted.

    The shape and the focal length come from the first fit. Planted feet and the ground would pull them: whatever is
    smaller and nearer moves less.
    """
    prior = load_prior() if settings.prior is None else settings.prior
    frames = len(evidence.points)
    observed = Observed(
        points=evidence.points.astype(np.float32),
        precision=(evidence.score / (_ROUGH * evidence.size) ** 2).astype(np.float32),
        focal=np.asarray(evidence.focal, np.float32),
        camera=_cameras(evidence),
        planted=np.zeros((frames, NUM_FEET), np.float32),
        standing=np.zeros((frames, NUM_FEET), np.float32),
        known=np.ones(frames, np.float32),
        free=np.ones(frames, np.float32),
        predicted=None if evidence.predicted is None else evidence.predicted.target(),
    )
    weights = make_weights(prior, evidence, settings)
    digest = _digest(evidence, model, settings)
    stages = 2 + len(_ROUNDS)
    kept = _load(store, digest, frames)
    if kept is None:
        border = np.array(weights.border, np.float64)
        state = start(model, observed, border, weights, lambda done: report("start", done / frames), evidence.predicted)
        kept = _Kept(1, state, border, np.array(weights.border), np.array(weights.border_precision))
        _save(store, digest, kept)
    clip = Clip(model, observed, kept.state, kept.border, evidence.focal_range)
    weights = dataclasses.replace(
        weights, border=jnp.asarray(kept.expected), border_precision=jnp.asarray(kept.precision)
    )
    for stage in range(kept.stage, stages):
        if stage == 1:
            clip.solve(weights, _FIRST_ITERATIONS)
            _sharpen(clip, evidence)
            clip.solve(weights, _FIRST_ITERATIONS)
        else:
            speed, iterations = _ROUNDS[stage - 2]
            _sharpen(clip, evidence)
            if settings.ground:
                weights = _plant(clip, weights, evidence, speed, first=stage == 2)
            clip.solve(weights, iterations)
        report("fit", stage / (stages - 1))
        _save(
            store,
            digest,
            _Kept(stage + 1, clip.state, clip.border, np.array(weights.border), np.array(weights.border_precision)),
        )
    return clip


def _cameras(evidence: Evidence) -> np.ndarray:
    """(T, 3, 3) float32; the identity for a camera that stood still."""
    if evidence.camera is None:
        return np.tile(np.eye(3, dtype=np.float32), (len(evidence.points), 1, 1))
    return np.asarray(evidence.camera, np.float32)


def apparent_size(points: np.ndarray, score: np.ndarray) -> float:
    """How large the person is: the median over frames of the diagonal of the box around what is seen, at least 1."""
    sizes = [
        np.linalg.norm(np.ptp(frame[seen, :2], axis=0)) for frame, seen in zip(points, sure(score)) if seen.sum() >= 4
    ]
    return float(max(np.median(sizes), 1.0)) if sizes else 100.0


def sure(score: np.ndarray) -> np.ndarray:
    """Which points are seen and not guessed: those above `_SURE`, or all with a score where none is."""
    return score > _SURE if (score > _SURE).any() else score > 0


def make_weights(prior: PosePrior, evidence: Evidence, settings: FitSettings) -> Weights:
    """The strengths of the terms."""
    expected, precision = np.zeros(NUM_BORDER), np.zeros(NUM_BORDER)
    precision[BETAS] = _SHAPE + settings.shape_growth * int(evidence.valid.sum())
    if evidence.predicted is not None:
        betas, firmly = evidence.predicted.shape()
        expected[BETAS] = firmly * betas / (precision[BETAS] + firmly)
        precision[BETAS] += firmly
    precision[FOCAL] = 1e12 if evidence.focal_range == (0.0, 0.0) else 1 / _FOCAL_SPREAD**2
    expected[TILT] = [0.06, 0.0]
    precision[TILT] = [1 / 0.12**2, 1 / 0.03**2]
    precision[GROUND] = 1e-2
    expected[GROUND] = 1.0
    values = {
        "mean": prior.mean,
        "factor": prior.factor,
        "low": prior.low,
        "high": prior.high,
        "limit": 20.0,
        "acceleration": _SMOOTHNESS * evidence.fps**2 / prior.acceleration,
        "border": expected,
        "border_precision": precision,
        "skating": evidence.fps / 24 / 0.008,
        "height": 1 / 0.06,
        "collision": 5.0,
        "torso": [0.15, 0.11],
    }
    return Weights(**{name: jnp.asarray(value, jnp.float32) for name, value in values.items()})


_posed = jax.jit(pose)


def posed_frames(model: PointModel, state: State, betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (T, K, 3) and joints (T, 24, 3), compiled once for any number of frames."""
    found = []
    shape = jnp.asarray(betas, jnp.float32)
    for first in range(0, len(state.vector), PIECE):
        part = jax.tree.map(lambda array, first=first: np.asarray(array)[first : first + PIECE], state)
        count = len(part.vector)
        padded = jax.tree.map(
            lambda array, count=count: np.concatenate([array, np.repeat(array[-1:], PIECE - count, axis=0)]), part
        )
        posed = _posed(model, jnp.asarray(padded.vector), jnp.asarray(padded.root), shape)
        found.append([np.asarray(array)[:count] for array in (posed.points, posed.joints)])
    points, joints = (np.concatenate(parts) for parts in zip(*found))
    return points, joints


def _projected(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Points (T, K, 3) in the world, and as `Evidence.points` has them."""
    points, _ = posed_frames(clip.model, clip.state, clip.border[BETAS])
    focal = np.asarray(clip.observed.focal)[:, None, None] * np.exp(clip.border[FOCAL])
    seen = np.asarray(before_camera(clip.observed.camera, points))
    flat = focal * seen[..., :2] / np.maximum(seen[..., 2:], 0.1)
    flat = np.concatenate([flat, np.zeros_like(flat[..., :1])], axis=-1)
    return points, np.where(focal == 0, seen, flat)


def _sharpen(clip: Clip, evidence: Evidence) -> None:
    """Takes each point's error from how far it was missed so far: detectors see wrists better than hips."""
    _, seen_at = _projected(clip)
    missed = np.linalg.norm(seen_at - evidence.points, axis=-1)
    seen = sure(evidence.score)
    # The median distance is 1.18 sigma in the plane, 1.54 in space; the fit has followed the errors a little.
    median = 1.02 if evidence.focal.any() else 1.34
    overall = np.median(missed[seen]) / median
    sigma = np.full(evidence.score.shape[1], overall)
    for point in range(len(sigma)):
        count = int(seen[:, point].sum())
        if count:
            own = np.median(missed[seen[:, point], point]) / median
            sigma[point] = np.sqrt((20 * overall**2 + count * own**2) / (20 + count))
    sigma = np.clip(sigma, _LEAST * evidence.size, _MOST * evidence.size)
    clip.observed = dataclasses.replace(clip.observed, precision=(evidence.score / sigma**2).astype(np.float32))


def _plant(clip: Clip, weights: Weights, evidence: Evidence, speed: float, first: bool) -> Weights:
    """Sets which feet are planted, from the state; the first time it finds the ground and settles shape and focal."""
    points, _ = _projected(clip)
    feet = points[:, -NUM_FEET:]
    planted = planted_feet(feet, evidence.fps, speed, evidence.valid, evidence.camera)
    up = np.asarray(up_direction(jnp.asarray(clip.border[TILT], jnp.float32)))
    if first:
        expected, precision = np.array(weights.border), np.array(weights.border_precision)
        settled = np.r_[BETAS, FOCAL]
        expected[settled], precision[settled] = clip.border[settled], 1e12
        height = ground_height(feet, standing_feet(planted), up)
        if height is not None:
            clip.border[GROUND] = expected[GROUND] = height
        weights = dataclasses.replace(weights, border=jnp.asarray(expected), border_precision=jnp.asarray(precision))
    standing = standing_feet(planted, feet @ up + clip.border[GROUND])
    clip.observed = dataclasses.replace(clip.observed, planted=planted, standing=standing.astype(np.float32))
    return weights


def _fit(clip: Clip, evidence: Evidence, motion: Motion) -> Fit:
    _, seen_at = _projected(clip)
    seen = sure(evidence.score)
    missed = np.linalg.norm(seen_at - evidence.points, axis=-1)
    errors = np.array([np.median(one[some]) if some.any() else 0 for one, some in zip(missed, seen)], np.float32)
    joints = posed_frames(clip.model, clip.state, clip.border[BETAS])[1]
    return Fit(motion, errors, np.asarray(clip.observed.planted), float(motion.focal[0]), joints)


def _motion(
    clip: Clip, source: Keypoints | Joints3D, body: BodyModel, focal: np.ndarray, keypoints: np.ndarray | None
) -> Motion:
    vectors = np.asarray(clip.state.vector)[:, JOINTS].reshape(-1, 23, 3)
    joints = np.asarray(rotation(jnp.asarray(vectors, jnp.float32)))
    return Motion.create(
        np.concatenate([np.asarray(clip.state.root)[:, None], joints], axis=1),
        clip.border[BETAS],
        np.asarray(clip.state.vector)[:, TRANSLATION],
        focal,
        source.image_size,
        source.fps,
        body.space,
        valid=source.valid,
        keypoints=keypoints,
        source="the fitted motion",
    )


@dataclasses.dataclass(frozen=True)
class _Kept:
    """A fit between two stages."""

    stage: int
    state: State
    border: np.ndarray
    expected: np.ndarray
    precision: np.ndarray


def _digest(evidence: Evidence, model: PointModel, settings: FitSettings) -> str:
    """What a stored fit must have been made of to be gone on with."""
    whole = hashlib.blake2b(digest_size=16)
    given = dataclasses.replace(evidence, predicted=None)
    leaves = [*jax.tree.leaves(model), *(value for value in vars(given).values() if value is not None)]
    if evidence.predicted is not None:
        leaves += [evidence.predicted.starts(), evidence.predicted.roots(), *evidence.predicted.shape()]
    leaves += [settings.ground, settings.shape_growth, 0 if settings.prior is None else settings.prior.mean]
    for leaf in leaves:
        array = np.ascontiguousarray(leaf)
        whole.update(f"{array.shape}{array.dtype}".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()


def _save(store: str | os.PathLike | None, digest: str, kept: _Kept) -> None:
    if store is None:
        return
    with atomic_path(store) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            digest=digest,
            stage=kept.stage,
            vector=np.asarray(kept.state.vector),
            root=np.asarray(kept.state.root),
            border=kept.border,
            expected=kept.expected,
            precision=kept.precision,
        )


def _load(store: str | os.PathLike | None, digest: str, frames: int) -> _Kept | None:
    """The stored stage of this very fit, or None: whatever else is there is made again."""
    if store is None or not Path(store).is_file():
        return None
    try:
        with open_npz(store) as (names, read):
            arrays = {name: read(name) for name in names}
        if str(arrays["digest"]) != digest:
            return None
        state = State(arrays["vector"].reshape(frames, -1), arrays["root"].reshape(frames, 3, 3))
        shared = (arrays[name].reshape(NUM_BORDER) for name in ("border", "expected", "precision"))
        return _Kept(int(arrays["stage"]), state, *shared)
    except (InputError, KeyError, ValueError, TypeError):
        return None
