"""Motions from other programs' files, recognized by content: one module a format, each with `read(path, data)`."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.fields import FOCAL, Field, check_frame_count, read_field
from champ_jax.body.importers import amass, gvhmr, nlf, phalp, prompthmr, reference, tram, wham
from champ_jax.body.importers.assumed_camera import place_before_camera
from champ_jax.body.importers.people import choose_person
from champ_jax.body.importers.tracks import Source, Track, is_mapping_with
from champ_jax.body.motion import FIELDS, NUM_BETAS, ROTATION_TOLERANCE, Motion
from champ_jax.body.rotations import nearest_rotation, rotation_error
from champ_jax.common.errors import InputError
from champ_jax.common.files import find_type
from champ_jax.common.pickles import read_arrays

READERS = (reference, phalp, wham, tram, gvhmr, prompthmr, nlf, amass)
DEFAULT_FPS = 30.0
# Rotations this far off are the rounding of another program and are corrected; further ones are an error.
_MENDABLE = 0.1
_RESULTS = (
    "motion.npz",
    "mesh_sequence.npz",
    "wham_output.pkl",
    "hmr4d_results.pt",
    "results.pkl",
    "hps",
    reference.GROUP,
)


def import_motion(
    path: str | os.PathLike,
    *,
    person: str | None = None,
    image_size: tuple[int, int] | None = None,
    focal: float | None = None,
    fps: float | None = None,
) -> tuple[Motion, list[str]]:
    """Reads a motion from any file or folder of `READERS`, or a motion.npz.

    Args:
      person: which of several people; the one seen in the most frames by default. IDs separated by commas are joined
        into one track.
      image_size: [W, H] of the video, needed where the file does not say it.
      focal: px, in place of what the file or its program assumes.
      fps: frames per second, where the file does not say it (30 is assumed) or says it wrongly.

    Returns:
      The motion, and what a person should know about it: assumptions made, people left out, a line each.

    Raises:
      InputError: no such file, of no known content, without an image size, or with bad values.
    """
    path = Path(path)
    kind = find_type(path)
    if kind is None:
        raise InputError(f"{path}: no such file or folder")
    for name, value, field in (
        ("image_size", image_size, FIELDS["image_size"]),
        ("focal", focal, Field((), values=FOCAL)),
        ("fps", fps, FIELDS["fps"]),
    ):
        if value is not None:
            read_field("--" + name, name, value, field)
    data = None if kind == "folder" else read_arrays(path)
    if is_mapping_with(data, "rotations", "image_size"):
        return _adjusted(Motion.load(path), image_size, focal, fps), []
    if is_mapping_with(data, "vertices", "faces", "translation"):
        raise InputError(f"{path}: a mesh sequence has no poses; give it to `champ render` as it is")
    for reader in READERS:
        source = reader.read(path, data)
        if source is not None:
            return _motion(source, path, person, image_size, focal, fps)
    if isinstance(data, np.ndarray):
        empty = data.size == 0
    else:
        empty = isinstance(data, dict | list | tuple | set) and not data
    if empty:
        raise InputError(f"{path}: is an empty result; nobody was found in the video")
    known = ", ".join(reader.FORMAT for reader in READERS)
    hint = _hint(path) if kind == "folder" else ""
    raise InputError(f"{path}: holds no motion in a known format ({known}, motion.npz){hint}")


def _hint(folder: Path) -> str:
    """Names files in a folder that other programs write as results."""
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())[:100]]
    found = [place / name for place in places for name in _RESULTS if (place / name).exists()]
    found += [path for place in places for path in sorted(place.glob("*.pkl")) if path not in found]
    found += [place for place in places[1:] if any(place.glob("*[0-9].npy"))]
    return f"; give {found[0]}" if found else ""


def _adjusted(motion: Motion, image_size: tuple[int, int] | None, focal: float | None, fps: float | None) -> Motion:
    changes: dict[str, Any] = {}
    if image_size is not None:
        changes["image_size"] = np.array(image_size, np.int32)
    if focal is not None:
        changes["focal"] = np.full(len(motion), focal, np.float32)
        if motion.camera_focal is not None:
            changes["camera_focal"] = (motion.camera_focal * (focal / motion.focal)).astype(np.float32)
    if fps is not None:
        changes["fps"] = fps
    return dataclasses.replace(motion, **changes)


def _motion(
    source: Source,
    path: Path,
    person: str | None,
    image_size: tuple[int, int] | None,
    focal: float | None,
    fps: float | None,
) -> tuple[Motion, list[str]]:
    notes = [f"{path}: read as {source.format}", *source.notes]
    name, track = choose_person(source, path, person, notes)
    size = source.image_size if image_size is None else np.asarray(image_size, np.float64)
    if size is None and track.translation is None:
        size = np.array([512.0, 512.0])
        notes.append("the file has no camera: a picture of 512x512 was assumed (--image_size=WxH)")
    if size is None:
        raise InputError(f"{path}: {source.format} does not say how large the video is; give --image_size=WxH")
    rotations = _to_smpl_joints(track.rotations, path)
    error = rotation_error(rotations)
    if ROTATION_TOLERANCE / 2 < np.max(error, initial=0.0) < _MENDABLE:
        notes.append(f"matrices were up to {np.max(error):.2g} away from rotations; the nearest ones were taken")
        rotations = nearest_rotation(rotations)
    pixels: np.ndarray | float | None
    if track.translation is None:
        assert track.world is not None  # what a file without a camera has
        assert source.up is not None
        rotations, translation, pixels = place_before_camera(
            rotations, track.world, source.up, source.space, size, focal
        )
        notes.append("a camera was placed in front of the person as he or she stands at the start")
    else:
        translation = track.translation
        pixels = focal if focal is not None else track.focal
        if pixels is None and source.default_focal is not None:
            pixels = source.default_focal(size)
            notes.append(f"the file has no focal length; {pixels:.1f} px is what {source.format} assumes")
        if pixels is None:
            beside = " (no camera.npy is beside it)" if source.format == tram.FORMAT else ""
            raise InputError(f"{path}: {source.format} does not say the focal length{beside}; give --focal=PX")
    rate = fps if fps is not None else source.fps
    if rate is None:
        rate = DEFAULT_FPS
        notes.append(f"the file has no frame rate; {rate:g} frames per second were assumed (--fps=N)")
    motion = _on_timeline(source, track, path, rotations, translation, pixels, size, rate)
    if name is not None and not motion.valid.all():
        notes.append(f"not seen in {int((~motion.valid).sum())} of {len(motion)} frames")
    return motion, notes


def _to_smpl_joints(rotations: np.ndarray, path: Path) -> np.ndarray:
    """24 joints; of SMPL-H and SMPL-X the first 22 are SMPL's, and the hands stay at rest."""
    joints = rotations.shape[1]
    if joints == 24:
        return rotations
    if joints < 22:
        raise InputError(f"{path}: poses of {joints} joints; SMPL has 24, SMPL-H and SMPL-X at least 22")
    hands = np.broadcast_to(np.eye(3), (len(rotations), 2, 3, 3))
    return np.concatenate([rotations[:, :22], hands], axis=1)


def _on_timeline(
    source: Source,
    track: Track,
    path: Path,
    rotations: np.ndarray,
    translation: np.ndarray,
    focal: np.ndarray | float,
    image_size: np.ndarray,
    fps: float,
) -> Motion:
    """Puts the frames seen at their places of the video; the others are invalid, with rest poses."""
    seen = len(track.frames)
    length = int(max(source.length or 0, track.frames.max() + 1))
    check_frame_count(str(path), length)
    betas = np.median(np.atleast_2d(track.betas), axis=0)
    full_rotations = np.tile(np.eye(3), (length, 24, 1, 1))
    full_rotations[track.frames] = rotations
    full_translation = np.zeros((length, 3))
    full_translation[track.frames] = translation
    focals = np.full(seen, focal) if np.ndim(focal) == 0 else np.asarray(focal)
    full_focal = np.full(length, np.median(focals))
    full_focal[track.frames] = focals
    valid = np.zeros(length, bool)
    valid[track.frames] = True
    shape = np.zeros(NUM_BETAS)
    shape[: min(NUM_BETAS, len(betas))] = betas[:NUM_BETAS]
    return Motion.create(
        full_rotations, shape, full_translation, full_focal, image_size, fps, source.space, valid, source=str(path)
    )
