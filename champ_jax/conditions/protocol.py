"""What gives motion conditions frame by frame: the protocol that the pipeline reads, and arrays in memory."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from champ_jax.common.errors import InputError
from champ_jax.common.pictures import resize_image


class Conditions(Protocol):
    """A source of motion conditions, frame by frame: a `MotionFolder`, a `RenderedMotion`, `ArrayConditions`.

    Attributes:
      conditions: the names it gives, of 'depth', 'normal', 'semantic_map', 'dwpose'.
      fps: frames per second, None if unknown.
    """

    conditions: tuple[str, ...]
    fps: float | None

    def __len__(self) -> int:
        """Number of frames."""

    def read(self, start: int, stop: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """{condition: (stop - start, height, width, 3) uint8} of frames start..stop at size (width, height)."""


class ArrayConditions:
    """Conditions from arrays in memory, {condition: (F, H, W, 3) uint8}, resized when read."""

    def __init__(self, arrays: Mapping[str, np.ndarray], fps: float | None = None):
        """Raises InputError for arrays of another kind or unequal length."""
        for name, array in arrays.items():
            if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8:
                raise InputError(f"conditions[{name}]: is {array.shape} {array.dtype}, give (F, H, W, 3) uint8")
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise InputError(f"conditions: need one number of frames, at least 1, but have {lengths}")
        self.arrays, self.fps, self.conditions = dict(arrays), fps, tuple(arrays)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def read(self, start: int, stop: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
        return {
            name: np.stack([resize_image(frame, size) for frame in array[start:stop]])
            for name, array in self.arrays.items()
        }
