"""From stored pictures to pictures of the training size: one window a sample, applied to all pictures of the sample.

A window is (left, top, right, bottom) in pixels of the stored picture; it may have fractions.
"""

import dataclasses
import re

import numpy as np
from PIL import Image

from champ_jax.common.errors import InputError
from champ_jax.common.pictures import MAX_PIXELS

CROPS = ("none", "center", "random", "box")
RESIZES = ("cover", "pad", "stretch")
CLIP_SIZE = 224

Window = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Framing:
    """How stored pictures become pictures of one size.

    Attributes:
      size: (width, height) of the result.
      crop: the window taken. 'none': the whole picture. 'center': the largest window of the result's aspect ratio.
        'random': such a window of a random share of its area, at a random place. 'box': around the person (the whole
        picture where no person is known), of the result's aspect ratio where the picture is large enough.
      resize: the treatment of a window of another aspect ratio. 'cover' cuts off the excess on both sides, 'pad' adds
        black on both sides, 'stretch' distorts.
      area: range of the share of area that 'random' keeps.
      box_scale: range of the factor on the person's box that 'box' draws.
    """

    size: tuple[int, int]
    crop: str = "random"
    resize: str = "cover"
    area: tuple[float, float] = (0.9, 1.0)
    box_scale: tuple[float, float] = (0.8, 1.2)

    def __post_init__(self) -> None:
        for name, known in (("crop", CROPS), ("resize", RESIZES)):
            if getattr(self, name) not in known:
                raise InputError(f"{name}={getattr(self, name)!r}: unknown; choose {', '.join(known)}")
        if len(self.size) != 2 or min(self.size) < 1 or self.size[0] * self.size[1] > MAX_PIXELS:
            raise InputError(
                f"image_size={self.size}: must be a width and a height in pixels, at most {MAX_PIXELS:,} pixels in all"
            )
        for name, limit in (("area", 1.0), ("box_scale", float("inf"))):
            low, high = getattr(self, name)
            if not 0 < low <= high <= limit:
                raise InputError(f"{name}={(low, high)}: must be a range above 0{' and up to 1' if limit == 1 else ''}")

    @property
    def is_fixed(self) -> bool:
        """Whether a picture's window depends on its size alone, so that the networks' outputs can be cached."""
        return self.crop in ("none", "center")

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """The random numbers of one sample, (3,) in [0, 1): scale, horizontal and vertical position."""
        return rng.random(3)

    def window(self, picture: tuple[int, int], draws: np.ndarray, box: np.ndarray | None = None) -> Window:
        """The window to take of a picture.

        Args:
          picture: (width, height) of the stored picture.
          draws: The random numbers of the sample (`draw`).
          box: (4,) the person's left, top, right, bottom in pixels; None if not known.
        """
        aspect = self.size[0] / self.size[1]
        if self.crop == "none" or (self.crop == "box" and box is None):
            return (0.0, 0.0, float(picture[0]), float(picture[1]))
        if self.crop == "box":
            return _around(picture, box, aspect, _between(self.box_scale, draws[0]))
        largest = np.minimum(picture, (picture[1] * aspect, picture[0] / aspect))
        place = draws[1:] if self.crop == "random" else np.array([0.5, 0.5])
        extent = largest * (np.sqrt(_between(self.area, draws[0])) if self.crop == "random" else 1.0)
        corner = (np.array(picture) - extent) * place
        return tuple(float(value) for value in (*corner, *(corner + extent)))

    def apply(self, picture: Image.Image, window: Window, resample: Image.Resampling) -> np.ndarray:
        """The window of a picture at the training size: (height, width, ...) uint8."""
        width, height = self.size
        left, top, right, bottom = window
        scales = (width / (right - left), height / (bottom - top))
        if self.resize == "pad":
            scale = min(scales)
            inner = (max(round((right - left) * scale), 1), max(round((bottom - top) * scale), 1))
            result = np.zeros((height, width, *np.asarray(picture).shape[2:]), np.uint8)
            x, y = (width - inner[0]) // 2, (height - inner[1]) // 2
            result[y : y + inner[1], x : x + inner[0]] = _resized(picture, inner, window, resample)
            return result
        if self.resize == "cover":
            scale = max(scales)
            cut = ((right - left - width / scale) / 2, (bottom - top - height / scale) / 2)
            window = (left + cut[0], top + cut[1], right - cut[0], bottom - cut[1])
        return _resized(picture, self.size, window, resample)


def parse_size(option: str, text: str) -> tuple[int, int]:
    """(width, height) of '512x768'; raises InputError, naming the option, for anything else."""
    match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text)
    if not match:
        raise InputError(f"{option}={text}: expected WIDTHxHEIGHT, for example 512x512")
    return int(match[1]), int(match[2])


def clip_picture(picture: Image.Image, window: Window) -> np.ndarray:
    """What CLIP sees of a reference picture in training: its window with the shortest edge at 224, center crop.

    Returns:
      (224, 224, 3) uint8, equal to transformers' CLIPImageProcessor of the window cut at whole pixels.
    """
    left, top, right, bottom = (round(value) for value in window)
    cut = picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    short, long = sorted(cut.size)
    long = int(CLIP_SIZE * long / short)
    size = (CLIP_SIZE, long) if cut.width <= cut.height else (long, CLIP_SIZE)
    resized = np.asarray(cut.resize(size, Image.Resampling.BICUBIC))
    y, x = (resized.shape[0] - CLIP_SIZE) // 2, (resized.shape[1] - CLIP_SIZE) // 2
    return resized[y : y + CLIP_SIZE, x : x + CLIP_SIZE]


def _between(bounds: tuple[float, float], share: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * share


def _around(picture: tuple[int, int], box: np.ndarray, aspect: float, scale: float) -> Window:
    """A window of width / height = `aspect` around a box, times `scale`; moved, then cut, to lie in the picture."""
    box = np.asarray(box, np.float64)
    extent, center = np.maximum(box[2:] - box[:2], 1.0), (box[2:] + box[:2]) / 2
    extent = scale * np.maximum(extent, (extent[1] * aspect, extent[0] / aspect))
    extent = np.minimum(extent, picture)
    corner = np.clip(center - extent / 2, 0, picture - extent)
    return tuple(float(value) for value in (*corner, *(corner + extent)))


def _resized(picture: Image.Image, size: tuple[int, int], window: Window, resample: Image.Resampling) -> np.ndarray:
    # Rounding may put a window slightly outside of the picture, which Pillow refuses.
    bounds = (picture.width, picture.height) * 2
    window = tuple(min(max(value, 0.0), bound) for value, bound in zip(window, bounds))
    if picture.size == size and window == (0.0, 0.0, *picture.size):
        return np.asarray(picture)
    return np.asarray(picture.resize(size, resample, box=window))
