"""What a model has to beat on held-out videos: the reference picture standing still, and the training set by heart."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path, require_folder
from champ_jax.common.pictures import list_images, read_image, write_image

IMAGES = "images"  # a video's folder of frames
_SIDE = 32  # pictures are compared at this size


def find_people(root: str | os.PathLike) -> list[Path]:
    """The videos VIDEO/images/NNNN.png in `root`, sorted.

    Raises:
      InputError: there are none, or one has no pictures.
    """
    videos = sorted(path.parent for path in require_folder(root).glob(f"*/{IMAGES}"))
    if not videos:
        raise InputError(f"{root}: holds no videos (VIDEO/{IMAGES}/NNNN.png)")
    for video in videos:
        if not list_images(video / IMAGES):
            raise InputError(f"{video / IMAGES}: holds no pictures; put the frames of the video there")
    return videos


def write_copies(videos: Sequence[Path], output: str | os.PathLike) -> None:
    """OUTPUT/VIDEO/NNNN.png: the first frame of every video, as often as the video has frames."""
    for video in videos:
        frames = list_images(video / IMAGES)
        _write(Path(output) / video.name, [frames[0]] * len(frames))


def write_nearest(videos: Sequence[Path], train: Sequence[Path], output: str | os.PathLike) -> None:
    """OUTPUT/VIDEO/NNNN.png: for every frame, the one that `find_nearest` finds."""
    for video, found in zip(videos, find_nearest(videos, train)):
        _write(Path(output) / video.name, found)


def find_nearest(videos: Sequence[Path], train: Sequence[Path]) -> Iterator[list[Path]]:
    """For every frame of each video, the frame of the `train` videos with the least squared error at 32x32.

    It knows the true frame, as no model does: the best that a perfect memory of the training set could do.
    """
    known = [frame for video in train for frame in list_images(video / IMAGES)]
    table = np.stack([_small(path) for path in tqdm(known, unit="frame", desc="training frames", disable=None)])
    squares = (table**2).sum(axis=1)
    for video in videos:
        wanted = np.stack([_small(path) for path in list_images(video / IMAGES)])
        found = (squares[None] - 2 * wanted @ table.T).argmin(axis=1)
        yield [known[index] for index in found]


def _small(path: Path) -> np.ndarray:
    picture = Image.fromarray(read_image(path)).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(picture, np.float32).reshape(-1) / 255


def _write(folder: Path, frames: Sequence[Path]) -> None:
    with atomic_path(folder, folder=True) as temporary:
        temporary.mkdir()
        for number, frame in enumerate(frames, 1):
            write_image(temporary / f"{number:04}.png", read_image(frame))
