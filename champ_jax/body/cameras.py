"""Pinhole cameras in OpenCV's convention: x right, y down, z forward; the principal point is the picture's center."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

Array = jax.Array | np.ndarray

HMR2_FOCAL, HMR2_CROP = 5000.0, 256.0


@jax.jit
def project(
    points: Float[Array, "*points 3"], focal: Num[Array, "..."] | float, image_size: Num[Array, "2"]
) -> Float[jax.Array, "*points 2"]:
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


def hmr2_focal(image_size: Sequence[int] | Num[Array, "2"]) -> float:
    """The focal length in px that HMR2 (4D-Humans) and the reference implementation use for a [W, H] picture."""
    return HMR2_FOCAL / HMR2_CROP * float(np.max(np.asarray(image_size)))


def weak_perspective_to_translation(
    camera: Float[Array, "*batch 3"],
    center: Float[Array, "*batch 2"],
    box_size: Num[Array, "*batch"] | float,
    focal: Float[Array, "*batch"] | float,
    image_size: Num[Array, "2"],
) -> Float[jax.Array, "*batch 3"]:
    """A crop's weak-perspective camera -> the body's translation in the whole picture's camera, meters.

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
