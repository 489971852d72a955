"""Random access to the frames of a dataset that tools/build_dataset.py wrote, or of folders of videos."""

import bisect
import hashlib
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from champ_jax.common.condition_names import MASKED
from champ_jax.common.errors import InputError
from champ_jax.common.files import read_bytes
from champ_jax.common.pictures import check_image, decode_image
from champ_jax.conditions.frame_files import index_frames, mask_threshold, natural_key
from champ_jax.data.folders import NO_BOX, VideoFolder, find_videos, fingerprint, kinds_for, mask_box, read_boxes
from champ_jax.data.records import MAX_PICTURE, VIDEOS, Listing, Video, list_parts, open_part

_PNG = b"\x89PNG"


@dataclass(frozen=True)
class StoredPiece:
    """Where consecutive frames of a video are stored.

    Attributes:
      first: index of the first frame in the video.
      count: number of frames.
      part: name of the part.
      start: index of the first frame's record in the part.
    """

    first: int
    count: int
    part: str
    start: int


def locate_videos(listings: Mapping[str, Listing]) -> tuple[dict[Video, list[StoredPiece]], dict[Video, set[int]]]:
    """Finds the videos in the parts (`list_parts`).

    Returns:
      ({video: its pieces in order} of complete videos, sorted by name whatever parts they are in,
      {video: the first frames of its pieces} of videos that lack pieces).
    """
    pieces: dict[Video, dict[int, StoredPiece]] = {}
    for part, listing in listings.items():
        start = 0
        for piece in listing.pieces:
            stored = StoredPiece(piece.first, piece.count, part, start)
            pieces.setdefault(piece.video, {}).setdefault(piece.first, stored)
            start += piece.count
    complete, incomplete = {}, {}
    for video in sorted(pieces, key=lambda video: video.name):
        ordered = [pieces[video][first] for first in sorted(pieces[video])]
        ends = [0, *(piece.first + piece.count for piece in ordered)]
        if [*(piece.first for piece in ordered), video.frames] == ends:
            complete[video] = ordered
        else:
            incomplete[video] = set(pieces[video])
    return complete, incomplete


class Dataset:
    """The videos of a dataset. It holds no open file, so that it can be sent to other processes.

    Attributes:
      path: the dataset's folder.
      kinds: the pictures that every frame has: 'images', conditions, 'mask'.
      videos: all complete videos, sorted by name.
      fingerprint: digest of the names, lengths and fingerprints of the videos.
    """

    def __init__(self, path: str | os.PathLike):
        """Reads the listings of all parts.

        Raises:
          InputError: there is no dataset at `path`, or a part is damaged or has other kinds of picture.
        """
        self.path = Path(path)
        listings = list_parts(self.path / VIDEOS)
        videos, _ = locate_videos(listings)
        if not videos:
            raise InputError(
                f"{self.path}: holds no dataset; write one with "
                f"python tools/build_dataset.py --source=FOLDERS --output={self.path}"
            )
        self.kinds: tuple[str, ...] = next(iter(listings.values())).kinds
        for part, listing in listings.items():
            if listing.kinds != self.kinds or "images" not in listing.kinds:
                raise InputError(
                    f"{self.path / VIDEOS / part}: its frames have {', '.join(listing.kinds) or 'no pictures'}, others "
                    f"have {', '.join(self.kinds) or 'none'}; build the dataset again with the same --conditions"
                )
        self.videos, self._pieces = list(videos), list(videos.values())
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
        pieces = self._pieces[video]
        piece = pieces[bisect.bisect_right(pieces, frame, key=lambda piece: piece.first) - 1]
        return piece.part, piece.start + frame - piece.first


