"""Videos in and out: the only place where video files are decoded and encoded (PyAV, never a system ffmpeg)."""

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")


def read_video(path: str | os.PathLike) -> Iterator[np.ndarray]:
    """Yields the frames of a video as uint8 RGB (H, W, 3), one in memory at a time.

    Raises:
      InputError: the file is missing, holds no video, or breaks off (the frame is named).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    count = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path}: holds no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                yield frame.to_ndarray(format="rgb24")
                count += 1
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be decoded after frame {count} ({error})") from error
    if not count:
        raise InputError(f"{path}: holds no frames")


def video_fps(path: str | os.PathLike) -> float:
    """Frames per second of a video's first stream."""
    with av.open(str(path)) as container:
        return float(container.streams.video[0].average_rate)


class VideoWriter:
    """Streams frames into an H.264 yuv420p file; the file appears when the writer closes without an exception.

    Sizes that yuv420p cannot hold (odd ones) are extended by one repeated row or column.

    Example:
      with VideoWriter('out.mp4', fps=24) as writer:
          writer.write(frame)  # uint8 (H, W, 3)
    """

    def __init__(self, path: str | os.PathLike, fps: float, crf: int = 17):
        self.path, self.fps, self.crf = Path(path), fps, crf
        self.count = 0
        self._stream = None

    def __enter__(self) -> "VideoWriter":
        self._atomic = atomic_path(self.path)
        self._temporary = self._atomic.__enter__()
        try:
            self._container = av.open(str(self._temporary), mode="w", format="mp4", options={"movflags": "faststart"})
        except Exception as error:
            self._atomic.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def write(self, frame: np.ndarray) -> None:
        """Appends one uint8 RGB frame (H, W, 3); all frames must have the first one's size."""
        height, width = frame.shape[:2]
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            rate = Fraction(self.fps).limit_denominator(1001)
            self._stream = self._container.add_stream("libx264", rate=rate, options={"crf": str(self.crf)})
            self._stream.width, self._stream.height = frame.shape[1], frame.shape[0]
            self._stream.pix_fmt = "yuv420p"
        elif frame.shape[:2] != (self._stream.height, self._stream.width):
            raise ValueError(f"frame {self.count} is {width}x{height}, the video is another size")
        self._encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
        self.count += 1

    def _encode(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._stream is not None and kind is None:
                self._encode(None)
            self._container.close()
        except BaseException as failure:
            self._atomic.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._atomic.__exit__(kind, error, traceback)


def write_video(path: str | os.PathLike, frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes uint8 RGB frames (H, W, 3) as an H.264 video."""
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
