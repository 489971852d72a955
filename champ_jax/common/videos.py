"""Videos in and out: the only place where video files are decoded and encoded (PyAV, never a system ffmpeg)."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import platform
import struct
import warnings
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from champ_jax.common.contents import HEAD, describe
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path, open_input
from champ_jax.common.limits import require_memory
from champ_jax.common.pictures import MAX_PIXELS

if TYPE_CHECKING:
    import av  # loaded where it is used: what writes no videos needs none

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")
FORMATS = "mov,mp4,matroska,webm,avi,gif"
"""The demuxers that files are opened with. Others, as playlists, can open further files and addresses."""

MIN_FPS, MAX_FPS = 0.001, 1000.0
_BYTES_PER_PIXEL = 64  # at most, of the frames that a decoder keeps
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # ITU-T H.273
_WIDE_PRIMARIES = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
_COVER = 0x400  # AV_DISPOSITION_ATTACHED_PIC
_THREADS = 4  # of the encoder, fixed because its output depends on their number


def read_video(path: str | os.PathLike) -> Iterator[np.ndarray]:
    """Yields the frames of a video as `read_timed_video`, without their times."""
    for frame, _ in read_timed_video(path):
        yield frame


def read_timed_video(path: str | os.PathLike) -> Iterator[tuple[np.ndarray, float | None]]:
    """Yields the frames of a video as uint8 RGB (height, width, 3), one in memory at a time, and when each is shown.

    The time is in seconds, from any start; None where the file does not say it. The frames are turned and mirrored as
    the video's display matrix says (phones record so). Transparent pixels become black, as in pictures. More than 8
    bits a channel are brought to 8.

    Raises:
      InputError: the file is missing, holds no video (the message says what it is), its frames are too large to decode,
        or it is damaged: the decoder finds an error, or fewer frames than its index lists (the frame is named).

    Warns:
      UserWarning: the video is HDR or of a wide gamut, its pixels are not square, or it has transparency that is not
        decoded, so frames will look off.
    """
    import av

    with _open(path) as (container, stream):
        _warn_of_colors(path, stream)
        # The first error ends decoding: with what decoders invent instead, a damaged video would pass for a bad one.
        stream.codec_context.options = {"err_detect": "explode"}
        stream.thread_type = "AUTO"
        count = packets = shown = 0
        try:
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    raise InputError(f"{path}: is damaged or truncated after frame {count}; save or download it again")
                packets += packet.size > 0
                shown += packet.size > 0 and not packet.is_discard
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise InputError(f"{path}: frame {count} is damaged; save or download the video again")
                    yield _turn(_colors(frame), _matrix(frame)), frame.time
                    count += 1
        except (av.FFmpegError, ValueError, MemoryError) as error:
            if isinstance(error, InputError):
                raise
            why = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: cannot be decoded after frame {count} ({why})") from error
        if not count:
            raise InputError(f"{path}: holds no frames")
        if stream.codec_context.name in ("h264", "hevc") and count < shown:  # a frame a packet
            raise InputError(
                f"{path}: is damaged, {shown - count} of {shown} frames are lost; save or download it again"
            )
        if stream.frames and packets < stream.frames:
            raise InputError(
                f"{path}: is damaged or truncated: its index lists {stream.frames} frames, {packets} are there; save "
                "or download it again"
            )


def video_fps(path: str | os.PathLike) -> float:
    """Frames per second of a video's first stream.

    Raises:
      InputError: as `read_video`, or the video does not say, or says something impossible.
    """
    with _open(path) as (_, stream):
        return _frame_rate(path, stream)


@dataclasses.dataclass(frozen=True)
class VideoFacts:
    """What a video's file says of it; no frame has been decoded.

    Attributes:
      width, height: pixels of the stored frames.
      fps: frames per second.
      frames: number of frames, by the index or else by the length; None where the file says neither.
    """

    width: int
    height: int
    fps: float
    frames: int | None


def video_facts(path: str | os.PathLike) -> VideoFacts:
    """Size, rate and length of a video's first stream; raises InputError as `video_fps`."""
    with _open(path) as (container, stream):
        fps, frames = _frame_rate(path, stream), stream.frames
        if not frames and container.duration:  # in microseconds
            frames = math.ceil(container.duration / 1e6 * fps)
        return VideoFacts(stream.width, stream.height, fps, int(frames) or None)


