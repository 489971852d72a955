"""Random access to any frame of any video, of a dataset that tools/build_dataset.py wrote or of folders as they are."""

import bisect
import hashlib
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from champ_jax.common.condition_names import MASKED
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import decode_image
from champ_jax.conditions.motion_folder import check_picture, index_frames, mask_threshold, natural_key
from champ_jax.data.folders import NO_BOX, VideoFolder, find_videos, fingerprint, kinds_for, mask_box, read_boxes
from champ_jax.data.records import VIDEOS, Video, list_parts, open_part

_PNG = b"\x89PNG"


@dataclass(frozen=True)
class Place:
    """Where frames of a video are: record `start` of `part` holds frame `first`."""

    first: int
    part: str
    start: int


def locate(listings: dict[str, dict[str, Any]]) -> tuple[dict[Video, list[Place]], dict[Video, set[int]]]:
    """What the parts (`list_parts`) hold.

    Returns:
      ({video: places of its pieces in order} of complete videos, sorted by name whatever parts they are in,
      {video: the first frames of the pieces there are} of the others).
    """
    pieces: dict[Video, dict[int, tuple[int, Place]]] = {}
    for part, listing in listings.items():
        start = 0
        for piece in listing["pieces"]:
            place = Place(piece.first, part, start)
            pieces.setdefault(piece.video, {}).setdefault(piece.first, (piece.count, place))
            start += piece.count
    complete, incomplete = {}, {}
    for video in sorted(pieces, key=lambda video: video.name):
        if sum(count for count, _ in pieces[video].values()) == video.frames:
            complete[video] = [pieces[video][first][1] for first in sorted(pieces[video])]
        else:
            incomplete[video] = set(pieces[video])
    return complete, incomplete


class Dataset:
    """The videos of a dataset. Holds no open file, so that it may be sent to other processes.

    Attributes:
      path: its folder.
      kinds: the pictures every frame has, 'images' and conditions and 'mask'.
      videos: sorted by name.
      fingerprint: of names and lengths of the videos; the order of training follows from it and the seed.
    """

    def __init__(self, path: str | os.PathLike):
        """Reads the listings of all parts.

        Raises:
          InputError: there is no dataset at `path`.
        """
        self.path = Path(path)
        listings = list_parts(self.path / VIDEOS)
        videos, _ = locate(listings)
        if not videos:
            raise InputError(
                f"{self.path}: holds no dataset; write one with "
                f"python tools/build_dataset.py --source=FOLDERS --output={self.path}"
            )
        self.kinds: tuple[str, ...] = tuple(next(iter(listings.values()))["kinds"])
        self.videos, self._places = list(videos), list(videos.values())
        self.fingerprint = _digest(self.videos)

    def __len__(self) -> int:
        return len(self.videos)

    def record(self, video: int, frame: int) -> dict[str, Any]:
        """The record of a frame, pictures encoded: {'video', 'frame', 'box', and a file's bytes for every kind}."""
        part, position = self.position(video, frame)
        return open_part(self.path / VIDEOS / part)[position]

    def position(self, video: int, frame: int) -> tuple[str, int]:
        """(part, record) of a frame."""
        if not 0 <= frame < self.videos[video].frames:
            raise IndexError(f"{self.videos[video].name} has {self.videos[video].frames} frames, not {frame}")
        places = self._places[video]
        place = places[bisect.bisect_right(places, frame, key=lambda place: place.first) - 1]
        return place.part, place.start + frame - place.first


