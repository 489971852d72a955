"""The frames that people are looked for in: a video, a folder of pictures, or one picture."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from champ_jax.common.contents import HEAD, describe
from champ_jax.common.errors import InputError
from champ_jax.common.files import open_input
from champ_jax.common.pictures import list_images, read_image
from champ_jax.common.videos import VIDEO_SUFFIXES, read_timed_video, video_fps

FPS = 24.0
"""Frames per second of a folder of pictures, or of one picture."""


class Frames:
    """Frames of one size, which can be gone through several times.

    Attributes:
      path: where they are.
      fps: frames per second; of a video whose frames come unevenly, on average.
      times: (T,) s, when each frame is shown, once all of them have been read; None before, for pictures, and where a
        video does not say it.
    """

    def __init__(self, path: str | os.PathLike, fps: float | None = None):
        """
        Args:
          path: a video, a folder of pictures in the order of their names, or a picture.
          fps: frames per second; by default what the video says, `FPS` for pictures.

        Raises:
          InputError: there is no such file or folder, the folder holds no pictures, or the video has no frame rate.
        """
        self.path = Path(path)
        self._pictures: list[Path] | None = None
        if self.path.is_dir():
            self._pictures = list_images(self.path)
            if not self._pictures:
                raise InputError(f"{path}: holds no pictures; name a video, a picture or a folder of pictures")
        elif not _is_video(self.path):
            self._pictures = [self.path]
        self.times: np.ndarray | None = None
        self.fps = fps or (video_fps(self.path) if self._pictures is None else FPS)

    def __iter__(self) -> Iterator[Image.Image]:
        """The frames, RGB, one in memory at a time.

        Raises:
          InputError: a frame cannot be read, or has another size than the first one.
        """
        size, times = None, []
        for index, (frame, time) in enumerate(self._read()):
            height, width = frame.shape[:2]
            if size is None:
                size = width, height
            elif size != (width, height):
                name = f"frame {index}" if self._pictures is None else self._pictures[index].name
                raise InputError(
                    f"{self.path}: {name} is {width}x{height}, the first one {size[0]}x{size[1]}; bring all frames to "
                    "one size"
                )
            times.append(time)
            yield Image.fromarray(frame)
        self.times = None if None in times else np.array(times, np.float64)

    def at(self, numbers: Sequence[int] | np.ndarray) -> Iterator[Image.Image]:
        """The frames of these numbers, which do not decrease; a number may come several times."""
        wanted, place = np.asarray(numbers), 0
        for index, frame in enumerate(self):
            while place < len(wanted) and wanted[place] == index:
                yield frame
                place += 1
            if place == len(wanted):
                return

    def _read(self) -> Iterator[tuple[np.ndarray, float | None]]:
        if self._pictures is None:
            yield from read_timed_video(self.path)
        else:
            for path in self._pictures:
                yield read_image(path), None


def _is_video(path: Path) -> bool:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return True
    with open_input(path) as file:
        what = describe(file.read(HEAD))
    return what is not None and what.startswith("is a video")
