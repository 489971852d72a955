"""Pinhole cameras in OpenCV's convention: x right, y down, z forward; the principal point is the picture's center."""

import argparse
import re

import jax
import jax.numpy as jnp
import numpy as np

from champ_jax.body.fields import SIDE

Array = jax.Array | np.ndarray

HMR2_FOCAL, HMR2_CROP = 5000.0, 256.0
FITS = ("crop", "pad", "none")
_ASPECT_TOLERANCE = 0.02  # sides that were rounded to multiples of a few pixels differ by this much


@jax.jit
def project(points: Array, focal: Array | float, image_size: Array) -> jax.Array:
    """Camera points in meters -> pixel coordinates: u = W/2 + f x/z, v = H/2 + f y/z; a pixel's center is at +0.5.

    Args:
      points: (..., 3); z must be positive for the result to mean anything.
      focal: px; a scalar, or one value per leading index of `points`, for example (T,) for (T, V, 3).
      image_size: (2,) [W, H].

    Returns:
      (..., 2).
    """
    points = jnp.asarray(points)
    focal = jnp.asarray(focal, points.dtype)
    focal = focal.reshape(focal.shape + (1,) * (points.ndim - focal.ndim))
    return jnp.asarray(image_size, points.dtype) / 2 + focal * points[..., :2] / points[..., 2:]


def hmr2_focal(image_size: Array) -> float:
    """The focal length in px that HMR2 (4D-Humans) and the reference implementation use for a [W, H] picture."""
    return HMR2_FOCAL / HMR2_CROP * float(np.max(np.asarray(image_size)))


def weak_perspective_to_translation(
    camera: Array, center: Array, box_size: Array, focal: Array | float, image_size: Array
) -> jax.Array:
    """A crop's weak-perspective camera -> the body's translation in the whole picture's camera, metres.

    k = b s + 1e-9; t_z = 2 f / k; t_x += 2 (c_x - W/2) / k; t_y += 2 (c_y - H/2) / k.

    Args:
      camera: (..., 3) scale s and offsets t_x, t_y, as HMR-style networks give them.
      center: (..., 2) center of the square crop in px of the whole picture.
      box_size: (...) side b of the crop in px.
      focal: (...) or scalar, px of the whole picture.
      image_size: (2,) [W, H].

    Returns:
      (..., 3).
    """
    camera, center, box_size = jnp.asarray(camera), jnp.asarray(center), jnp.asarray(box_size)
    k = box_size * camera[..., 0] + 1e-9
    shift = 2 * (center - jnp.asarray(image_size) / 2) / k[..., None]
    depth = 2 * jnp.asarray(focal) / k
    return jnp.concatenate([camera[..., 1:] + shift, depth[..., None]], axis=-1)


def picture_size(text: str) -> tuple[int, int]:
    """Converts the argument WIDTHxHEIGHT of a command: `add_argument("--size", type=picture_size)`."""
    match = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", text)
    sides = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(SIDE.problem(side) is None for side in sides):
        raise argparse.ArgumentTypeError(
            f"expected WIDTHxHEIGHT of up to {SIDE.maximum} pixels, for example 1920x1080, got {text[:40]}"
        )
    return sides


def differ_in_aspect(size: Array, other: Array) -> bool:
    """Whether pictures of [W, H] `size` and `other` differ in aspect by more than rounded sides explain."""
    (width, height), (other_width, other_height) = np.asarray(size, np.float64), np.asarray(other, np.float64)
    return bool(abs(np.log((width * other_height) / (height * other_width))) > _ASPECT_TOLERANCE)


def fit_image_size(size: Array, wanted: Array, fit: str) -> tuple[np.ndarray, float]:
    """The picture size and zoom that show a camera's picture of `size` in a picture of the `wanted` aspect.

    The middle stays the middle, so that only the focal length changes.

    Args:
      size: [W, H] of the camera's picture.
      wanted: [W, H] of the other picture.
      fit: 'crop' fills the wanted picture, 'pad' shows all of the old one, 'none' leaves it.

    Returns:
      [W, H] int32, and the factor for the focal length.
    """
    if fit == "none":
        return np.asarray(size), 1.0
    ratios = np.asarray(wanted, np.float64) / np.asarray(size)
    return np.asarray(wanted, np.int32), float(ratios.max() if fit == "crop" else ratios.min())
