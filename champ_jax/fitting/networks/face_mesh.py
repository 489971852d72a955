"""MediaPipe's face mesh: 468 points of the face that fills a picture."""

import jax

from champ_jax.fitting.networks.layers import Weights, conv, dense, fit_channels, max_pool, prelu, separable

SIZE = 192
"""The side of the pictures, px; their values are 0 .. 1."""

POINTS = 468
STAGES = 5
"""Stages of two residual blocks, each but the first after a halving."""


def face_mesh(w: Weights, pictures: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Finds the points of a face.

    Args:
      w: the weights.
      pictures: (B, 192, 192, 3), 0 .. 1, the face upright.

    Returns:
      (B, 468, 3) x and y in pixels and depth; (B,) the probability that the picture shows a face.
    """
    x = prelu(w["stem_prelu"], conv(w["stem"], pictures, 2, "same"))
    for index in range(STAGES):
        stage = w[f"stage{index}"]
        if index:
            x = _halve(stage["down"], x)
        x = _residual(stage["residual1"], _residual(stage["residual0"], x))
    points = _residual(w["points"]["residual1"], _residual(w["points"]["residual0"], _halve(w["points"]["down"], x)))
    presence = _halve(w["presence"]["down"], x)
    return _head(w["points"], points).reshape(-1, POINTS, 3), jax.nn.sigmoid(_head(w["presence"], presence)[:, 0])


def _head(w: Weights, x: jax.Array) -> jax.Array:
    x = prelu(w["reduce_prelu"], dense(w["reduce"], x))
    return conv(w["out"], _residual(w["residual"], x))[:, 0, 0]


def _residual(w: Weights, x: jax.Array) -> jax.Array:
    return prelu(w["prelu"], x + separable(w, x))


def _halve(w: Weights, x: jax.Array) -> jax.Array:
    y = separable(w, x, 2)
    return prelu(w["prelu"], fit_channels(max_pool(x), y.shape[-1]) + y)
