"""What the pipeline returns: the latents of a video, decoded when its frames are asked for."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from functools import cached_property

import jax
import numpy as np

from champ_jax.common.pictures import resize_image
from champ_jax.common.videos import VideoWriter
from champ_jax.inference.stages import to_bytes


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
