"""The open body as a canvas: canonical coordinates that colors are functions of, and the 134 key points.

Canonical coordinates are those of the mean shape's rest pose (meters, pelvis at the origin, y up, x to the body's left,
facing +z). Every shape has the same vertices, so a look laid out once fits all of them, and unlike UVs the coordinates
have no seams: a stripe runs on from front to back.
"""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from champ_jax.body.smpl import JOINT_NAMES, BodyModel, load_body, rest_joints
from champ_jax.conditions.maps import vertex_normals

BODY, EYE, MOUTH = 0, 1, 2
"""Pieces of the body's mesh: the skin, the eyeballs, the inside of the mouth."""

# 68 points of a face in iBUG's order as (x, y) meters on the canonical head seen from the front; its left half is here
# (the subject's right), the other is its mirror image.
_JAW = ((-0.073, 0.685), (-0.072, 0.665), (-0.068, 0.645), (-0.063, 0.627), (-0.055, 0.609), (-0.045, 0.595),
        (-0.033, 0.585), (-0.017, 0.580), (0.0, 0.578))  # fmt: skip
_BROW = ((-0.052, 0.700), (-0.044, 0.706), (-0.034, 0.708), (-0.024, 0.706), (-0.014, 0.703))
_BRIDGE = ((0.0, 0.700), (0.0, 0.687), (0.0, 0.674), (0.0, 0.661))
_NOSTRILS = ((-0.013, 0.645), (-0.007, 0.643), (0.0, 0.642), (0.007, 0.643), (0.013, 0.645))
_EYE = ((-0.044, 0.689), (-0.035, 0.695), (-0.026, 0.695), (-0.017, 0.688), (-0.026, 0.684), (-0.035, 0.684))
_LIPS = ((-0.025, 0.615), (-0.016, 0.622), (-0.007, 0.626), (0.0, 0.624), (0.007, 0.626), (0.016, 0.622),
         (0.025, 0.615), (0.015, 0.607), (0.008, 0.604), (0.0, 0.603), (-0.008, 0.604), (-0.015, 0.607))  # fmt: skip
_INNER_LIPS = ((-0.021, 0.615), (-0.008, 0.617), (0.0, 0.617), (0.008, 0.617), (0.021, 0.615), (0.008, 0.613),
               (0.0, 0.613), (-0.008, 0.613))  # fmt: skip
# Left hand on the canonical body as (x, z): thumb, index, middle, ring, little finger, each from base to tip.
_WRIST = (0.675, -0.017)
_FINGERS = (
    ((0.700, 0.020), (0.730, 0.042), (0.757, 0.053), (0.780, 0.060)),
    ((0.765, 0.010), (0.800, 0.012), (0.825, 0.013), (0.850, 0.013)),
    ((0.770, -0.014), (0.808, -0.020), (0.832, -0.024), (0.856, -0.026)),
    ((0.763, -0.038), (0.797, -0.046), (0.820, -0.051), (0.840, -0.056)),
    ((0.750, -0.056), (0.775, -0.064), (0.790, -0.069), (0.803, -0.074)),
)
# Big toe, small toe and heel of the left foot as (x, z) on the floor.
_FOOT = ((0.155, 0.160), (0.215, 0.130), (0.135, -0.095))
_NEIGHBORS = 4


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """The open body and where things are on it.

    Attributes:
      body: the open body.
      points: (V, 3) canonical coordinates.
      normals: (V, 3) their normals.
      pieces: (V,) `BODY`, `EYE` or `MOUTH`.
      joints: (24, 3) canonical joints.
      arm: (V,) 0 on the trunk, 1 from the upper arm on.
      landmarks: (116, K) vertices whose mean with `landmark_weights` are the points 18..133 of the 134.
      landmark_weights: (116, K), each row sums to 1.
    """

    body: BodyModel
    points: np.ndarray
    normals: np.ndarray
    pieces: np.ndarray
    joints: np.ndarray
    arm: np.ndarray
    landmarks: np.ndarray
    landmark_weights: np.ndarray


