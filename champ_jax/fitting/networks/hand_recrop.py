"""MediaPipe's hand recrop: where exactly a hand is that the body's points place roughly."""

import jax

from champ_jax.fitting.networks.layers import Weights, conv, dense, depthwise, fit_channels, max_pool, prelu, scale

SIZE = 256
"""The side of the pictures, px; their values are 0 .. 1."""

BLOCKS = 6


def hand_recrop(w: Weights, pictures: jax.Array) -> jax.Array:
    """Finds a hand's middle and reach.

    Args:
      w: the weights.
      pictures: (B, 256, 256, 3), 0 .. 1, the fingers up.

    Returns:
      (B, 2, 2) x, y in pixels: the middle of the hand, and a point on the circle around it, in the direction of the
      wrist.
    """
    x = scale(w["stem_scale"], prelu(w["stem_prelu"], conv(w["stem"], pictures, 2, "same")))
    for index in range(BLOCKS):
        block = w[f"block{index}"]
        y = conv(block["down"], scale(block["scale0"], prelu(block["prelu0"], x)), 2)
        y = scale(block["scale1"], prelu(block["prelu1"], y))
        y = dense(block["project"], depthwise(block["depthwise"], y))
        x = fit_channels(max_pool(x), y.shape[-1]) + y
    return conv(w["points"], x).reshape(-1, 2, 2)
