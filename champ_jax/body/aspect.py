"""Pictures and cameras of one aspect shown in another, without stretching what they show."""

import argparse
import re

import numpy as np
from numpy.typing import ArrayLike

from champ_jax.body.fields import SIDE

FITS = ("crop", "pad", "none")
_TOLERANCE = 0.02  # sides that were rounded to multiples of a few pixels differ by this much


def picture_size(text: str) -> tuple[int, int]:
    """Converts the argument WIDTHxHEIGHT of a command: `add_argument("--size", type=picture_size)`."""
    match = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", text)
    sides = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(SIDE.problem(side) is None for side in sides):
        raise argparse.ArgumentTypeError(
            f"expected WIDTHxHEIGHT of up to {SIDE.maximum} pixels, for example 1920x1080, got {text[:40]}"
        )
    return sides


def differ_in_aspect(size: ArrayLike, other: ArrayLike) -> bool:
    """Whether pictures of [W, H] `size` and `other` differ in aspect by more than rounded sides explain."""
    (width, height), (other_width, other_height) = np.asarray(size, np.float64), np.asarray(other, np.float64)
    return bool(abs(np.log((width * other_height) / (height * other_width))) > _TOLERANCE)


def fit_image_size(size: ArrayLike, wanted: ArrayLike, fit: str) -> tuple[np.ndarray, float]:
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


def fit_picture(image: np.ndarray, picture_size: tuple[int, int], fit: str) -> np.ndarray:
    """Gives a picture (height, width, channels) another aspect, by cutting off or adding black on two sides.

    Args:
      picture_size: (width, height) that has the wanted aspect.
      fit: 'crop', 'pad' or 'none'. Pictures of nearly that aspect are left as well.
    """
    height, width = image.shape[:2]
    if fit == "none" or not differ_in_aspect((width, height), picture_size):
        return image
    wanted = picture_size[0] / picture_size[1]
    if (width / height > wanted) == (fit == "crop"):
        fitted = height, max(round(height * wanted), 1)
    else:
        fitted = max(round(width / wanted), 1), width
    if fit == "crop":
        top, left = (height - fitted[0]) // 2, (width - fitted[1]) // 2
        return image[top : top + fitted[0], left : left + fitted[1]]
    top, left = (fitted[0] - height) // 2, (fitted[1] - width) // 2
    return np.pad(image, ((top, fitted[0] - height - top), (left, fitted[1] - width - left), (0, 0)))
