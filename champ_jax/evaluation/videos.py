"""Finds and reads the videos to compare: folders of frames or video files, matched by name."""

import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from champ_jax.common.errors import InputError, listed
from champ_jax.common.files import find_type, reason
from champ_jax.common.pictures import has_alpha, list_images, read_image
from champ_jax.common.videos import VIDEO_SUFFIXES, read_video

# Where a training or motion folder keeps its frames, next to the conditions.
_FRAMES_FOLDER = "images"


@dataclasses.dataclass(frozen=True)
class Video:
    """One video on disk.

    Attributes:
      name: the folder's or the file's name without suffix.
      path: folder or file.
      frames: the picture files of a folder in the order of their numbers, empty for a video file.
    """

    name: str
    path: Path
    frames: tuple[Path, ...] = ()

    def count(self) -> int:
        """Number of frames (a video file is decoded once for it, because headers are unreliable)."""
        return len(self.frames) if self.frames else sum(1 for _ in read_video(self.path))

    def read(self) -> Iterator[np.ndarray]:
        """The frames, uint8 (H, W, 3), one in memory at a time."""
        return map(read_image, self.frames) if self.frames else read_video(self.path)

    def frame(self, index: int) -> np.ndarray:
        """One frame; of a video file, everything before it is decoded too."""
        if self.frames:
            return read_image(self.frames[index])
        return next(itertools.islice(self.read(), index, None))

    def frame_name(self, index: int) -> str:
        """How messages name a frame."""
        return str(self.frames[index]) if self.frames else f"{self.path} frame {index}"

    def transparent_frame(self) -> Path | None:
        """The first frame file with an alpha channel; raises InputError for a file that is not a picture."""
        return next((path for path in self.frames if has_alpha(path)), None)


def find_videos(root: str | Path, field: str) -> dict[str, Video]:
    """{name: Video} of `root`: a folder of videos, one folder of frames, or one video file.

    A folder `X/images/` with frames is the video X, as in training folders. One video alone has the name ''.

    Raises:
      InputError: `root` is missing or holds no video, or two of its videos share a name; `field` names the setting.
    """
    root = Path(root)
    kind = find_type(root)
    if kind is None:
        raise InputError(f"--config.{field}={root}: no such file or folder")
    if kind != "folder":
        if root.suffix.lower() not in VIDEO_SUFFIXES:
            raise InputError(f"--config.{field}={root}: neither a folder nor a video file ({' '.join(VIDEO_SUFFIXES)})")
        return {"": Video(root.stem, root)}
    try:
        return _videos_in(root, field)
    except OSError as error:
        raise InputError(f"--config.{field}={root}: {error.filename} cannot be read ({reason(error)})") from error


def _videos_in(root: Path, field: str) -> dict[str, Video]:
    """The videos of the folder `root`; raises what `find_videos` raises, and OSError."""
    if alone := _frames_of(root):
        return {"": Video(root.name, root, alone)}
    videos: dict[str, Video] = {}
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            frames = _frames_of(path)
            video = Video(path.name, path, frames) if frames else None
        else:
            video = Video(path.stem, path) if path.suffix.lower() in VIDEO_SUFFIXES else None
        if video is None:
            continue
        if video.name in videos:
            raise InputError(f"--config.{field}: {videos[video.name].path} and {path} share a name; remove one")
        videos[video.name] = video
    if not videos:
        raise InputError(f"--config.{field}={root}: holds no folders of frames and no video files")
    return videos


def _frames_of(folder: Path) -> tuple[Path, ...]:
    for candidate in (folder, folder / _FRAMES_FOLDER):
        if candidate.is_dir() and (frames := list_images(candidate)):
            return tuple(sorted(frames, key=_natural))
    return ()


def _natural(path: Path) -> list[tuple[int, str]]:
    """frame_2 before frame_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.stem)]


def _number(path: Path) -> int | None:
    """The last number in a frame's name."""
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else None


@dataclasses.dataclass(frozen=True)
class Pair:
    """A prediction and its ground truth with the same number of frames to compare."""

    name: str
    prediction: Video
    truth: Video
    count: int

    def read(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(ground truth, prediction) frame by frame.

        Raises:
          InputError: a file is truncated.
        """
        for index, frames in enumerate(zip(self.truth.read(), self.prediction.read(), strict=False)):
            if index == self.count:
                return
            yield frames


def match_videos(
    predictions: dict[str, Video], truths: dict[str, Video], *, missing: str, lengths: str
) -> tuple[list[Pair], list[str]]:
    """Pairs by name, sorted, and remarks for the report.

    Args:
      predictions, truths: The videos that `find_videos` found.
      missing: 'refuse' videos that only one side has, or 'skip' them.
      lengths: 'strict', or 'shortest' to compare the frames both have.

    Raises:
      InputError: videos are missing, lengths differ, and that is to be refused.
    """
    remarks: list[str] = []
    if set(predictions) == {""} or set(truths) == {""}:
        if len(predictions) != 1 or len(truths) != 1:
            raise InputError("one side is a single video, the other a folder of videos; name the same kind for both")
        pairs = [(next(iter(truths.values())).name, next(iter(predictions.values())), next(iter(truths.values())))]
    else:
        absent = sorted(set(truths) - set(predictions))
        extra = sorted(set(predictions) - set(truths))
        if absent and missing == "refuse":
            raise InputError(
                f"--config.predictions lacks {len(absent)} of {len(truths)} videos: {listed(absent)}; "
                "make them, or set --config.missing=skip"
            )
        if absent:
            remarks.append(f"no predictions for {len(absent)} of {len(truths)} videos: {listed(absent)}")
        if extra:
            remarks.append(f"predictions without ground truth, left out: {listed(extra)}")
        names = sorted(set(truths) & set(predictions))
        if not names:
            raise InputError(
                f"no names match: predictions are {listed(sorted(predictions))}; "
                f"ground truth is {listed(sorted(truths))}"
            )
        pairs = [(name, predictions[name], truths[name]) for name in names]
    matched = []
    for name, prediction, truth in pairs:
        prediction_count, truth_count = prediction.count(), truth.count()
        if prediction_count != truth_count:
            unequal = f"{name}: {prediction_count} predicted frames, {truth_count} of ground truth"
            if lengths == "strict":
                raise InputError(f"{unequal}; set --config.lengths=shortest to compare the first frames")
            remarks.append(f"{unequal}: the first {min(prediction_count, truth_count)} are compared")
        elif (
            prediction.frames
            and truth.frames
            and list(map(_number, prediction.frames)) != list(map(_number, truth.frames))
        ):
            remarks.append(f"{name}: the two sides number their frames differently; paired in order")
        for video in (prediction, truth):
            if (path := video.transparent_frame()) is not None:
                remarks.append(f"{path}: has an alpha channel; transparent pixels count as black")
        matched.append(Pair(name, prediction, truth, min(prediction_count, truth_count)))
    return matched, remarks
