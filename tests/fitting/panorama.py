"""Pictures of a textured surrounding, seen by a camera that turns and zooms; a person may stand before it."""

import numpy as np
from PIL import Image
from scipy.ndimage import map_coordinates, zoom

from champ_jax.body.rotations import rotation_about

_RESOLUTION = 10  # texture px a degree
_WIDE, _HIGH = 160, 90  # degrees


def texture(seed: int = 0, contrast: float = 1.0) -> np.ndarray:
    """Gray noise of many sizes over azimuth and elevation."""
    rng = np.random.default_rng(seed)
    height, width = _HIGH * _RESOLUTION, _WIDE * _RESOLUTION
    whole = np.zeros((height, width))
    for cell in (6, 15, 40, 120):
        rough = rng.normal(0, 1, (height // cell + 2, width // cell + 2))
        whole += zoom(rough, cell, order=1)[:height, :width]
    return np.clip(128 + contrast * 35 * whole, 0, 255)


def path_of(pan: np.ndarray, tilt: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """(T, 3, 3) world-to-camera rotations from degrees; pan to the right."""
    return np.stack(
        [
            rotation_about("z", np.radians(c))
            @ rotation_about("x", np.radians(b))
            @ rotation_about("y", np.radians(-a))
            for a, b, c in zip(pan, tilt, roll)
        ]
    )


def look(surrounding: np.ndarray, rotation: np.ndarray, focal: float, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8: what a camera sees. rotation: (3, 3) world-to-camera; size: (W, H)."""
    width, height = size
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    rays = np.stack([x / focal, y / focal, np.ones_like(x)], axis=-1) @ rotation  # R^T from the left
    azimuth = np.degrees(np.arctan2(rays[..., 0], rays[..., 2]))
    elevation = np.degrees(np.arctan2(rays[..., 1], np.hypot(rays[..., 0], rays[..., 2])))
    places = [(elevation + _HIGH / 2) * _RESOLUTION, (azimuth + _WIDE / 2) * _RESOLUTION]
    gray = map_coordinates(surrounding, places, order=1, mode="nearest")
    return np.repeat(gray.astype(np.uint8)[..., None], 3, axis=-1)


def with_person(picture: np.ndarray, box: np.ndarray, seed: int) -> np.ndarray:
    """A patch of its own noise in a box left, top, right, bottom, which tells nothing of the camera."""
    picture = picture.copy()
    left, top, right, bottom = (max(round(float(edge)), 0) for edge in box)
    noise = np.random.default_rng(seed).integers(0, 255, (4, 3, 3), np.uint8)
    patch = Image.fromarray(noise).resize((max(right - left, 1), max(bottom - top, 1)))
    area = picture[top:bottom, left:right]
    area[:] = np.asarray(patch)[: area.shape[0], : area.shape[1]]
    return picture
