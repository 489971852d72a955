"""Random access to any frame of any video of a dataset that tools/build_dataset.py wrote."""

import bisect
import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from champ_jax.data.motion_folder import MASKED, mask_threshold
from champ_jax.data.records import VIDEOS, Video, list_parts, open_part
from champ_jax.errors import InputError
from champ_jax.media import decode_image

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
        names = "\n".join(f"{video.name} {video.frames} {video.fingerprint}" for video in self.videos)
        self.fingerprint = hashlib.sha256(names.encode()).hexdigest()[:16]

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

    def frame(self, video: int, frame: int, kinds: Sequence[str]) -> dict[str, Image.Image]:
        """Some pictures of a frame, RGB; the semantic map is black outside of the mask (`decode`)."""
        return decode(self.record(video, frame), kinds)


def decode(record: dict[str, Any], kinds: Sequence[str]) -> dict[str, Image.Image]:
    """{kind: RGB picture} of a record; the semantic map is zeroed wherever the mask is 0.

    Raises:
      InputError: a picture is damaged; names video, kind and frame.
    """
    pictures = {kind: _picture(record, kind, "RGB") for kind in kinds}
    if MASKED in pictures:
        mask = np.asarray(_picture(record, "mask", "L")) > mask_threshold(record["mask"].startswith(_PNG))
        pictures[MASKED] = Image.fromarray(np.asarray(pictures[MASKED]) * mask[..., None])
    return pictures


def person_box(record: dict[str, Any]) -> np.ndarray | None:
    """(4,) left, top, right, bottom of the person in a record, in pixels; None where there is none."""
    box = np.asarray(record["box"])
    return None if box[0] < 0 else box


def text(record: dict[str, Any], name: str) -> str:
    """A text field of a record."""
    return record[name].decode()


def _picture(record: dict[str, Any], kind: str, mode: str) -> Image.Image:
    name = f"{text(record, 'video')}/{kind}/{text(record, 'frame')}"
    return decode_image(io.BytesIO(record[kind]), mode, name)
