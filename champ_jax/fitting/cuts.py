"""Cuts between the shots of a video."""

import numpy as np
from PIL import Image

THUMBNAIL = (32, 18)
"""(width, height) of the small pictures that are compared."""

# The two sides of a cut differ by at least this many levels of 0 .. 255 on average, and in this share of the picture by
# _SEEN levels: somebody who walks into the picture changes less of it.
_LEAST, _SHARE, _SEEN = 18.0, 0.45, 10.0
_STANDS_OUT = 3.0  # a cut's change by the median change nearby
_NEARBY = 8  # frames


def thumbnail(frame: Image.Image) -> np.ndarray:
    """A frame as `find_cuts` takes it, (18, 32, 3) uint8."""
    return np.asarray(frame.convert("RGB").resize(THUMBNAIL, Image.Resampling.BOX))


def find_cuts(thumbnails: np.ndarray) -> list[int]:
    """The first frames of all shots but the first one.

    At a cut most of the picture changes, by much more than from frame to frame around it, and does not change back: a
    flash, however bright, is none.

    Args:
      thumbnails: (T, 18, 32, 3) uint8.
    """
    frames = np.asarray(thumbnails, np.float32)
    if len(frames) < 2:
        return []
    change = np.concatenate([[0.0], _difference(frames[1:], frames[:-1])])
    cuts: list[int] = []
    for index in np.flatnonzero(change >= 1).tolist():
        before, after = frames[max(index - 3, 0) : index], frames[index : index + 3]
        stays = min(_difference(a, b) for a in before for b in after)
        nearby = np.delete(change[max(index - _NEARBY, 1) : index + _NEARBY + 1], min(index - 1, _NEARBY))
        usual = np.median(nearby) if len(nearby) else 0.0
        if stays >= 1 and change[index] >= _STANDS_OUT * usual:
            cuts.append(index)
    return cuts


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How much the frames differ; 1 is the least difference of the sides of a cut."""
    levels = np.abs(a - b).mean(axis=-1)
    return np.minimum(levels.mean(axis=(-2, -1)) / _LEAST, (levels >= _SEEN).mean(axis=(-2, -1)) / _SHARE)
