"""MediaPipe's points as the 134 whole-body key points of this project."""

import numpy as np

from champ_jax.body.motion import NUM_KEYPOINTS
from champ_jax.conditions.skeleton import FACE, LEFT_HAND, RIGHT_HAND

NECK, RIGHT_SHOULDER, LEFT_SHOULDER = 1, 2, 5

BODY_SOURCES = (0, -1, 12, 14, 16, 11, 13, 15, 24, 26, 28, 23, 25, 27, 5, 2, 8, 7)
"""Of every body point in OpenPose's order its number among MediaPipe's 33; the neck (-1) has none."""

FEET = slice(18, 24)
FEET_SOURCES = (31, 31, 29, 32, 32, 30)
"""Big toe, small toe and heel of the left and the right foot; MediaPipe has one point for the toes."""

# fmt: off
FACE_SOURCES = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # from right ear to left
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,  # lips
)
# fmt: on
"""Of the 68 points of the face their numbers among the mesh's 468."""


def whole_body(points: np.ndarray, scores: np.ndarray, hands: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The 134 key points.

    Args:
      points: (N, 39, 2) px of bodies, scores: (N, 39).
      hands: (N, 2, 21, 3) x, y, score of the left and right one.
      faces: (N, 468, 3).

    Returns:
      (N, 134, 3) x, y, score.
    """
    result = np.zeros((len(points), NUM_KEYPOINTS, 3))
    bodies = np.concatenate([points, scores[..., None]], axis=-1)
    result[:, : FEET.stop] = bodies[:, BODY_SOURCES + FEET_SOURCES]
    shoulders = result[:, (RIGHT_SHOULDER, LEFT_SHOULDER)]
    result[:, NECK, :2] = shoulders[..., :2].mean(axis=1)
    result[:, NECK, 2] = shoulders[..., 2].min(axis=1)
    result[:, FACE] = faces[:, FACE_SOURCES]
    result[:, LEFT_HAND], result[:, RIGHT_HAND] = hands[:, 0], hands[:, 1]
    return result
