"""What an animation would be made of, drawn while a user looks: one frame's body over the picture, and its maps."""

import dataclasses
import functools
from itertools import islice
from pathlib import Path

import numpy as np

from champ_jax.app.motion_edits import edited_motion
from champ_jax.app.request import FieldError, MotionEdits
from champ_jax.app.uploads import MOTION_FOLDER, VIDEO
from champ_jax.body.importers import import_motion
from champ_jax.body.motion import Motion
from champ_jax.body.smpl import BodyModel, load_body
from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import read_image, resize_image
from champ_jax.common.videos import read_video
from champ_jax.conditions.motion_folder import MotionFolder
from champ_jax.conditions.preview import preview
from champ_jax.conditions.rendered_motion import render_motion
from champ_jax.conditions.sources import fit_camera

SIDE = 384
"""Pixels of the longer side. Maps are drawn in a square of it, which is compiled once, and squeezed to the picture's
aspect."""

PICTURE, BODY, DRIVING = "picture", "body", "driving"
"""Images of a preview beside the maps: the picture, the body over it, and the frame of a driving video."""


@dataclasses.dataclass(frozen=True)
class Preview:
    """One frame of what an animation would be made of.

    Attributes:
      frames: number of frames of the motion before it is trimmed; None for a driving video, which is not counted.
      frame: the number of the one that is shown.
      images: {name: (height, width, 3) uint8}, all of one size: 'picture', then 'body' and the four conditions of a
        motion, the maps of a motion folder, or 'driving' of a video.
      notes: lines that the user should see.
    """

    frames: int | None
    frame: int
    images: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()


def draw_preview(
    reference: Path,
    kind: str,
    motion: Path,
    edits: MotionEdits,
    frame: int,
    *,
    body: str = "",
    person: Motion | None = None,
) -> Preview:
    """Draws one frame.

    Args:
      reference: the picture.
      kind: what the motion is: 'motion', 'motion folder' or 'video'.
      motion: its file or folder.
      edits: how the motion is changed. Without a `person` it is not aligned.
      frame: number of a frame of the motion before it is trimmed; the nearest one that is kept is shown.
      body: the body file of motions; '' for the open body.
      person: the picture's person, fitted.

    Raises:
      FieldError: an edit cannot be done.
      InputError: a file cannot be read, or the body cannot be drawn.
    """
    picture, size = _picture(reference)
    if kind == VIDEO:
        shown = resize_image(_video_frame(motion, frame), (picture.shape[1], picture.shape[0]))
        return Preview(None, frame, {PICTURE: picture, DRIVING: shown})
    if kind == MOTION_FOLDER:
        return _of_folder(picture, size, motion, edits, frame)
    whole, model = _motion(motion), _body(body)
    edited = edited_motion(whole, edits, size, person, model)
    place = min(max(frame - edits.start, 0), len(edited) - 1)
    one, number = edited[place : place + 1], edits.start + place
    if not one.valid[0]:
        return Preview(len(whole), number, {PICTURE: picture}, (f"frame {number} does not show the body",))
    try:
        drawn = render_motion(fit_camera(one, size, "crop"), model, conditions=CONDITIONS).read(0, 1, (SIDE, SIDE))
    except InputError as error:  # which knows of one frame only
        raise InputError(str(error).replace("frame 0", f"frame {number}")) from error
    notes = () if drawn["normal"].any() else (f"frame {number}: the body is outside the picture",)
    return Preview(len(whole), number, _over(picture, {name: maps[0] for name, maps in drawn.items()}), notes)


def motion_length(path: Path) -> int:
    """The number of frames of a motion's file; raises InputError."""
    return len(_motion(path))


def _of_folder(picture: np.ndarray, size: tuple[int, int], path: Path, edits: MotionEdits, frame: int) -> Preview:
    if edits.changes_body:
        raise FieldError(
            "edits: the maps of a motion folder are drawn already; only start and stop change them", "edits"
        )
    kept = tuple(name for name in CONDITIONS if (path / name).is_dir())
    folder = MotionFolder(path, kept, picture_size=size)
    count = len(folder)
    for name, bound, least in (("start", edits.start, 0), ("stop", edits.stop, 1)):
        if bound is not None and bound > count - 1 + least:
            raise FieldError(f"edits.{name}={bound}: the motion has {count} frames", f"edits.{name}")
    number = min(max(frame, edits.start), (edits.stop or count) - 1)
    maps = folder.read(number, number + 1, (SIDE, SIDE))
    return Preview(count, number, _over(picture, {name: images[0] for name, images in maps.items()}))


def _over(picture: np.ndarray, maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The picture, the body over it where there is a normal map, and the maps, squeezed to the picture's size."""
    height, width = picture.shape[:2]
    squeezed = {name: resize_image(image, (width, height), "nearest") for name, image in maps.items()}
    body = {BODY: preview(squeezed["normal"], picture)} if "normal" in squeezed else {}
    return {PICTURE: picture} | body | squeezed


# Files of uploads never change: an id is given once.


@functools.lru_cache(maxsize=16)
def _picture(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """The picture, made small, and its own (width, height)."""
    picture = read_image(path)
    height, width = picture.shape[:2]
    scale = SIDE / max(width, height)
    return resize_image(picture, (max(round(width * scale), 1), max(round(height * scale), 1))), (width, height)


@functools.lru_cache(maxsize=8)
def _motion(path: Path) -> Motion:
    return import_motion(path)[0]


@functools.lru_cache(maxsize=1)
def _body(path: str) -> BodyModel:
    return load_body(path or None)


@functools.lru_cache(maxsize=8)
def _video_frame(path: Path, frame: int) -> np.ndarray:
    """A frame of a video, or the last one where it is shorter."""
    shown = None
    for shown in islice(read_video(path), frame + 1):  # noqa: B007 - the last one is meant
        pass
    if shown is None:
        raise InputError(f"{path.name}: shows no frame; record it again")
    return shown