class FolderDataset:
    """Videos read from their folders at every access, for small sets and first tries. Its interface is `Dataset`'s.

    Videos whose frames are incomplete are left out with a warning. A picture that cannot be read is an error when it is
    asked for.
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
        size = check_image(files["images"][frames[0]])
        self._boxes.append(read_boxes(Path(folder.folder), frames, size))
        self.videos.append(Video(folder.name, len(frames), size, fingerprint(files)[0]))
        self._files.append({kind: [str(files[kind][frame]) for frame in frames] for kind in self.kinds})
        self._frames.append(frames)

    def __len__(self) -> int:
        return len(self.videos)

    def record(self, video: int, frame: int) -> dict[str, Any]:
        """The record of a frame, as `Dataset.record`.

        Raises:
          InputError: a picture cannot be read, or its size is not that of the video's first picture.
        """
        if not 0 <= frame < self.videos[video].frames:
            raise IndexError(f"{self.videos[video].name} has {self.videos[video].frames} frames, not {frame}")
        name = self._frames[video][frame]
        record: dict[str, Any] = {"video": self.videos[video].name.encode(), "frame": name.encode()}
        for kind, paths in self._files[video].items():
            size, first = check_image(Path(paths[frame])), self.videos[video].size
            if size != first:
                raise InputError(
                    f"{paths[frame]}: is {size[0]}x{size[1]}, the video's first picture is {first[0]}x{first[1]}; "
                    "all pictures of a video must have one size"
                )
            record[kind] = read_bytes(paths[frame], MAX_PICTURE)
        boxes = self._boxes[video]
        record["box"] = boxes[frame] if boxes is not None else mask_box(_mask(record)) if "mask" in record else NO_BOX
        return record


def open_dataset(path: str | os.PathLike, conditions: Sequence[str]) -> Dataset | FolderDataset:
    """The dataset at `path`, or a `FolderDataset` if it is a folder of videos."""
    if list_parts(Path(path) / VIDEOS) or not os.path.isdir(path):
        return Dataset(path)
    return FolderDataset(path, kinds_for(conditions))


def _digest(videos: Sequence[Video]) -> str:
    names = "\n".join(f"{video.name} {video.frames} {video.fingerprint}" for video in videos)
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def decode(
    record: Mapping[str, Any], kinds: Sequence[str], size: tuple[int, int] | None = None
) -> dict[str, Image.Image]:
    """The pictures of a record, RGB, or L where the file is gray. Semantic maps are black where the mask is 0.

    Args:
      record: A record of `Dataset.record`.
      kinds: the pictures to decode.
      size: (width, height) that all of them must have; None does not check it.

    Returns:
      {kind: picture}.

    Raises:
      InputError: a picture is damaged or of another size; video, kind and frame are named.
    """
    pictures = {kind: _picture(record, kind, "RGB" if kind in ("images", MASKED) else None) for kind in kinds}
    if MASKED in pictures:
        mask = _mask(record)
        if mask.shape[::-1] != pictures[MASKED].size:
            raise InputError(f"{_picture_name(record, 'mask')}: has another size than the {MASKED}; build it again")
        pictures[MASKED] = Image.fromarray(np.asarray(pictures[MASKED]) * mask[..., None])
    for kind, picture in pictures.items():
        if size is not None and picture.size != tuple(size):
            raise InputError(
                f"{_picture_name(record, kind)}: is {picture.width}x{picture.height}, its video {size[0]}x{size[1]}; "
                "build the dataset again"
            )
    return pictures


def _mask(record: Mapping[str, Any]) -> np.ndarray:
    """(H, W) bool, where the body is."""
    return np.asarray(_picture(record, "mask", "L")) > mask_threshold(record["mask"].startswith(_PNG))


def person_box(record: Mapping[str, Any]) -> np.ndarray | None:
    """(4,) left, top, right, bottom of the person in a record, in pixels; None where there is none."""
    box = np.asarray(record["box"])
    return None if box[0] < 0 else box


def text_field(record: Mapping[str, Any], name: str) -> str:
    """A text field of a record."""
    return record[name].decode(errors="replace")


def _picture(record: Mapping[str, Any], kind: str, mode: str | None) -> Image.Image:
    return decode_image(io.BytesIO(record[kind]), mode, _picture_name(record, kind))


def _picture_name(record: Mapping[str, Any], kind: str) -> str:
    """The name of a record's picture in messages: 'VIDEO/KIND/FRAME'."""
    return f"{text_field(record, 'video')}/{kind}/{text_field(record, 'frame')}"
