"""From where MediaPipe sees a joint to where the body has it: a correction that synthetic people teach.

MediaPipe's hip, shoulder or heel is not the body's: one is a place that people click on, the other the center of a
joint. The difference is fixed in the body, so in a picture it is a sum of a few directions that the other points give,
each times a number that `tools/learn_point_bias.py` finds on people whose bodies are known
(assets/pose_networks/point_bias.json): the neighboring limbs, and the body's own axes (to its left, up, ahead) at the
size that it has in the picture. A joint and its mirror image share their numbers.
"""

import functools
import json
from collections.abc import Mapping, Sequence

import numpy as np

from champ_jax.fitting.landmarks import Bodies
from champ_jax.fitting.networks.weights import FOLDER
from champ_jax.fitting.whole_body import FEET

POINTS = FEET.stop
"""The points that are corrected: the body's and the feet's, 0-23."""

# fmt: off
JOINTS = {
    "nose": 0, "neck": 1, "shoulder": 2, "elbow": 3, "wrist": 4, "hip": 8, "knee": 9, "ankle": 10, "eye": 14, "ear": 16,
    "big_toe": 21, "small_toe": 22, "heel": 23,
}
"""Name: number among the 134 of the middle or right one."""

MIRRORED = np.array([0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16, 21, 22, 23, 18, 19, 20])
"""Of every point the one that a mirror shows in its place."""

_LIMBS = {
    "nose": ((1, 0), (16, 0)), "neck": ((8, 2),), "eye": ((16, 17), (1, 0), (16, 0)),
    "ear": ((16, 17), (1, 0), (16, 0)), "shoulder": ((2, 5), (2, 8), (2, 3)), "elbow": ((2, 3), (3, 4)),
    "wrist": ((3, 4),), "hip": ((8, 11), (8, 2), (8, 9)), "knee": ((8, 9), (9, 10)),
    "ankle": ((9, 10), (10, 21), (10, 23)), "big_toe": ((9, 10), (10, 21), (10, 23)),
    "small_toe": ((9, 10), (10, 21), (10, 23)), "heel": ((9, 10), (10, 21), (10, 23)),
}
"""Directions from one of the 134 points to another, for the right joint; of a middle one, with their mirror images."""
# fmt: on

_LEFT_SHOULDER, _RIGHT_SHOULDER, _LEFT_HIP, _RIGHT_HIP = 11, 12, 23, 24  # of MediaPipe's 33
_SIZED_BY = [_LEFT_SHOULDER, _RIGHT_SHOULDER, _LEFT_HIP, _RIGHT_HIP, 25, 26, 27, 28, 13, 14]
_ROUNDS = 8  # of the robust fit
_CAUTION = 1e-3  # square meters: keeps the numbers of directions small that the samples can hardly tell apart

Bias = Mapping[str, Sequence[float]]
"""{joint: a number for each of its limbs, and for the body's left (not of a middle joint), up and ahead}."""


@functools.cache
def shipped_bias() -> Bias:
    """The numbers that the package has."""
    return json.loads((FOLDER / "point_bias.json").read_text())


def correct(points: np.ndarray, bodies: Bodies, bias: Bias | None = None) -> np.ndarray:
    """Moves the points of bodies and feet to where the body's own are.

    Args:
      points: (N, 134, 3) x, y, score.
      bodies: what the network saw of the same people.
      bias: the shipped one by default.

    Returns:
      (N, 134, 3); face, hands and scores are as before.
    """
    bias = shipped_bias() if bias is None else bias
    result = np.array(points)
    if not len(points):
        return result
    for name, place, mirrored in joints():
        result[:, place, :2] += directions(points, bodies, name, mirrored) @ np.asarray(bias[name], float)
    return result


def joints() -> list[tuple[str, int, bool]]:
    """(name, number among the 134, whether it is the left one) of all points that are corrected."""
    found = []
    for name, place in JOINTS.items():
        found.append((name, place, False))
        if MIRRORED[place] != place:
            found.append((name, int(MIRRORED[place]), True))
    return found


