"""Squares in a picture that are cut out for a network: where they are, their pixels, and the way back.

All positions are px from the picture's upper left corner, x to the right and y down, so that a pixel's center is at
+0.5.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Squares:
    """Turned squares.

    Attributes:
      center: (N, 2) x, y.
      side: (N,) px.
      angle: (N,) radians by which a square is turned clockwise: its own up points along (sin, -cos).
    """

    center: np.ndarray
    side: np.ndarray
    angle: np.ndarray

    def __len__(self) -> int:
        return len(self.side)

    def __getitem__(self, index: slice | np.ndarray | Sequence[int]) -> "Squares":
        return Squares(self.center[index], self.side[index], self.angle[index])

    @classmethod
    def around(cls, centers: np.ndarray, rims: np.ndarray, up: bool = True, margin: float = 1.25) -> "Squares":
        """Squares about circles that are given by their centers (N, 2) and a point on each (N, 2).

        Args:
          centers, rims: px.
          up: whether the rim's point is above its center in the square, or below it.
          margin: side by diameter.
        """
        dx, dy = np.moveaxis(np.asarray(rims, np.float64) - centers, -1, 0)
        angle = np.arctan2(dx, -dy) if up else np.arctan2(-dx, dy)
        return cls(np.array(centers, np.float64), 2 * margin * np.hypot(dx, dy), angle)

    @classmethod
    def about(cls, points: np.ndarray, angle: np.ndarray, margin: float) -> "Squares":
        """The smallest squares of these angles (N,) about sets of points (N, K, 2), times `margin`."""
        turned = _turn(np.asarray(points, np.float64), -angle[:, None])
        low, high = turned.min(axis=1), turned.max(axis=1)
        return cls(_turn((low + high) / 2, angle), (high - low).max(axis=1) * margin, angle)

    @classmethod
    def join(cls, squares: Sequence["Squares"]) -> "Squares":
        """All of them in one."""
        return cls(*(np.concatenate([getattr(s, name) for s in squares]) for name in ("center", "side", "angle")))

    def shifted(self, down: float) -> "Squares":
        """Moved along their own down by this share of their sides."""
        offset = np.stack([np.zeros(len(self)), down * self.side], axis=-1)
        return dataclasses.replace(self, center=self.center + _turn(offset, self.angle))

    def scaled(self, factor: float) -> "Squares":
        """Larger about their centers."""
        return dataclasses.replace(self, side=self.side * factor)

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """Where points (N, ..., 2), in sides from the squares' upper left corners, are in the picture."""
        shape = (-1, *(1,) * (points.ndim - 2))
        offset = (points - 0.5) * self.side.reshape(*shape, 1)
        return self.center.reshape(*shape, 2) + _turn(offset, self.angle.reshape(shape))

    def corners(self) -> np.ndarray:
        """(N, 4, 2)."""
        return self.to_picture(np.tile([(0.0, 0.0), (1, 0), (1, 1), (0, 1)], (len(self), 1, 1)))

    def boxes(self) -> np.ndarray:
        """(N, 4) left, top, right, bottom of squares of the same place and size that are not turned."""
        half = self.side[:, None] / 2
        return np.concatenate([self.center - half, self.center + half], axis=1)


def cut(picture: Image.Image, squares: Squares, size: int) -> np.ndarray:
    """The pixels of squares, (N, size, size, 3) uint8; black outside of the picture.

    Where a pixel of the result covers several of the picture, these are averaged first.
    """
    result = np.empty((len(squares), size, size, 3), np.uint8)
    for index, corners in enumerate(squares.corners()):
        result[index] = _cut(picture, corners, float(squares.side[index]), float(squares.angle[index]), size)
    return result


def _cut(picture: Image.Image, corners: np.ndarray, side: float, angle: float, size: int) -> np.ndarray:
    if not (np.isfinite(corners).all() and np.abs(corners).max() < 1e6 and side > 0):
        return np.zeros((size, size, 3), np.uint8)
    left, top = np.maximum(np.floor(corners.min(axis=0)) - 2, 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)) + 2, picture.size).astype(int)
    if left >= right or top >= bottom:
        return np.zeros((size, size, 3), np.uint8)
    factor = max(int(side / size), 1)
    part = picture.crop((left, top, right, bottom)).convert("RGB")
    if factor > 1:
        part = part.reduce(factor)
    step = side / size / factor
    a, b = np.cos(angle) * step, np.sin(angle) * step
    x, y = (corners[0] - (left, top)) / factor
    part = part.transform((size, size), Image.Transform.AFFINE, (a, -b, x, b, a, y), Image.Resampling.BILINEAR)
    return np.asarray(part)


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4): left, top, right, bottom."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=-1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None] - common
    return common / np.maximum(union, 1e-9)


def _turn(points: np.ndarray, angle: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = points[..., 0], points[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