def _frame_rate(path: str | os.PathLike, stream: Any) -> float:
    rate = stream.average_rate or stream.guessed_rate
    fps = float(rate) if rate else math.nan
    if not MIN_FPS <= fps <= MAX_FPS:
        raise InputError(f"{path}: has no plausible frame rate ({fps:g} frames per second)")
    return fps


class _open:
    """Opens the first video stream of a file."""

    def __init__(self, path: str | os.PathLike):
        self._path = path

    def __enter__(self) -> tuple[Any, Any]:
        import av

        with open_input(self._path) as file:
            head = file.read(HEAD)
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        try:
            self._container = av.open(f"file:{os.fspath(self._path)}", container_options=options)
        except (av.FFmpegError, ValueError) as error:
            what = describe(head)
            if what is None or what.startswith("is a video"):
                why = getattr(error, "strerror", None) or error  # without libav's number and the path
                what = f"{what} that cannot be opened ({why})" if what else "is not a video"
            raise InputError(f"{self._path}: {what}; {', '.join(VIDEO_SUFFIXES)} are read") from error
        try:
            # The cover of a sound file is a video stream, too.
            streams = self._container.streams
            moving = [one for one in streams.video if not int(getattr(one, "disposition", 0)) & _COVER]
            if not moving:
                raise InputError(f"{self._path}: holds no video stream{', but sound' if streams.audio else ''}")
            stream = moving[0]
            if stream.codec_context is None:
                raise InputError(f"{self._path}: is damaged or of an unknown codec; save or download it again")
            pixels = stream.width * stream.height
            if pixels > MAX_PIXELS:
                raise InputError(
                    f"{self._path}: has frames of {stream.width}x{stream.height} pixels, more than the {MAX_PIXELS:,} "
                    "that are read; make it smaller"
                )
            name = f"{self._path}: decoding {stream.width}x{stream.height} pixels"
            require_memory(pixels * _BYTES_PER_PIXEL, name, "make it smaller")
        except BaseException:
            self._container.close()
            raise
        return self._container, stream

    def __exit__(self, *error: Any) -> None:
        self._container.close()


def _warn_of_colors(path: str | os.PathLike, stream: Any) -> None:
    context = stream.codec_context
    transfer = _HDR_TRANSFERS.get(int(context.color_trc or 0))
    primaries = _WIDE_PRIMARIES.get(int(context.color_primaries or 0))
    if transfer:
        warnings.warn(
            f"{path}: is an HDR video ({transfer}); its colors will be off, convert it to BT.709", stacklevel=3
        )
    elif primaries:
        warnings.warn(
            f"{path}: has the wide gamut {primaries}; its colors will be off, convert it to BT.709", stacklevel=3
        )
    if stream.metadata.get("alpha_mode") == "1" and context.name in ("vp8", "vp9"):  # kept beside the pictures
        warnings.warn(f"{path}: its transparency is not decoded; frames show the colors under it", stacklevel=3)
    ratio = stream.sample_aspect_ratio
    if ratio and ratio != 1:
        warnings.warn(f"{path}: its pixels are not square ({ratio}); frames are taken as they are stored", stacklevel=3)


def _colors(frame: av.VideoFrame) -> np.ndarray:
    """(height, width, 3) uint8 RGB, over black where the frame is transparent."""
    if not any(component.is_alpha for component in frame.format.components):
        return frame.to_ndarray(format="rgb24")
    image = frame.to_ndarray(format="rgba")
    return np.rint(image[..., :3] * (image[..., 3:] / np.float32(255))).astype(np.uint8)


