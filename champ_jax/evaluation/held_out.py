"""Held-out videos of people, and the results of several systems on them side by side."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from champ_jax.common.errors import InputError, listed
from champ_jax.common.pictures import list_images, read_image
from champ_jax.evaluation import resize
from champ_jax.evaluation.baselines import IMAGES
from champ_jax.evaluation.bootstrap import ratio_interval
from champ_jax.evaluation.frames import SMALLEST_SIDE
from champ_jax.evaluation.regions import Values, dilated

MASKS = "mask"
MOTION = "motion.npz"

_INSIDE = 128  # a mask's level from which on a pixel is the person's


@dataclasses.dataclass(frozen=True)
class TrueVideo:
    """A held-out video as it was.

    Attributes:
      folder: where it is; its name is the video's.
      frames: (T, H, W, 3) uint8.
      inside: (T, H, W) bool: the body's mask, dilated.
    """

    folder: Path
    frames: np.ndarray
    inside: np.ndarray

    @property
    def name(self) -> str:
        return self.folder.name

    @classmethod
    def read(cls, folder: Path) -> "TrueVideo":
        """Reads images/ and mask/ of a folder as tools/make_people.py writes it.

        Raises:
          InputError: pictures or masks are missing, damaged, of several sizes or too small to measure.
        """
        frames = _stack(list_images(folder / IMAGES))
        height, width = frames.shape[1:3]
        if min(height, width) < SMALLEST_SIDE:
            raise InputError(f"{folder / IMAGES}: {width}x{height} is too small to measure; {SMALLEST_SIDE} are needed")
        files = list_images(folder / MASKS)
        if len(files) != len(frames):
            raise InputError(f"{folder / MASKS}: has {len(files)} masks for {len(frames)} frames; make the video again")
        masks = _stack(files, "L")
        if masks.shape != frames.shape[:3]:
            raise InputError(f"{files[0]}: is {masks.shape[2]}x{masks.shape[1]}, the frames are {width}x{height}")
        return cls(folder, frames, dilated(masks >= _INSIDE))

    def read_result(self, folder: str | os.PathLike) -> np.ndarray:
        """What a system made of it, FOLDER/VIDEO/NNNN.png, at the video's size: (T, H, W, 3) uint8.

        Raises:
          InputError: frames are missing or damaged.
        """
        place = Path(folder) / self.name
        files = list_images(place)
        if len(files) != len(self.frames):
            raise InputError(f"{place}: has {len(files)} frames, the true video has {len(self.frames)}; make it again")
        height, width = self.frames.shape[1:3]
        return np.stack([resize.antialiased(read_image(path), height, width) for path in files])


def _stack(files: Sequence[Path], mode: str = "RGB") -> np.ndarray:
    pictures = [read_image(path, mode) for path in files]
    for path, picture in zip(files, pictures):
        if picture.shape != pictures[0].shape:
            (height, width), (first, across) = picture.shape[:2], pictures[0].shape[:2]
            raise InputError(f"{path}: is {width}x{height}, the frames before are {across}x{first}")
    return np.stack(pictures)


def choose_videos(videos: Sequence[Path], predictions: Sequence[Path], missing: str) -> tuple[list[Path], list[str]]:
    """The held-out videos that are compared, and remarks about the others.

    Args:
      videos: the folders of the true ones.
      predictions: folders OUT of OUT/VIDEO/NNNN.png.
      missing: 'refuse' videos that a folder of predictions lacks, or 'skip' them.

    Raises:
      InputError: a folder lacks videos, and that is to be refused, or no video is left.
    """
    remarks, kept = [], list(videos)
    for folder in predictions:
        absent = [video.name for video in videos if not (folder / video.name).is_dir()]
        if absent and (missing == "refuse" or len(absent) == len(videos)):
            raise InputError(
                f"--predictions={folder}: lacks {len(absent)} of {len(videos)} videos: {listed(absent)}; "
                "make them, or set --missing=skip to measure the others"
            )
        if absent:
            remarks.append(f"{folder} lacks {len(absent)} of {len(videos)} videos, left out: {listed(absent)}")
        kept = [video for video in kept if video.name not in absent]
    if not kept:
        raise InputError(f"--predictions={','.join(map(str, predictions))}: have no video in common")
    return kept, remarks


class Comparison:
    """Measures of several systems on the same videos; adds up over people.

    Attributes:
      videos: names in the order they were added.
    """

    def __init__(self) -> None:
        self.videos: list[str] = []
        self._values: dict[str, dict[str, dict[str, Values]]] = {}

    def add(self, system: str, video: str, measures: Mapping[str, Values]) -> None:
        """Adds measures {metric: values} of a system's result for a video."""
        if video not in self.videos:
            self.videos.append(video)
        for metric, values in measures.items():
            self._values.setdefault(system, {}).setdefault(metric, {})[video] = values

    @property
    def systems(self) -> list[str]:
        """The systems in the order they were added."""
        return list(self._values)

    def metrics(self, system: str) -> list[str]:
        """The metrics of a system that have a value for some video."""
        return [
            name for name, by_video in self._values[system].items() if any(v.weights.any() for v in by_video.values())
        ]

    def of_video(self, system: str, metric: str, video: str) -> Values | None:
        """A system's values of a video's frames, None if it was not measured."""
        return self._values.get(system, {}).get(metric, {}).get(video)

    def mean(self, system: str, metric: str, resamples: int = 0) -> tuple[float, tuple[float, float] | None]:
        """The mean over all frames, and its 95 % bootstrap interval over people."""
        totals, weights = self._sums(system, metric)
        return float(totals.sum() / weights.sum()), ratio_interval(totals, weights, resamples)

    def difference(
        self, system: str, other: str, metric: str, resamples: int = 0
    ) -> tuple[float, tuple[float, float] | None] | None:
        """The mean of a system less that of another, and the interval of that, both drawn with the same people.

        None if they were not measured on the same frames.
        """
        (a, weights), (b, others) = self._sums(system, metric), self._sums(other, metric)
        if a.shape != b.shape or not np.array_equal(weights, others):
            return None
        return float((a - b).sum() / weights.sum()), ratio_interval(a - b, weights, resamples)

    def _sums(self, system: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Totals and weights of each person, (P,) each."""
        people: dict[str, list[float]] = {}
        for video, values in self._values.get(system, {}).get(metric, {}).items():
            sums = people.setdefault(person_of(video), [0.0, 0.0])
            sums[0] += float(values.totals.sum())
            sums[1] += float(values.weights.sum())
        table = np.array([people[name] for name in sorted(people)]).reshape(-1, 2)
        return table[:, 0], table[:, 1]


def person_of(video: str) -> str:
    """The person of a video of tools/make_people.py, which names videos pPERSON_mMOTION; others are one each."""
    return re.sub(r"_m\d+$", "", video) if re.fullmatch(r"p\d+_m\d+", video) else video
