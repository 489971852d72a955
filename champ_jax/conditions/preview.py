"""A shaded body over a picture, for the eye: what a motion looks like in front of the camera."""

import numpy as np
from jaxtyping import UInt8

# Towards the light in camera axes: from above, the left and the viewer's side.
_LIGHT = np.array([-0.35, -0.55, -0.75]) / np.linalg.norm([-0.35, -0.55, -0.75])
_AMBIENT = 0.3
_SKIN = np.array([214, 186, 170], np.float32)
_OPACITY = 0.85


def preview(
    normal: UInt8[np.ndarray, "height width 3"], picture: UInt8[np.ndarray, "height width 3"] | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Shades a body from its normal map.

    Args:
      normal: (H, W, 3) uint8 normal map, 0 where there is no body.
      picture: (H, W, 3) uint8 to show it over, dark gray by default.

    Returns:
      (H, W, 3) uint8.
    """
    vectors = (normal.astype(np.float32) * (2 / 255) - 1) * np.array([1, -1, -1], np.float32)
    light = _AMBIENT + (1 - _AMBIENT) * np.clip(vectors @ _LIGHT.astype(np.float32), 0, 1)
    behind = np.full(normal.shape, 32, np.float32) if picture is None else picture.astype(np.float32)
    shaded = behind + _OPACITY * (light[..., None] * _SKIN - behind)
    return np.where(normal.any(axis=-1, keepdims=True), shaded, behind).astype(np.uint8)
