"""The skeleton of the body itself: its points projected, the driver's face and hands carried onto them."""

import numpy as np
from jaxtyping import Float, Num

from champ_jax.conditions.rasterizer import NEAR
from champ_jax.conditions.skeleton import BODY, FACE, LEFT_HAND, NUM_KEYPOINTS, RIGHT_HAND, SCORE_THRESHOLD

NOSE, RIGHT_ELBOW, RIGHT_WRIST, LEFT_ELBOW, LEFT_WRIST = 0, 3, 4, 6, 7
RIGHT_EAR, LEFT_EAR = 16, 17
HEAD = (NOSE, 14, 15, RIGHT_EAR, LEFT_EAR)

# A point of the head counts as seen while the direction to it from between the ears turns away from the camera by less
# than this cosine: ears go at 24 degrees of yaw, the far eye in profile, the nose when the face is well turned away.
_TURNED_AWAY = 0.4

# Few or close points determine turn and size poorly; this share of the body's extent is what it takes to be believed.
_BELIEF = 0.05


def body_skeleton(
    points: Float[np.ndarray, "frames 18 3"],
    focal: Float[np.ndarray, " frames"],
    image_size: Num[np.ndarray, "2"],
    driver: Float[np.ndarray, "frames 134 3"] | None = None,
) -> Float[np.ndarray, "frames 134 3"]:
    """Whole-body key points of posed bodies.

    Body points are the body's own. The driver's face moves with the head (a similarity fitted to nose, eyes and ears),
    each hand with its wrist (placed at the wrist, turned and scaled as the forearm); where the head or forearm says
    too little, they are scaled as the whole body and not turned. Feet get score 0: they are never drawn.

    Args:
      points: (T, 18, 3) body points in OpenPose's order, meters, camera space.
      focal: (T,) px.
      image_size: (2,) [W, H].
      driver: (T, 134, 3) the driver's own key points (x, y, score; px), which `points` may lie elsewhere than.

    Returns:
      (T, 134, 3) float32 x px, y px, score: 1 for a visible body point, 0 for one behind the camera or on the far side
      of the head; the driver's own scores for face and hands.
    """
    points = np.asarray(points, np.float64)
    before = points[..., 2] >= NEAR
    z = np.where(before, points[..., 2], 1)
    position = np.asarray(image_size) / 2 + np.asarray(focal)[:, None, None] * points[..., :2] / z[..., None]
    position[~before] = 0
    result = np.zeros((len(points), NUM_KEYPOINTS, 3), np.float32)
    result[:, BODY, :2] = position
    result[:, BODY, 2] = before & _facing(points)
    if driver is None:
        return result
    driver = np.asarray(driver, np.float64)
    xy, score = driver[:, BODY, :2], driver[:, BODY, 2]
    seen = (score > SCORE_THRESHOLD) & before
    scale, extent = _relative_size(xy, position, seen)
    for group, fitted, anchored in (
        (FACE, HEAD, HEAD),
        (LEFT_HAND, (LEFT_ELBOW, LEFT_WRIST), (LEFT_WRIST,)),
        (RIGHT_HAND, (RIGHT_ELBOW, RIGHT_WRIST), (RIGHT_WRIST,)),
    ):
        weight = seen[:, anchored].astype(np.float64)
        known = weight.sum(axis=1) > 0
        weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1)
        source = np.einsum("tk,tkc->tc", weight, xy[:, anchored])
        target = np.einsum("tk,tkc->tc", weight, position[:, anchored])
        turn = _similarity(
            xy[:, fitted] - source[:, None], position[:, fitted] - target[:, None], seen[:, fitted], scale, extent
        )
        carried = turn[:, None] * _complex(driver[:, group, :2] - source[:, None])
        result[:, group, :2] = np.stack([carried.real, carried.imag], axis=-1) + target[:, None]
        result[:, group, 2] = np.where(known[:, None], driver[:, group, 2], 0)
    return result


def _facing(points: np.ndarray) -> np.ndarray:
    """Which of the 18 body points lie on the near side of the head; those not of the head always do."""
    center = (points[:, RIGHT_EAR] + points[:, LEFT_EAR])[:, None] / 2
    head = points[:, HEAD]
    outward = head - center
    lengths = np.linalg.norm(outward, axis=-1) * np.linalg.norm(head, axis=-1)
    facing = np.ones(points.shape[:2], bool)
    facing[:, HEAD] = np.sum(outward * head, axis=-1) <= _TURNED_AWAY * lengths
    return facing


def _relative_size(source: np.ndarray, target: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much larger `target` (T, 18, 2) is than `source` over the points seen (1 for fewer than two), and the
    extent (T,) of `source`: the root mean square distance from the middle, in px."""
    weight = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1)
    extents = []
    for points in (source, target):
        middle = np.einsum("tk,tkc->tc", weight, points)
        extents.append(np.sqrt(np.einsum("tk,tkc->t", weight, (points - middle[:, None]) ** 2)))
    known = (extents[0] > 0) & (extents[1] > 0)
    return np.where(known, extents[1] / np.where(known, extents[0], 1), 1), extents[0]


def _similarity(
    source: np.ndarray, target: np.ndarray, seen: np.ndarray, scale: np.ndarray, extent: np.ndarray
) -> np.ndarray:
    """The turn and scale (T,), as complex numbers, that best take `source` (T, K, 2) to `target`, drawn towards
    `scale` without a turn where the points lie close together."""
    belief = np.maximum((_BELIEF * extent) ** 2, 1e-6)
    p, q = (np.where(seen, _complex(points), 0) for points in (source, target))
    return ((p.conj() * q).sum(axis=1) + belief * scale) / ((np.abs(p) ** 2).sum(axis=1) + belief)


def _complex(points: np.ndarray) -> np.ndarray:
    return points[..., 0] + 1j * points[..., 1]
