"""What goes into the pipeline besides a picture, and what comes out of it."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Protocol

import jax
import numpy as np

from champ_jax.common.errors import InputError
from champ_jax.common.media import VideoWriter, resize_image


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


@dataclasses.dataclass(frozen=True, eq=False)
class Animation:
    """A finished animation. Frames are decoded when they are asked for, a chunk at a time.

    Attributes:
      latents: (F, h, w, 4) float32, scaled as the denoiser sees them.
      size: (width, height) of the frames.
      fps: frames per second.
      decode: gives the frames in chunks, each (n, height, width, 3) float32 in [0, 1].
    """

    latents: jax.Array
    size: tuple[int, int]
    fps: float
    decode: Callable[[], Iterator[np.ndarray]]

    def __len__(self) -> int:
        return self.latents.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the frames, (height, width, 3) uint8, with one chunk of them in memory."""
        for chunk in self.decode():
            yield from to_bytes(chunk)

    @cached_property
    def frames_float(self) -> np.ndarray:
        """All frames, (F, height, width, 3) float32 in [0, 1]."""
        return np.concatenate(list(self.decode()))

    @cached_property
    def frames(self) -> np.ndarray:
        """All frames, (F, height, width, 3) uint8."""
        return to_bytes(self.frames_float)

    def save(self, path: str | os.PathLike, size: tuple[int, int] | None = None) -> None:
        """Writes an H.264 video as the frames are decoded, whole or not at all.

        Args:
          path: the video file.
          size: (width, height) to resize the frames to (Lanczos); None keeps them as they are.
        """
        with VideoWriter(path, self.fps) as writer:
            for frame in self:
                writer.write(frame if size is None else resize_image(frame, size, "lanczos"))


def to_bytes(frames: np.ndarray) -> np.ndarray:
    """[0, 1] -> uint8, rounded."""
    return np.round(255 * frames).astype(np.uint8)
