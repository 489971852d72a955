"""When feet are planted: points of the feet that are slow and, once the ground is known, near it."""

import numpy as np

_DEPTH_SHARE = 0.4  # along the camera's axis a monocular fit shakes more than across it
_NEAR = 0.08  # meters above the ground at which a slow foot counts for half


def planted_feet(
    feet: np.ndarray, fps: float, speed: float, valid: np.ndarray, camera: np.ndarray | None = None
) -> np.ndarray:
    """(T, 6) how likely each point of the feet stays where it is until the next frame, 0..1.

    Args:
      feet: (T, 6, 3) meters, in the world.
      fps: frames per second.
      speed: m/s at which a point counts for a quarter.
      valid: (T,) frames in which the person is seen.
      camera: (T, 3, 3) world-to-camera rotations; by default the world is the camera's frame.
    """
    if len(feet) < 2:
        return np.zeros(feet.shape[:2], np.float32)
    velocity = np.diff(feet, axis=0) * fps
    if camera is not None:
        velocity = np.einsum("tab,tkb->tka", camera[1:], velocity)
    velocity = velocity * [1, 1, _DEPTH_SHARE]
    velocity = _smooth(velocity)
    square = np.sum(velocity**2, axis=-1) / speed**2
    weight = 1 / (1 + square) ** 2 * (valid[1:] & valid[:-1])[:, None]
    return np.concatenate([weight, np.zeros((1, feet.shape[1]))]).astype(np.float32)


def standing_feet(planted: np.ndarray, heights: np.ndarray | None = None) -> np.ndarray:
    """(T, 6) how much each point of the feet is on the ground, 0..1.

    Args:
      planted: (T, 6) as `planted_feet` gives it.
      heights: (T, 6) meters above the ground, or None where it is not known yet.
    """
    either = np.maximum(planted, np.concatenate([planted[:1] * 0, planted[:-1]]))
    if heights is None:
        return either
    return (either / (1 + (heights / _NEAR) ** 2) ** 2).astype(np.float32)


def ground_height(feet: np.ndarray, standing: np.ndarray, up: np.ndarray) -> float | None:
    """How far below the camera the ground is: the weighted median over standing feet, or None where none stands."""
    weight, below = standing.ravel(), -(feet @ up).ravel()
    if weight.sum() < 1:
        return None
    order = np.argsort(below)
    total = np.cumsum(weight[order])
    return float(below[order][np.searchsorted(total, total[-1] / 2)])


def _smooth(values: np.ndarray) -> np.ndarray:
    """Means over three frames."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3