class FolderDataset:
    """Videos read from their folders at every access, for small sets and first tries. Like a `Dataset` otherwise.

    Videos whose frames are incomplete are left out with a warning; a picture that cannot be read is told when it comes.
    """

    def __init__(self, path: str | os.PathLike, kinds: Sequence[str]):
        """
        Args:
          path: a folder with videos at any depth (`folders.find_videos`).
          kinds: the folders a video must have (`folders.kinds_for`).

        Raises:
          InputError: there is no video that has them.
        """
        self.path, self.kinds = Path(path), tuple(kinds)
        self.videos: list[Video] = []
        self._files: list[dict[str, list[str]]] = []
        self._frames: list[list[str]] = []
        self._boxes: list[np.ndarray | None] = []
        reasons = []
        found = find_videos([path])
        for folder in found:
            try:
                self._add(folder)
            except InputError as error:
                reasons.append(str(error))
        if not self.videos:
            raise InputError(f"{path}: none of its {len(found)} videos can be used; {reasons[0]}")
        if reasons:
            warnings.warn(f"{path}: {len(reasons)} of {len(found)} videos are left out; {reasons[0]}", stacklevel=2)
        self.fingerprint = _digest(self.videos)

    def _add(self, folder: VideoFolder) -> None:
        files = index_frames(Path(folder.folder), self.kinds)
        frames = sorted(files["images"], key=natural_key)
        size = check_picture(files["images"][frames[0]])
        self._boxes.append(read_boxes(Path(folder.folder), frames, size))
        self.videos.append(Video(folder.name, len(frames), size, fingerprint(files)[0]))
        self._files.append({kind: [str(files[kind][frame]) for frame in frames] for kind in self.kinds})
        self._frames.append(frames)

    def __len__(self) -> int:
        return len(self.videos)

    def record(self, video: int, frame: int) -> dict[str, Any]:
        """The record of a frame, as `Dataset.record`.

        Raises:
          InputError: a picture cannot be read or has another size than the video's first.
        """
        if not 0 <= frame < self.videos[video].frames:
            raise IndexError(f"{self.videos[video].name} has {self.videos[video].frames} frames, not {frame}")
        name = self._frames[video][frame]
        record: dict[str, Any] = {"video": self.videos[video].name.encode(), "frame": name.encode()}
        for kind, paths in self._files[video].items():
            size = check_picture(Path(paths[frame]))
            if size != self.videos[video].size:
                raise InputError(f"{paths[frame]}: is {size}, other pictures are {self.videos[video].size}")
            record[kind] = Path(paths[frame]).read_bytes()
        boxes = self._boxes[video]
        record["box"] = boxes[frame] if boxes is not None else mask_box(_mask(record)) if "mask" in record else NO_BOX
        return record


def open_dataset(path: str | os.PathLike, conditions: Sequence[str]) -> Dataset | FolderDataset:
    """The dataset at `path`, or the videos in it if it is a folder of videos."""
    if list_parts(Path(path) / VIDEOS) or not Path(path).is_dir():
        return Dataset(path)
    return FolderDataset(path, kinds_for(conditions))


def _digest(videos: Sequence[Video]) -> str:
    names = "\n".join(f"{video.name} {video.frames} {video.fingerprint}" for video in videos)
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def decode(record: dict[str, Any], kinds: Sequence[str]) -> dict[str, Image.Image]:
    """{kind: picture} of a record, RGB, or L where the file is grey; the semantic map is zeroed where the mask is 0.

    Raises:
      InputError: a picture is damaged; names video, kind and frame.
    """
    pictures = {kind: _picture(record, kind, "RGB" if kind in ("images", MASKED) else None) for kind in kinds}
    if MASKED in pictures:
        pictures[MASKED] = Image.fromarray(np.asarray(pictures[MASKED]) * _mask(record)[..., None])
    return pictures


def _mask(record: dict[str, Any]) -> np.ndarray:
    """(H, W) bool, where the body is."""
    return np.asarray(_picture(record, "mask", "L")) > mask_threshold(record["mask"].startswith(_PNG))


def person_box(record: dict[str, Any]) -> np.ndarray | None:
    """(4,) left, top, right, bottom of the person in a record, in pixels; None where there is none."""
    box = np.asarray(record["box"])
    return None if box[0] < 0 else box


def text(record: dict[str, Any], name: str) -> str:
    """A text field of a record."""
    return record[name].decode()


def _picture(record: dict[str, Any], kind: str, mode: str | None) -> Image.Image:
    name = f"{text(record, 'video')}/{kind}/{text(record, 'frame')}"
    return decode_image(io.BytesIO(record[kind]), mode, name)
