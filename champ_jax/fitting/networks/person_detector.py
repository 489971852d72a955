"""MediaPipe's person detector: where people are in a picture, with four points that say how each of them is turned."""

import jax
import jax.numpy as jnp

from champ_jax.fitting.networks.layers import (
    Weights,
    backbone,
    dense,
    depth_to_space,
    relu6,
    separable,
    upsample,
)

SIZE = 224
"""The side of the pictures, px; their values are -1 .. 1."""

ANCHORS = ((28, 2), (14, 2), (7, 6))
"""(side, anchors a cell) of the grids, in the order of the outputs."""

STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1)
_TAPS = (4, 10)  # the blocks whose outputs the decoder looks at


def person_detector(w: Weights, pictures: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Detects people.

    Args:
      w: the weights.
      pictures: (B, 224, 224, 3), -1 .. 1.

    Returns:
      (B, 2254, 12) the center x and y, width and height of a box and x and y of four points, in pixels, all but the
      size relative to the middle of the anchor's cell; (B, 2254) scores before the sigmoid.
    """
    outputs, x = backbone(w, pictures, STRIDES, "symmetric")
    levels = [depth_to_space(x)]
    for side, block in zip((14, 28), reversed(_TAPS)):
        level = w[f"up{side}"]
        x = relu6(separable(level["lateral"], outputs[block])) + relu6(dense(level["above"], upsample(x)))
        for residual in ("residual0", "residual1"):
            x = relu6(x + separable(level[residual], x))
        levels.append(depth_to_space(x))
    found = [_head(w[f"head{side}"], features) for features, (side, _) in zip(reversed(levels), ANCHORS)]
    boxes, scores = (jnp.concatenate(parts, axis=1) for parts in zip(*found))
    return boxes, scores[..., 0]


def _head(w: Weights, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Boxes (B, N, 12) and scores (B, N, 1) of a grid."""
    boxes = separable(w["boxes"], x, 2, "symmetric")
    scores = separable(w["scores"], x, 2, "symmetric")
    return boxes.reshape(len(x), -1, 12), scores.reshape(len(x), -1, 1)
