"""The networks, compiled once each for batches of one size."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from champ_jax.fitting.networks import face_mesh, hand_landmarks, hand_recrop, person_detector, pose_landmarks
from champ_jax.fitting.networks.layers import Weights
from champ_jax.fitting.networks.weights import load_weights

BATCH = 8
"""Pictures a call; fewer are filled up with black ones."""


class Program:
    """A network on the default device.

    Attributes:
      size: the side of its pictures, px.
      lowest: what it takes for black, 0 or -1; white is 1.
    """

    def __init__(self, name: str, size: int, function: Callable[[Weights, jax.Array], Any], lowest: float = 0):
        """
        Args:
          name: of the weights.
          size: the side of its pictures, px.
          function: takes the weights and pictures (B, size, size, 3); returns an array of B rows, or several.
          lowest: what it takes for black.
        """
        self.size, self.lowest = size, lowest
        self._weights = jax.device_put(load_weights(name))
        scale = (1 - lowest) / 255
        self._run = jax.jit(lambda weights, pictures: function(weights, pictures.astype(jnp.float32) * scale + lowest))

    def __call__(self, pictures: np.ndarray) -> list[np.ndarray]:
        """The network's outputs for uint8 pictures (N, size, size, 3), each with N rows."""
        count = len(pictures)
        filled = np.zeros((max(-(-count // BATCH), 1) * BATCH, self.size, self.size, 3), np.uint8)
        filled[:count] = pictures
        parts = []
        for at in range(0, len(filled), BATCH):
            outputs = jax.device_get(self._run(self._weights, filled[at : at + BATCH]))
            parts.append(outputs if isinstance(outputs, tuple) else (outputs,))
        return [np.concatenate(values)[:count] for values in zip(*parts)]


@functools.cache
def programs() -> dict[str, Program]:
    """The five networks by name; each is compiled when it first runs."""
    return {
        "person_detector": Program("person_detector", person_detector.SIZE, person_detector.person_detector, -1),
        "pose_landmarks": Program("pose_landmarks", pose_landmarks.SIZE, pose_landmarks.pose_landmarks),
        "hand_landmarks": Program("hand_landmarks", hand_landmarks.SIZE, hand_landmarks.hand_landmarks),
        "hand_recrop": Program("hand_recrop", hand_recrop.SIZE, hand_recrop.hand_recrop),
        "face_mesh": Program("face_mesh", face_mesh.SIZE, face_mesh.face_mesh),
    }
