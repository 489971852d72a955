"""The 134 whole-body key points of synthetic people, computed from their bodies."""

import jax.numpy as jnp
import numpy as np

from champ_jax.body.smpl import body_keypoints
from champ_jax.conditions.body_skeleton import LEFT_EAR, RIGHT_EAR, body_skeleton
from champ_jax.conditions.rasterizer import NEAR
from champ_jax.conditions.skeleton import FACE
from champ_jax.data.synthetic.anatomy import load_anatomy

_FIRST_LANDMARK = 18
# Points of the face count as seen while the way to them from between the ears turns away from the camera by no more
# than this cosine.
_TURNED_AWAY = 0.25


def whole_body_keypoints(
    vertices: np.ndarray, joints: np.ndarray, focal: float, image_size: tuple[int, int]
) -> np.ndarray:
    """Projects body, feet, face and hands of open bodies in camera space.

    Args:
      vertices: (T, V, 3) meters.
      joints: (T, 24, 3) meters.
      focal: focal length, px.
      image_size: (width, height), px.

    Returns:
      (T, 134, 3) float32: x px, y px and a score, which is 0 for a point behind the camera or on the far side of the
      head and 1 for all others, also those that other parts of the body or cloth hide.
    """
    anatomy = load_anatomy()
    points = np.asarray(body_keypoints(anatomy.body, jnp.asarray(vertices), jnp.asarray(joints)))
    focals = np.full(len(points), focal, np.float32)
    result = body_skeleton(points, focals, np.array(image_size))
    landmarks = np.einsum("tlkc,lk->tlc", vertices[:, anatomy.landmarks], anatomy.landmark_weights)
    depth = landmarks[..., 2:]
    before = depth[..., 0] >= NEAR
    result[:, _FIRST_LANDMARK:, :2] = np.where(
        before[..., None], np.array(image_size) / 2 + focal * landmarks[..., :2] / np.where(depth < NEAR, 1, depth), 0
    )
    result[:, _FIRST_LANDMARK:, 2] = before
    face = landmarks[:, FACE.start - _FIRST_LANDMARK : FACE.stop - _FIRST_LANDMARK]
    outward = face - points[:, None, [RIGHT_EAR, LEFT_EAR]].mean(axis=2)
    lengths = np.linalg.norm(outward, axis=-1) * np.linalg.norm(face, axis=-1)
    result[:, FACE, 2] *= np.sum(outward * face, axis=-1) <= _TURNED_AWAY * lengths
    return result
