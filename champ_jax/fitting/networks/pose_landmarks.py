"""MediaPipe's pose landmarks ("heavy"): 39 points of the person that fills a picture."""

import jax
import numpy as np

from champ_jax.fitting.networks.layers import (
    Weights,
    backbone,
    conv,
    dense,
    fit_channels,
    max_pool,
    relu6,
    separable_relu6,
    upsample,
)

SIZE = 256
"""The side of the pictures, px; their values are 0 .. 1."""

POINTS = 39
"""33 of the body, 2 that say where to cut the next picture, 4 that nothing uses."""

STRIDES = (1, 2, 1, 1, 1, 2, 1, 1, 1, 2, *(1,) * 11, 2, *(1,) * 7)
_REACH = 3  # cells to every side that a point may move in
_TAPS = {64: 4, 32: 8, 16: 20}  # side: the block whose output the decoder looks at
RESIDUALS = {32: 6, 16: 7, 8: 7, 4: 7, 2: 7}
"""Side: the residual blocks of the regression there."""


def pose_landmarks(w: Weights, pictures: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Finds the points of a body.

    Args:
      w: the weights.
      pictures: (B, 256, 256, 3), 0 .. 1, the person upright and in the middle.

    Returns:
      (B, 39, 5) x and y in pixels, depth in pixels, and before the sigmoid how visible the point is and whether it is
      in the picture; (B, 39, 3) the points in meters about the middle of the hips; (B, 64, 64, 39) before the sigmoid
      how likely a point is where; (B,) the probability that the picture shows a person.
    """
    outputs, top = backbone(w, pictures, STRIDES, "symmetric")
    taps = {side: outputs[block] for side, block in _TAPS.items()} | {8: top}
    x = _look(w["lateral8"], top)
    for side in (16, 32, 64):
        x = upsample(x) + _look(w[f"lateral{side}"], taps[side])
    heatmaps = dense(w["heatmaps"], x)
    for side, count in RESIDUALS.items():
        stage = w[f"regress{side}"]
        y = separable_relu6(stage["down"], x, 2)
        x = relu6(fit_channels(max_pool(x), y.shape[-1]) + y)
        for index in range(count):
            x = relu6(x + separable_relu6(stage[f"residual{index}"], x))
        if side in (32, 16, 8):
            x = x + _look(w[f"skip{side}"], taps[side])
    points, world, presence = (conv(w[name], x)[:, 0, 0] for name in ("points", "world", "presence"))
    return points.reshape(-1, POINTS, 5), world.reshape(-1, POINTS, 3), heatmaps, jax.nn.sigmoid(presence[:, 0])


def _look(w: Weights, x: jax.Array) -> jax.Array:
    return relu6(separable_relu6(w, x))


def refine(points: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """Moves points to the middle of what the heat maps say near them.

    A point moves to the mean over the 7x7 cells around it, weighted by their probabilities, where one of these is at
    least 0.5 (MediaPipe's RefineLandmarksFromHeatmapCalculator).

    Args:
      points: (N, K, 2) x, y in pixels of the picture.
      heatmaps: (N, 64, 64, K) before the sigmoid.

    Returns:
      (N, K, 2).
    """
    side = heatmaps.shape[1]
    center = np.trunc(points * (side / SIZE))
    inside = np.all((center >= 0) & (center < side), axis=-1)
    reach = np.arange(-_REACH, _REACH + 1)
    columns, rows = (np.where(inside, center[..., axis], 0).astype(int)[..., None] + reach for axis in (0, 1))
    rows, columns = rows[..., :, None], columns[..., None, :]
    there = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
    people, kinds = (np.arange(count).reshape(shape) for count, shape in zip(points.shape, ((-1, 1, 1, 1), (-1, 1, 1))))
    values = heatmaps[people, rows.clip(0, side - 1), columns.clip(0, side - 1), kinds].astype(np.float64)
    weights = np.where(there, 1 / (1 + np.exp(-values.clip(-80, 80))), 0)
    total = np.maximum(weights.sum(axis=(2, 3)), 1e-9)
    middle = np.stack([(weights * place).sum(axis=(2, 3)) for place in (columns, rows)], axis=-1) / total[..., None]
    moved = inside & (weights.max(axis=(2, 3)) >= 0.5)
    return np.where(moved[..., None], middle * (SIZE / side), points)
