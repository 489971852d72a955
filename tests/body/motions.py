"""Random motions for the tests."""

import numpy as np
from bodies import random_rotations

from champ_jax.body.motion import Motion


def random_motion(frames: int = 6, seed: int = 0, keypoints: bool = False, **changes) -> Motion:
    rng = np.random.default_rng(seed)
    fields = {
        "rotations": random_rotations((frames, 24), seed),
        "betas": rng.normal(size=10),
        "translation": rng.normal(size=(frames, 3)) + np.array([0, 0, 40]),
        "focal": 5000.0,
        "image_size": [320, 240],
        "fps": 25,
        "body": "open",
        "keypoints": rng.uniform(0, 240, (frames, 134, 3)) * [1, 1, 1 / 240] if keypoints else None,
    }
    return Motion.create(**(fields | changes))
