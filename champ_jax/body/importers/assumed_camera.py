"""A camera for motions that come from a world without one."""

import numpy as np

from champ_jax.body.cameras import hmr2_focal
from champ_jax.body.motion import MEAN_PELVIS

# How far the body reaches from the pelvis, meters: to the sides, up (raised arms) and down.
_REACH = np.array([0.9, 1.2, 1.1])
_FILL = 0.92  # share of the picture


def place_before_camera(
    rotations: np.ndarray, world: np.ndarray, up: np.ndarray, space: str, image_size: np.ndarray, focal: float | None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Puts a level camera in front of the person as he or she stands at the start, so far off that all of it fits.

    Args:
      rotations: (T, 24, 3, 3), the root relative to the world. world: (T, 3) translations. up: (3,) of the world.
      focal: px; HMR2's by default, on which Champ was trained.

    Returns:
      rotations with the root relative to the camera, translation (T, 3), focal px.
    """
    pelvis = np.array(MEAN_PELVIS[space])
    facing = rotations[0, 0] @ np.array([0.0, 0.0, 1.0])
    facing = facing - up * (facing @ up)
    if np.linalg.norm(facing) < 1e-3:  # lying: the top of the head then serves
        facing = rotations[0, 0] @ np.array([0.0, 1.0, 0.0])
        facing = facing - up * (facing @ up)
    forward, down = -facing / np.linalg.norm(facing), -up
    camera = np.stack([np.cross(down, forward), down, forward])
    path = (world + pelvis) @ camera.T
    low, high = path.min(axis=0), path.max(axis=0)
    low = low - np.array([_REACH[0], _REACH[1], 0])
    high = high + np.array([_REACH[0], _REACH[2], 0])
    pixels = hmr2_focal(image_size) if focal is None else focal
    depth = float(np.max(pixels * (high - low)[:2] / (_FILL * np.asarray(image_size))))
    center = (low + high) / 2
    center[2] = low[2] - depth  # the nearest frame is `depth` away
    turned = rotations.copy()
    turned[:, 0] = camera @ rotations[:, 0]
    return turned, path - center - pelvis, pixels
