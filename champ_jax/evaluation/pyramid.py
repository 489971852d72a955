"""NLPD, the normalized Laplacian pyramid distance (Laparra, Balle, Berardino & Simoncelli 2016): no network or weights.

A picture's gray values are split into six bands of a Laplacian pyramid (Burt & Adelson 1983), and every value is
divided by a constant and its neighbors' amplitudes, as early vision does. Two pictures are compared by the root mean
squared difference of each band, averaged over the bands. It sees blur, edges in the wrong place and false texture, as
LPIPS does, but it has learned nothing about objects: the two are not to be confused, and their numbers do not compare.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

LEVELS = 6

_TAPS = np.array([0.05, 0.25, 0.4, 0.25, 0.05])  # the low-pass filter along each axis
# The paper's constants of each level: what is added to the neighbors' amplitudes, and their weights by place (down,
# right). It fitted them to photographs of its own.
_CONSTANTS = (0.0248, 0.0185, 0.0179, 0.0191, 0.0220, 0.2782)
_NEIGHBORS = (
    {(1, 0): 0.1011, (0, 1): 0.1493, (0, -1): 0.1460, (0, -2): 0.0072, (-1, 0): 0.1015},
    {(1, 0): 0.0757, (0, 1): 0.1986, (0, -1): 0.1846, (-1, 0): 0.0837},
    {(1, 0): 0.0477, (0, 1): 0.2138, (0, -1): 0.2243, (-1, 0): 0.0467},
    {(0, 1): 0.2503, (0, -1): 0.2616},
    {(0, 1): 0.2598, (0, -1): 0.2552},
    {(0, 1): 0.2215, (0, -1): 0.0717},
)
_REACH = 2  # of the neighbors, in samples
_GRAY = (0.299, 0.587, 0.114)  # ITU-R BT.601


def difference_maps(truth: jax.Array, prediction: jax.Array) -> list[jax.Array]:
    """Squared differences of the normalized bands, finest first.

    Args:
      truth, prediction: (B, H, W, 3) uint8.

    Returns:
      LEVELS arrays (B, h, w) float32; h and w halve from level to level, rounded up.
    """
    return [(a - b) ** 2 for a, b in zip(_bands(truth), _bands(prediction))]


def distance(maps: Sequence[np.ndarray], inside: np.ndarray | None = None) -> np.ndarray:
    """The distances (B,), float64, that maps of `difference_maps` come to.

    Args:
      maps: the maps.
      inside: (B, H, W) bool: where to measure; None measures everywhere. A sample of a coarser level counts with the
        share of its pixels that are inside. NaN where nothing is inside.
    """
    levels = []
    for values in maps:
        values = np.asarray(values, np.float64)
        if inside is None:
            levels.append(np.sqrt(values.mean((1, 2))))
            continue
        share = np.asarray(inside, np.float64)
        while share.shape != values.shape:
            share = _halved(share)
        with np.errstate(invalid="ignore"):
            levels.append(np.sqrt((values * share).sum((1, 2)) / share.sum((1, 2))))
    return np.mean(levels, axis=0)


def _halved(share: np.ndarray) -> np.ndarray:
    """(B, h, w) -> (B, ceil(h / 2), ceil(w / 2)) means of two by two; the last row and column repeat where odd."""
    share = np.pad(share, [(0, 0)] + [(0, side % 2) for side in share.shape[1:]], mode="edge")
    return (share[:, ::2, ::2] + share[:, 1::2, ::2] + share[:, ::2, 1::2] + share[:, 1::2, 1::2]) / 4


def _bands(pictures: jax.Array) -> list[jax.Array]:
    """The normalized bands (B, h, w) of pictures (B, H, W, 3) uint8."""
    rest = (pictures.astype(jnp.float32) / 255) @ jnp.array(_GRAY, jnp.float32)
    bands = []
    for level in range(LEVELS):
        band = rest
        if level < LEVELS - 1:
            lower = _along_both(rest, _down)
            band, rest = rest - _along_both(lower, functools.partial(_up, rest.shape[1:])), lower
        bands.append(band / (_CONSTANTS[level] + _amplitude(jnp.abs(band), level)))
    return bands


def _amplitude(band: jax.Array, level: int) -> jax.Array:
    """The weighted sum of the neighbors, 0 beyond the picture."""
    height, width = band.shape[1:]
    padded = jnp.pad(band, ((0, 0), (_REACH, _REACH), (_REACH, _REACH)))
    return sum(
        weight * padded[:, _REACH + down : _REACH + down + height, _REACH + right : _REACH + right + width]
        for (down, right), weight in _NEIGHBORS[level].items()
    )


def _along_both(x: jax.Array, matrix) -> jax.Array:
    rows, columns = (matrix(axis, x.shape[1 + axis]) for axis in (0, 1))
    return jnp.einsum("bhw,rh,cw->brc", x, rows, columns, precision="highest")


@functools.cache
def _down(axis: int, size: int) -> np.ndarray:
    """(ceil(size / 2), size): low-pass and every second sample; beyond its ends an axis is mirrored, ends included."""
    matrix = np.zeros((-(-size // 2), size))
    for row in range(len(matrix)):
        for tap, weight in zip(range(2 * row - 2, 2 * row + 3), _TAPS):
            matrix[row, _mirrored(tap, size)] += weight
    return matrix.astype(np.float32)


@functools.cache
def _up(shape: tuple[int, int], axis: int, size: int) -> np.ndarray:
    """(target, size): zeros between the samples, low-pass, twice as high; beyond its ends an axis repeats the last."""
    target = shape[axis]
    matrix = np.zeros((target, size))
    for row in range(target):
        for tap, weight in zip(range(row - 2, row + 3), _TAPS):
            if tap % 2 == 0:
                matrix[row, min(max(tap // 2, 0), size - 1)] += 2 * weight
    return matrix.astype(np.float32)


def _mirrored(place: int, size: int) -> int:
    place %= 2 * size
    return place if place < size else 2 * size - 1 - place