@functools.cache
def load_anatomy() -> Anatomy:
    """The open body's anatomy, made once a process."""
    body = load_body()
    points, faces = np.asarray(body.v_template), np.asarray(body.faces)
    weights = np.asarray(body.weights)
    valence = np.float32(np.bincount(faces.ravel()).max())
    normals = np.asarray(vertex_normals(body.v_template, body.faces, valence))
    pieces = _pieces(len(points), faces)
    arms = [
        JOINT_NAMES.index(f"{side}_{name}")
        for side in ("left", "right")
        for name in ("shoulder", "elbow", "wrist", "hand")
    ]
    landmarks, landmark_weights = _landmarks(points, normals, pieces)
    return Anatomy(
        body=body,
        points=points,
        normals=normals,
        pieces=pieces,
        joints=np.asarray(rest_joints(body, jnp.zeros(10))),
        arm=weights[:, arms].sum(axis=1),
        landmarks=landmarks,
        landmark_weights=landmark_weights,
    )


def _pieces(count: int, faces: np.ndarray) -> np.ndarray:
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = scipy.sparse.coo_matrix((np.ones(len(edges)), tuple(edges.T)), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    sizes = np.bincount(label)
    # The skin is the largest piece; the two eyes are the pair of equal size; the rest lies inside of the mouth.
    kinds = np.full(len(sizes), MOUTH)
    kinds[np.flatnonzero(np.bincount(sizes)[sizes] == 2)] = EYE
    kinds[np.argmax(sizes)] = BODY
    return kinds[label]


def _landmarks(points: np.ndarray, normals: np.ndarray, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Feet, face, left hand and right hand in the order of the 134, as weighted means of near vertices."""
    mirror = np.array([-1.0, 1.0])
    jaw = np.concatenate([_JAW, np.array(_JAW[-2::-1]) * mirror])
    brows = np.concatenate([_BROW, np.array(_BROW[::-1]) * mirror])
    # iBUG goes round both eyes clockwise as seen: the mirrored one starts at its inner corner.
    other = (np.array(_EYE) * mirror)[[3, 2, 1, 0, 5, 4]]
    face = np.concatenate([jaw, brows, _BRIDGE, _NOSTRILS, _EYE, other, _LIPS, _INNER_LIPS])
    skin = pieces == BODY
    head = np.flatnonzero(
        skin & (points[:, 1] > 0.54) & (points[:, 2] > 0.02) & (normals[:, 2] > 0) & (np.abs(points[:, 0]) < 0.09)
    )
    hand = np.array([_WRIST, *(joint for finger in _FINGERS for joint in finger)])
    hands = np.flatnonzero(skin & (points[:, 0] > 0.64))
    foot = np.flatnonzero(skin & (points[:, 1] < -0.8) & (points[:, 0] > 0))
    other_hands = np.flatnonzero(skin & (points[:, 0] < -0.64))
    other_foot = np.flatnonzero(skin & (points[:, 1] < -0.8) & (points[:, 0] < 0))
    chosen = [
        _nearest(points, foot, np.array(_FOOT), (0, 2)),
        _nearest(points, other_foot, np.array(_FOOT) * mirror, (0, 2)),
        _nearest(points, head, face, (0, 1)),
        _nearest(points, hands, hand, (0, 2)),
        _nearest(points, other_hands, hand * [-1, 1], (0, 2)),
    ]
    return np.concatenate([index for index, _ in chosen]), np.concatenate([weight for _, weight in chosen])


def _nearest(
    points: np.ndarray, among: np.ndarray, targets: np.ndarray, axes: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """For each target (K, 2) in the plane of `axes`, the nearest vertices and weights that fall with distance."""
    distance = np.linalg.norm(points[among][None][..., axes] - targets[:, None], axis=-1)
    order = np.argsort(distance, axis=1, kind="stable")[:, :_NEIGHBORS]
    weight = 1 / (np.take_along_axis(distance, order, axis=1) + 1e-3) ** 2
    return among[order], weight / weight.sum(axis=1, keepdims=True)
