"""What a `motion` path may be: the one definition, for the animation and for the tools that draw maps."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from champ_jax.body.aspect import differ_in_aspect, fit_image_size
from champ_jax.body.importers import import_motion
from champ_jax.body.motion import Motion
from champ_jax.body.smpl import load_body
from champ_jax.common.condition_names import CONDITIONS, MASK
from champ_jax.common.errors import InputError
from champ_jax.common.files import find_type
from champ_jax.common.pictures import IMAGE_SUFFIXES
from champ_jax.common.videos import VIDEO_SUFFIXES
from champ_jax.conditions.frame_files import parse_frames
from champ_jax.conditions.mesh_sequence import MeshSequence, is_mesh_sequence
from champ_jax.conditions.motion_folder import MotionFolder
from champ_jax.conditions.rendered_motion import (
    RENDERED,
    SKELETON,
    RenderedMotion,
    render_mesh_sequence,
    render_motion,
)

MotionOrMesh = TypeVar("MotionOrMesh", bound=Motion | MeshSequence)

_FIT_NOTES = {
    "crop": "what lies outside of the picture is cut off (fit=pad keeps all of it)",
    "pad": "all of it is kept, with room at two sides (fit=crop fills the picture)",
    "none": "it is stretched, and the person with it (fit=crop or fit=pad does not)",
}


def open_conditions(
    path: str | os.PathLike,
    *,
    conditions: Sequence[str] | None = None,
    frames: str | None = None,
    body: str | os.PathLike | None = None,
    backend: str = "jax",
    image_size: tuple[int, int] | None = None,
    picture_size: tuple[int, int] | None = None,
    fit: str = "crop",
) -> tuple[MotionFolder | RenderedMotion, list[str]]:
    """Opens the conditions that a path holds or describes.

    Args:
      path: a motion folder ({depth,normal,semantic_map,dwpose,mask}/NNNN.png), a motion.npz, a mesh_sequence.npz, or
        any file or folder that `champ_jax.body.importers` reads, such as the folder of per-frame .npy that Champ's own
        scripts write.
      conditions: names of conditions; None takes the four motion conditions of a motion folder and everything that can
        be drawn (those and the mask) of a motion.
      frames: 'a:b', a Python slice of the frames; None takes all.
      body: the file of the body that does the motion; None is the open body.
      backend: what draws the maps, 'jax' or 'pyrender'.
      image_size: (width, height) of drawn frames; None takes the motion's own.
      picture_size: (width, height) of the picture to animate. Conditions whose aspect differs from it are fitted to it.
      fit: how they are fitted: 'crop', 'pad' or 'none' (stretched), as `champ_jax.body.aspect.fit_image_size` does it.

    Returns:
      The conditions, read or drawn when they are asked for, and lines that the user should see: what was assumed, left
      out or fitted.

    Raises:
      InputError: the path is none of these, or what it holds is broken or lacks frames or conditions.
    """
    path = Path(path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise InputError(f"{path}: is a video; give a motion (bodies are fitted to a video first, see docs/motion.md)")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f"{path}: is a picture; give a motion folder, whose folders hold a picture a frame")
    if find_type(path) == "folder" and _holds_maps(path):
        folder = MotionFolder(path, conditions or CONDITIONS, frames, picture_size=picture_size, fit=fit)
        return folder, _fit_notes(path, folder.image_size, picture_size, fit)
    drawn: dict[str, Any] = {"backend": backend, "image_size": image_size}
    if is_mesh_sequence(path):
        source: Motion | MeshSequence = MeshSequence.load(path)
        notes = []
        if conditions is None or (SKELETON in conditions and len(conditions) > 1):
            conditions = [name for name in conditions or RENDERED if name != SKELETON]
            notes.append(f"{path}: a mesh sequence has no poses; {SKELETON} is left out")
    else:
        source, notes = _import(path)
    taken = parse_frames(frames, len(source), str(path))
    notes += _fit_notes(path, tuple(int(side) for side in source.image_size), picture_size, fit)
    if picture_size is not None:
        source = fit_camera(source, picture_size, fit)
    drawn |= {"frames": slice(taken.start, taken.stop, taken.step), "conditions": conditions or RENDERED}
    if isinstance(source, MeshSequence):
        return render_mesh_sequence(source, **drawn), notes
    return render_motion(source, load_body(body), **drawn), notes


def fit_camera(source: MotionOrMesh, picture_size: tuple[int, int], fit: str) -> MotionOrMesh:
    """A motion, or a mesh that moves, before a camera of the picture's aspect; what has it already stays as it is.

    Args:
      picture_size: (width, height) of the picture.
      fit: 'crop', 'pad' or 'none', as `champ_jax.body.aspect.fit_image_size` does it.
    """
    if not differ_in_aspect(source.image_size, picture_size):
        return source
    size, zoom = fit_image_size(source.image_size, picture_size, fit)
    return dataclasses.replace(source, image_size=size, focal=source.focal * zoom)


def _import(path: Path) -> tuple[Motion, list[str]]:
    try:
        motion, notes = import_motion(path)
    except InputError as error:
        if " give --" in str(error):  # an option of the importer
            raise InputError(f"{error} to tools/import_motion.py, and use the motion that it writes") from error
        raise
    return motion, list(notes)


def _holds_maps(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in (*CONDITIONS, MASK))


def _fit_notes(path: Path, size: Sequence[int], picture_size: Sequence[int] | None, fit: str) -> list[str]:
    if picture_size is None or not differ_in_aspect(size, picture_size):
        return []
    (width, height), (picture_width, picture_height) = size, picture_size
    return [
        f"{path}: the motion is {width}x{height}, the picture {picture_width}x{picture_height}, of another aspect: "
        + _FIT_NOTES[fit]
    ]
