"""Random access to any frame of any video of a dataset that tools/build_dataset.py wrote."""

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from champ_jax.data.motion_folder import MASKED
from champ_jax.data.records import VIDEOS, Video, list_parts, open_part
from champ_jax.errors import InputError
from champ_jax.media import decode_image


@dataclass(frozen=True)
class Place:
    """Where a video's records are: in `part`, from record `start` on."""

    video: Video
    part: str
    start: int


def places(parts: dict[str, dict[str, Any]]) -> list[Place]:
    """The videos of some parts (`list_parts`), sorted by name, whatever parts they were written in."""
    found: dict[str, Place] = {}
    for part, listing in parts.items():
        start = 0
        for fields in listing["videos"]:
            video = Video(**{**fields, "size": tuple(fields["size"])})
            found.setdefault(video.name, Place(video, part, start))
            start += video.frames
    return [found[name] for name in sorted(found)]


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
        parts = list_parts(self.path / VIDEOS)
        self._places = places(parts)
        if not self._places:
            raise InputError(
                f"{self.path}: holds no dataset; write one with "
                f"python tools/build_dataset.py --source=FOLDERS --output={self.path}"
            )
        self.kinds: tuple[str, ...] = tuple(next(iter(parts.values()))["kinds"])
        self.videos: list[Video] = [place.video for place in self._places]
        names = "\n".join(f"{video.name} {video.frames} {video.fingerprint}" for video in self.videos)
        self.fingerprint = hashlib.sha256(names.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.videos)

    def record(self, video: int, frame: int) -> dict[str, Any]:
        """The record of a frame, pictures encoded: {'video', 'frame', 'box', and a file's bytes for every kind}."""
        place = self._places[video]
        if not 0 <= frame < place.video.frames:
            raise IndexError(f"{place.video.name} has {place.video.frames} frames, not {frame}")
        return open_part(self.path / VIDEOS / place.part)[place.start + frame]

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
        mask = np.asarray(_picture(record, "mask", "L")) > _threshold(record["mask"])
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


def _threshold(file: bytes) -> int:
    """The grey value that a mask's body lies above; lossy files have no exact 0."""
    return 0 if file.startswith(b"\x89PNG") else 127