def _matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d) of the display matrix as signs: a stored point (x, y) is shown at (a x + c y, b x + d y)."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")  # a buffer, which PyAV's annotations do not say
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = (int(np.sign(value)) if abs(value) > 2**15 else 0 for value in struct.unpack_from("5i", data))
    return a, b, c, d


def _turn(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Turns and mirrors a frame by multiples of 90 degrees; other matrices leave it as it is."""
    a, b, c, d = matrix
    if (a, d) == (0, 0) and b and c:
        image, horizontal, vertical = image.swapaxes(0, 1), c, b
    elif (b, c) == (0, 0) and a and d:
        horizontal, vertical = a, d
    else:
        return image
    return np.ascontiguousarray(image[::vertical, ::horizontal])


@functools.cache
def _encoder_options() -> dict[str, str]:
    """Options with which x264 gives the same bits again.

    Its macroblock tree for AVX-512 reads memory that nobody wrote when a row of macroblocks is not a multiple of 8
    (seen in core 165), so processors that have AVX-512 take the code for AVX2.
    """
    options = {"threads": str(_THREADS)}
    if platform.machine() in ("x86_64", "AMD64"):
        try:
            flags = Path("/proc/cpuinfo").read_text()
        except OSError:
            flags = ""
        if "avx512f" in flags:
            options["x264-params"] = "asm=AVX2"
    return options


class VideoWriter:
    """Streams frames into an H.264 yuv420p file; the file appears when the writer closes without an exception.

    Sizes that yuv420p cannot hold (odd ones) are extended by one repeated row or column. The same frames give the same
    file, bit for bit.

    Example:
      with VideoWriter('out.mp4', fps=24) as writer:
          writer.write(frame)  # uint8 (height, width, 3)
    """

    def __init__(self, path: str | os.PathLike, fps: float, crf: int = 17):
        """
        Args:
          path: the output, an .mp4.
          fps: frames per second, from 0.001 to 1000.
          crf: x264's quality, 0 (lossless) to 51.

        Raises:
          InputError: an impossible frame rate.
        """
        if not MIN_FPS <= fps <= MAX_FPS:
            raise InputError(f"{path}: {fps:g} frames per second; a video can have {MIN_FPS:g} to {MAX_FPS:,.0f}")
        self.path, self.fps, self.crf = Path(path), fps, crf
        self.count = 0
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> VideoWriter:
        import av

        self._atomic = atomic_path(self.path)
        self._temporary = self._atomic.__enter__()
        try:
            self._container = av.open(
                f"file:{self._temporary}", mode="w", format="mp4", options={"movflags": "faststart"}
            )
        except Exception as error:
            self._atomic.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def write(self, frame: np.ndarray) -> None:
        """Appends one uint8 RGB frame (height, width, 3); all frames must have the first one's size."""
        import av

        height, width = frame.shape[:2]
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        stream = self._stream
        if stream is None:
            rate = Fraction(self.fps).limit_denominator(1001)
            stream = self._stream = self._container.add_stream(
                "libx264", rate=rate, options={"crf": str(self.crf)} | _encoder_options()
            )
            stream.width, stream.height = frame.shape[1], frame.shape[0]
            stream.pix_fmt = "yuv420p"
        elif frame.shape[:2] != (stream.height, stream.width):
            raise ValueError(f"frame {self.count} is {width}x{height}, the video is another size")
        self._encode(stream, av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
        self.count += 1

    def _encode(self, stream: av.VideoStream, frame: av.VideoFrame | None) -> None:
        for packet in stream.encode(frame):
            self._container.mux(packet)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._stream is not None and kind is None:
                self._encode(self._stream, None)
            self._container.close()
        except BaseException as failure:
            self._atomic.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._atomic.__exit__(kind, error, traceback)


def write_video(path: str | os.PathLike, frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes uint8 RGB frames (height, width, 3) as an H.264 video."""
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
