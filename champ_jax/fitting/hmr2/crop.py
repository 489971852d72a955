"""The square around a person that HMR 2.0 looks at, cut exactly as 4D-Humans cuts it with scikit-image and OpenCV.

Positions are px from the picture's upper left pixel's center, as OpenCV counts them: a pixel's center is at a whole
number, half a pixel less than elsewhere in this package.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from champ_jax.fitting.hmr2.network import CROP

_HEIGHT, _WIDTH = 256, 192  # of what the network sees of a square
_SHARP = 1.1  # pictures are blurred before they are shrunk by more than twice this
_STEPS = 32  # places between two pixels that OpenCV knows
_BITS = 1024  # OpenCV's fixed point


@dataclasses.dataclass(frozen=True)
class Square:
    """A square in a picture.

    Attributes:
      center: (2,) float32 x, y.
      side: px, float64.
    """

    center: np.ndarray
    side: float

    @classmethod
    def around(cls, box: ArrayLike) -> "Square":
        """The square of the height of a box left, top, right, bottom that was made 3:4 by enlarging it."""
        corners = np.asarray(box, np.float32)
        width, height = (corners[2:] - corners[:2]) / np.float32(200) * np.float32(200)
        return cls((corners[2:] + corners[:2]) / np.float32(2), max(float(width) * _HEIGHT / _WIDTH, float(height)))


def crop(picture: np.ndarray, square: Square) -> np.ndarray:
    """The pixels of a square, (256, 256, 3) float32 in 0..255; black outside of the picture.

    Where the crop has fewer than 1/2.2 as many pixels, the picture is blurred before (a Gaussian of sigma (f - 1) / 2,
    f being half of side / 256).

    Args:
      picture: (H, W, 3) uint8.
      square: where.
    """
    factor = square.side / CROP / 2
    columns, rows = (_places(float(middle), square.side) for middle in square.center)
    radius, sigma = 0, 0.0
    if factor > _SHARP:
        sigma = (factor - 1) / 2
        radius = int(4 * sigma + 0.5)
    first = [max(int(places.min()) // _STEPS - radius, 0) for places in (rows, columns)]
    last = [
        min(int(places.max()) // _STEPS + 2 + radius, extent)
        for places, extent in zip((rows, columns), picture.shape[:2])
    ]
    if first[0] >= last[0] or first[1] >= last[1]:
        return np.zeros((CROP, CROP, 3), np.float32)
    part = picture[first[0] : last[0], first[1] : last[1]].astype(np.float64)
    if sigma:
        part = gaussian_filter(part, (sigma, sigma, 0), mode="nearest", radius=radius)
    part = _taken(_taken(part, rows - _STEPS * first[0], 0), columns - _STEPS * first[1], 1)
    return (part if sigma else np.floor(part + 0.5)).astype(np.float32)


def _places(middle: float, side: float) -> np.ndarray:
    """(256,) where the crop's pixels lie along one axis of the picture, in 32nds of a px.

    OpenCV inverts the map that takes the middle and the end of the square, in single precision, to 128 and 256, and
    rounds what it computes from it to 1/1024 and then to 1/32 px.
    """
    start = np.float32(middle)
    end = start + np.float32(side * 0.5)
    scale = (float(end) - float(start)) / (CROP / 2)
    offset = float(start) - scale * CROP / 2
    fixed = np.rint(offset * _BITS) + _BITS // _STEPS // 2 + np.rint(scale * np.arange(CROP) * _BITS)
    return fixed.astype(np.int64) // (_BITS // _STEPS)


def _taken(part: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation along an axis at places in 32nds; what lies outside counts as 0."""
    whole, share = places // _STEPS, places % _STEPS / _STEPS
    padded = np.concatenate([part, np.zeros_like(part.take([0], axis))], axis)
    result = np.zeros(())
    for place, weight in ((whole, 1 - share), (whole + 1, share)):
        inside = (place >= 0) & (place < part.shape[axis])
        values = padded.take(np.where(inside, place, part.shape[axis]), axis)
        result = result + values * weight.reshape((-1, *(1,) * (part.ndim - 1 - axis)))
    return result
