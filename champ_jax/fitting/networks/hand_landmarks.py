"""MediaPipe's hand landmarks ("full"): 21 points of the hand that fills a picture."""

import jax

from champ_jax.fitting.networks.layers import Weights, backbone, dense
from champ_jax.fitting.networks.person_detector import STRIDES

SIZE = 224
"""The side of the pictures, px; their values are 0 .. 1."""

POINTS = 21


def hand_landmarks(w: Weights, pictures: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Finds the points of a hand.

    Args:
      w: the weights.
      pictures: (B, 224, 224, 3), 0 .. 1, the fingers up.

    Returns:
      (B, 21, 3) x and y in pixels and depth; (B,) the probability that the picture shows a hand; (B,) that of a right
      hand, if the picture is a mirror's.
    """
    _, top = backbone(w, pictures, STRIDES, "same")
    x = top.mean(axis=(1, 2))
    presence, right = (jax.nn.sigmoid(dense(w[name], x)[:, 0]) for name in ("presence", "right"))
    return dense(w["points"], x).reshape(-1, POINTS, 3), presence, right
