"""Measures of single frames and of neighboring frames, in JAX on uint8 pictures.

Window sums of 8-bit values are integers, so sums, squares and products are taken in int32, where they are exact;
means are finished in float64 on the host. Every function takes batches; results are one float64 a frame.
"""

import jax
import jax.numpy as jnp
import numpy as np

PSNR_OF_IDENTICAL = 100.0  # decibels; also the cap, so that no frame scores above an identical one
SMALLEST_SIDE = 7  # pixels, the window of SSIM

_WINDOW = 7
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@jax.jit
def _sums(truth: jax.Array, prediction: jax.Array) -> dict[str, jax.Array]:
    """What the pairwise measures need of (B, H, W, 3) uint8 pairs: row sums (B, H) int32, column means of the SSIMs."""
    difference = truth.astype(jnp.int32) - prediction.astype(jnp.int32)
    wrapped = difference & 255  # what uint8 arithmetic leaves of it
    return {
        "absolute": jnp.abs(difference).sum((2, 3)),
        "squared": (difference**2).sum((2, 3)),
        "squared_wrapped": ((wrapped**2) & 255).sum((2, 3)),
        "ssim": _mean_of_rows(ssim_map(truth, prediction)),
        "ssim_gray": _mean_of_rows(ssim_map(opencv_gray(truth)[..., None], opencv_gray(prediction)[..., None])),
    }


def pairwise(truth: jax.Array, prediction: jax.Array) -> dict[str, np.ndarray]:
    """Frame measures of pairs of frames.

    Args:
      truth, prediction: (B, H, W, 3) uint8 RGB, H and W at least 7.

    Returns:
      (B,) float64 each:
      'mae': mean absolute difference in levels of 0..255.
      'l1_legacy': that divided by H * W once more, as published.
      'psnr': decibels; at most 100, which identical frames get.
      'psnr_legacy': the published arithmetic, in which differences and squares wrap modulo 256.
      'ssim': scikit-image's defaults on uint8 with channel_axis=-1.
      'ssim_legacy': the same on OpenCV's gray.
    """
    height, width, channels = truth.shape[1:]
    sums = jax.device_get(_sums(truth, prediction))
    values = height * width * channels
    mae = sums["absolute"].sum(1, dtype=np.int64) / values
    return {
        "mae": mae,
        "l1_legacy": mae / (height * width),
        "psnr": psnr(sums["squared"].sum(1, dtype=np.int64) / values),
        "psnr_legacy": _decibels(sums["squared_wrapped"].sum(1, dtype=np.int64) / values),
        "ssim": sums["ssim"].mean((1, 2), dtype=np.float64),
        "ssim_legacy": sums["ssim_gray"].mean((1, 2), dtype=np.float64),
    }


def psnr(mse: np.ndarray) -> np.ndarray:
    """Decibels of mean squared errors of values in 0..255; at most 100, which an error of 0 gets."""
    return np.minimum(_decibels(mse), PSNR_OF_IDENTICAL)


def _decibels(mse: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.where(mse == 0, PSNR_OF_IDENTICAL, 20 * np.log10(255 / np.sqrt(mse)))


def opencv_gray(frames: jax.Array) -> jax.Array:
    """OpenCV's RGB -> gray on 8-bit values: (..., 3) -> (...) int32."""
    x = frames.astype(jnp.int32)
    return (9798 * x[..., 0] + 19235 * x[..., 1] + 3735 * x[..., 2] + 16384) >> 15


def ssim_map(a: jax.Array, b: jax.Array) -> jax.Array:
    """Structural similarity about every pixel whose 7x7 window lies inside the picture.

    Uniform window, sample covariance, the constants of values in 0..255 (Wang et al. 2004; scikit-image's defaults).
    With n = 49 values a window, n^2 times each mean product and n (n - 1) times each covariance are integers.

    Args:
      a, b: (B, H, W, C) integers in 0..255.

    Returns:
      (B, H - 6, W - 6, C) float32; the first row and column belong to pixel (3, 3).
    """
    n = _WINDOW * _WINDOW
    a, b = a.astype(jnp.int32), b.astype(jnp.int32)
    sum_a, sum_b = _window_sum(a), _window_sum(b)

    def covariance(products: jax.Array, product_of_sums: jax.Array) -> jax.Array:
        return (n * _window_sum(products) - product_of_sums).astype(jnp.float32) / (n * (n - 1))

    squares = sum_a * sum_a + sum_b * sum_b  # at most 2 * (49 * 255)^2 < 2^31
    luminance_above = 2 * (sum_a * sum_b).astype(jnp.float32) / n**2 + _C1
    luminance_below = squares.astype(jnp.float32) / n**2 + _C1
    contrast_above = 2 * covariance(a * b, sum_a * sum_b) + _C2
    contrast_below = covariance(a * a, sum_a * sum_a) + covariance(b * b, sum_b * sum_b) + _C2
    return luminance_above * contrast_above / (luminance_below * contrast_below)


def _mean_of_rows(x: jax.Array) -> jax.Array:
    """(B, H, W, C) -> (B, W, C), adding halves: float32 added one after the other would lose digits."""
    rows = x.shape[1]
    while x.shape[1] > 1:
        if x.shape[1] % 2:
            x = jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))
        half = x.shape[1] // 2
        x = x[:, :half] + x[:, half:]
    return x[:, 0] / rows


def _window_sum(x: jax.Array) -> jax.Array:
    """7x7 sums at the positions whose window lies inside: (B, H, W, C) -> (B, H - 6, W - 6, C)."""
    height, width = x.shape[1] - _WINDOW + 1, x.shape[2] - _WINDOW + 1
    x = sum(x[:, k : k + height] for k in range(_WINDOW))
    return sum(x[:, :, k : k + width] for k in range(_WINDOW))


@jax.jit
def _flicker_rows(truth: jax.Array, prediction: jax.Array) -> jax.Array:
    difference = prediction.astype(jnp.int32) - truth.astype(jnp.int32)
    return jnp.abs(difference[1:] - difference[:-1]).sum((2, 3))


def flicker(truth: jax.Array, prediction: jax.Array) -> np.ndarray:
    """Change from frame to frame that the ground truth does not have, in levels of 0..255.

    mean |(p[t] - p[t-1]) - (g[t] - g[t-1])|: a constant error does not flicker, an error that comes and goes does.

    Args:
      truth, prediction: (B, H, W, 3) uint8, consecutive frames.

    Returns:
      (B - 1,) float64.
    """
    rows = np.asarray(_flicker_rows(truth, prediction)).sum(1, dtype=np.int64)
    return rows / (truth.shape[1] * truth.shape[2] * truth.shape[3])
