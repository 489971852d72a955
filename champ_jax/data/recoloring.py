"""Other colors for a training sample: as many more people as there are colors, for a dataset that has few."""

import numpy as np

HUE = 180.0
"""Degrees that hues turn at most, either way."""

SATURATION = (0.5, 1.3)
BRIGHTNESS = (0.8, 1.15)
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def draw_recoloring(rng: np.random.Generator) -> np.ndarray:
    """A random change of colors: hues turn, saturation and brightness are scaled.

    A turn is about the gray axis of RGB, which keeps grays as they are.

    Returns:
      (3, 3) float64; a color c becomes c @ matrix.
    """
    angle = np.deg2rad(rng.uniform(-HUE, HUE))
    saturation, brightness = rng.uniform(*SATURATION), rng.uniform(*BRIGHTNESS)
    # Rodrigues' formula for the axis (1, 1, 1) / sqrt(3), transposed for colors that are rows.
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    gray = np.outer(_LUMA, np.ones(3))
    return brightness * turn.T @ (gray + saturation * (np.eye(3) - gray))


def recolor(pictures: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Pictures in other colors.

    Args:
      pictures: (..., 3) uint8.
      matrix: (3, 3), of `draw_recoloring`.

    Returns:
      (..., 3) uint8, clipped to 0 ... 255.
    """
    changed = pictures.astype(np.float32) @ matrix.astype(np.float32)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)