def directions(points: np.ndarray, bodies: Bodies, name: str, mirrored: bool) -> np.ndarray:
    """(N, 2, F) px: the directions of which a joint's correction is a sum."""
    left, up, ahead = _axes(bodies)
    of_right, of_left = (
        [points[:, end, :2] - points[:, start, :2] for start, end in limbs]
        for limbs in (_LIMBS[name], [(MIRRORED[a], MIRRORED[b]) for a, b in _LIMBS[name]])
    )
    if MIRRORED[JOINTS[name]] == JOINTS[name]:
        return np.stack([*(a + b for a, b in zip(of_right, of_left)), up, ahead], axis=-1)
    return np.stack([*of_left, -left, up, ahead] if mirrored else [*of_right, left, up, ahead], axis=-1)


def pixels_per_meter(bodies: Bodies) -> np.ndarray:
    """(N,) how large the bodies are in the picture; 0 where that cannot be told."""
    seen = bodies.points[:, _SIZED_BY]
    world = _to_picture(bodies, bodies.world[:, _SIZED_BY, :2])
    seen, world = (array - array.mean(axis=1, keepdims=True) for array in (seen, world))
    squares = (world**2).sum(axis=(1, 2))
    scale = (seen * world).sum(axis=(1, 2)) / np.maximum(squares, 1e-9)
    return np.where(np.isfinite(scale), np.maximum(scale, 0), 0)


def learn(samples: Sequence[tuple[np.ndarray, Bodies, np.ndarray]]) -> dict[str, list[float]]:
    """The numbers that correct best, by least squares that outliers hardly move.

    Args:
      samples: points (N, 134, 3) as found, what the network saw, and the true points (N, 134, 3).
    """
    result = {}
    for name in JOINTS:
        rows, targets = [], []
        for points, bodies, truth in samples:
            size = pixels_per_meter(bodies)
            for same, place, mirrored in joints():
                if same != name:
                    continue
                use = (truth[:, place, 2] > 0) & (points[:, place, 2] > 0.1) & (size > 0)
                scale = size[use, None]
                rows.append(directions(points, bodies, name, mirrored)[use] / scale[..., None])
                targets.append((truth[use, place, :2] - points[use, place, :2]) / scale)
        result[name] = [round(float(value), 5) for value in _fit(np.concatenate(rows), np.concatenate(targets))]
    return result


def _fit(rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """x of least |rows (N, 2, F) @ x - targets (N, 2)|, where large differences count by their length (Huber)."""
    count = rows.shape[-1]
    x = np.zeros(count)
    for _ in range(_ROUNDS):
        errors = np.linalg.norm(rows @ x - targets, axis=-1)
        limit = 1.5 * np.median(errors) + 1e-9
        weights = np.sqrt(np.minimum(1, limit / np.maximum(errors, 1e-12)))[:, None]
        a, b = (rows * weights[..., None]).reshape(-1, count), (targets * weights).reshape(-1)
        x = np.linalg.solve(a.T @ a + _CAUTION * len(rows) * np.eye(count), a.T @ b)
    return x


def _axes(bodies: Bodies) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bodies' left, up and ahead in the picture, (N, 2) px a meter each."""
    world = bodies.world
    left = _unit(world[:, _LEFT_HIP] - world[:, _RIGHT_HIP])
    hips, shoulders = (
        (world[:, a] + world[:, b]) / 2 for a, b in ((_LEFT_HIP, _RIGHT_HIP), (_LEFT_SHOULDER, _RIGHT_SHOULDER))
    )
    up = _unit(shoulders - hips)
    scale = pixels_per_meter(bodies)[:, None]
    flat = _to_picture(bodies, np.stack([left, up, np.cross(left, up)], axis=1)[..., :2]) * scale[:, None]
    return flat[:, 0], flat[:, 1], flat[:, 2]


def _to_picture(bodies: Bodies, vectors: np.ndarray) -> np.ndarray:
    """Vectors (N, K, 2) of the squares, as the picture has them."""
    cos, sin = np.cos(bodies.squares.angle)[:, None], np.sin(bodies.squares.angle)[:, None]
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
