"""Clips of synthetic people with key points, as the fit's tests take them."""

import numpy as np

from champ_jax.body.motion import Motion
from champ_jax.data.synthetic.one_video import Settings, VideoName, draw_take
from champ_jax.fitting.keypoints import Keypoints

FULL_SHOTS = (1, 2)
"""Numbers of clips that show all of the body."""


def clip(
    number: int = FULL_SHOTS[0], frames: int = 40, noise: float = 1.0, focal: bool = True
) -> tuple[Motion, Keypoints]:
    """A clip's true motion at 512x512, and its key points with some px of noise."""
    truth = draw_take(Settings(seed=7103, size=(512, 512), frames=frames), VideoName("test", number, number)).motion
    points = truth.keypoints.copy()
    points[..., :2] += np.random.default_rng(number).normal(0, noise, points[..., :2].shape)
    return truth, Keypoints.create(points, truth.image_size, truth.fps, focal=truth.focal if focal else None)
