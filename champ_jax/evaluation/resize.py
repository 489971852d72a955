"""Resampling as each published measure did it: the filter is part of the number.

Frames of networks are resampled on the device in float32 (`bicubic`, `bilinear`); frames that a protocol brings to
another size stay uint8 and are resampled on the host (`opencv_bilinear`, `antialiased`).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

_BITS = 11  # OpenCV's fixed-point weights


def bicubic(frames: jax.Array, height: int, width: int) -> jax.Array:
    """Pillow's bicubic on float images: (B, H, W, C) -> (B, height, width, C) float32, neither clipped nor rounded.

    Cubic with a = -0.5, half-pixel centers, widened when shrinking, taps outside the picture dropped; columns first.
    """
    x = frames.astype(jnp.float32)
    precision = jax.lax.Precision.HIGHEST
    x = jnp.einsum("bhwc,vw->bhvc", x, jnp.asarray(_bicubic_matrix(x.shape[2], width)), precision=precision)
    return jnp.einsum("bhwc,vh->bvwc", x, jnp.asarray(_bicubic_matrix(x.shape[1], height)), precision=precision)


@functools.cache
def _bicubic_matrix(size: int, target: int) -> np.ndarray:
    """(target, size) weights of one axis, float32."""
    if size == target:
        return np.eye(size, dtype=np.float32)
    scale = size / target
    widening = max(scale, 1.0)
    matrix = np.zeros((target, size))
    for row in range(target):
        center = (row + 0.5) * scale
        first = max(int(center - 2 * widening + 0.5), 0)
        last = min(int(center + 2 * widening + 0.5), size)
        weights = _cubic((np.arange(first, last) - center + 0.5) / widening)
        matrix[row, first:last] = weights / weights.sum()
    return matrix.astype(np.float32)


def _cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def bilinear(frames: jax.Array, height: int, width: int) -> jax.Array:
    """PyTorch's interpolate(mode='bilinear', align_corners=False): (B, H, W, C) float32, no anti-aliasing."""

    def along(x: jax.Array, axis: int, target: int) -> jax.Array:
        low, high, fraction = _bilinear_taps(x.shape[axis], target)
        shape = [1] * x.ndim
        shape[axis] = target
        fraction = jnp.asarray(fraction, jnp.float32).reshape(shape)
        return jnp.take(x, low, axis) * (1 - fraction) + jnp.take(x, high, axis) * fraction

    return along(along(frames, 1, height), 2, width)


def _bilinear_taps(size: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper source index and the upper one's weight, (target,) each; half-pixel centers."""
    position = np.clip((np.arange(target) + 0.5) * (size / target) - 0.5, 0, size - 1)
    low = np.floor(position).astype(np.int32)
    return low, np.minimum(low + 1, size - 1), position - low


def opencv_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """OpenCV's INTER_LINEAR on uint8 (H, W, C), in its fixed-point arithmetic; no anti-aliasing."""
    if image.shape[:2] == (height, width):
        return image

    def taps(size: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        # OpenCV computes positions in float32.
        position = ((np.arange(target) + 0.5) * (size / target) - 0.5).astype(np.float32)
        low = np.floor(position).astype(np.int64)
        fraction = position - low
        fraction[(low < 0) | (low >= size - 1)] = 0
        low = np.clip(low, 0, size - 1)
        high_weight = np.rint(fraction * 2**_BITS).astype(np.int64)
        low_weight = np.rint((1 - fraction) * 2**_BITS).astype(np.int64)
        return low, np.minimum(low + 1, size - 1), low_weight, high_weight

    low, high, low_weight, high_weight = taps(image.shape[1], width)
    x = image.astype(np.int64)
    x = x[:, low] * low_weight[:, None] + x[:, high] * high_weight[:, None]
    low, high, low_weight, high_weight = taps(image.shape[0], height)
    upper = (low_weight[:, None, None] * (x[low] >> 4)) >> 16
    lower = (high_weight[:, None, None] * (x[high] >> 4)) >> 16
    return np.clip((upper + lower + 2) >> 2, 0, 255).astype(np.uint8)


def antialiased(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pillow's bicubic on uint8 (H, W, 3), anti-aliased when shrinking, rounded and clipped."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
