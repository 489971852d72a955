"""Patterns of cloth: how much of the second color shows at each point of a garment."""

from collections.abc import Callable

import numpy as np

Field = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""(along, across) coordinates in meters and a period in meters -> share of the second color, 0..1."""


def _plain(along, across, period):
    return np.zeros_like(along)


def _rings(along, across, period):
    return _wave(along, period)


def _pinstripes(along, across, period):
    return _wave(across, period)


def _checks(along, across, period):
    return 0.5 * (_wave(along, period) + _wave(across, period))


def _chessboard(along, across, period):
    one, two = _wave(along, period), _wave(across, period)
    return one * (1 - two) + two * (1 - one)


def _diagonal(along, across, period):
    return _wave(along + across, period * 1.4)


def _dots(along, across, period):
    row = np.floor(along / period)
    u = along / period - row - 0.5
    v = (across / period + 0.5 * row) % 1 - 0.5
    return step(0.33 - np.hypot(u, v), 0.06)


def _blotches(along, across, period):
    u, v = 2 * np.pi * along / period, 2 * np.pi * across / period
    return step(np.sin(0.5 * u + 1.3 * np.sin(0.31 * v)) + np.sin(0.43 * v + 1.7 * np.sin(0.37 * u + 1)), 0.2)


def _zigzag(along, across, period):
    return _wave(along + 0.5 * period * np.abs((across / period) % 2 - 1), period)


PATTERNS: dict[str, Field] = {
    "plain": _plain,
    "rings": _rings,
    "pinstripes": _pinstripes,
    "checks": _checks,
    "chessboard": _chessboard,
    "diagonal": _diagonal,
    "dots": _dots,
    "blotches": _blotches,
    "zigzag": _zigzag,
}


def step(field: np.ndarray, width: float) -> np.ndarray:
    """0 where `field` is well below 0, 1 well above, over a ramp of `width`."""
    return np.clip(field / width + 0.5, 0, 1)


def _wave(x: np.ndarray, period: float) -> np.ndarray:
    """Stripes of equal width with slightly soft edges."""
    return step(np.abs((x / period) % 1 - 0.5) - 0.25, 0.06)


def disc(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    return step(radius - np.hypot(x, y), 0.006)


def square(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    return step(radius - np.maximum(np.abs(x), np.abs(y)), 0.006)


def star(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    angle = np.arctan2(x, y)
    return step(radius * (0.68 + 0.32 * np.cos(5 * angle)) - np.hypot(x, y), 0.006)


def ring(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    return step(0.22 * radius - np.abs(np.hypot(x, y) - 0.78 * radius), 0.006)


def heart(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    x, y = x / radius, y / radius
    return step(0.85 - np.hypot(x, 1.1 * y - 0.75 * np.sqrt(np.abs(x))), 0.08)


def cross(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    arm = np.minimum(np.abs(x), np.abs(y)) < 0.3 * radius
    return arm * square(x, y, radius)


LOGOS: dict[str, Field] = {"disc": disc, "square": square, "star": star, "ring": ring, "heart": heart, "cross": cross}
"""Pictures on a garment: (x, y) meters from its middle and a radius -> share of the logo's color."""


def noise(points: np.ndarray, scale: float, phase: float) -> np.ndarray:
    """(N,) smooth noise of about -1..1 over points (N, 3), with features of about `scale` meters."""
    p = points * (2 * np.pi / scale)
    x, y, z = p[:, 0], p[:, 1], p[:, 2]
    a = np.sin(x + 1.7 * np.sin(0.73 * y + phase) + phase)
    b = np.sin(1.13 * y + 1.3 * np.sin(0.81 * z + 2 * phase))
    c = np.sin(0.91 * z + 1.5 * np.sin(0.67 * x + 3 * phase))
    return (a + b + c) / 3
