"""NLF's parametric results: `pose` (axis-angles), `betas` and `trans` of every frame, of one person or of several."""

from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.fields import check_frame_count, read_field
from champ_jax.body.importers.tracks import TRANSLATIONS, Source, Track, axis_angles, is_mapping_with, read_betas
from champ_jax.common.errors import InputError

FORMAT = "NLF"
FIELD_OF_VIEW = 55.0
"""Degrees across the longer side that NLF assumes where it is not told the camera (`default_fov_degrees`)."""

MAX_PEOPLE = 1000


def assumed_focal(image_size: np.ndarray) -> float:
    """px, by the field of view that NLF assumes."""
    return float(np.max(np.asarray(image_size, np.float64)) / 2 / np.tan(np.radians(FIELD_OF_VIEW / 2)))


def read(path: Path, data: Any) -> Source | None:
    """Reads the dictionary; None if it is another one.

    Each of the three is an array (T, n) of one person, or a list over frames of arrays (people, n), in which people
    are numbered as they stand: NLF itself follows nobody.
    """
    if not is_mapping_with(data, "pose", "betas", "trans") or "frame_ids" in data:
        return None
    columns = {name: data[name] for name in ("pose", "betas", "trans")}
    if not all(isinstance(values, list | tuple) for values in columns.values()):
        pose = axis_angles(path, "pose", columns["pose"])
        track = Track(
            np.arange(len(pose)),
            pose,
            read_betas(path, "betas", columns["betas"]),
            read_field(str(path), "trans", columns["trans"], TRANSLATIONS),
        )
        _check_lengths(path, len(pose), track)
        return Source(FORMAT, {"0": track}, "smpl", default_focal=assumed_focal, length=len(pose))
    frames = len(columns["pose"])
    check_frame_count(str(path), frames)
    if not len(columns["betas"]) == len(columns["trans"]) == frames:
        raise InputError(f"{path}: pose, betas and trans are lists of different lengths")
    people: dict[int, list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]] = {}
    for number in range(frames):
        if not np.size(columns["pose"][number]):
            continue
        source = f"{path}: frame {number}"
        poses = axis_angles(source, "pose", np.atleast_2d(columns["pose"][number]))
        betas = np.atleast_2d(read_betas(source, "betas", columns["betas"][number]))
        places = read_field(source, "trans", columns["trans"][number], TRANSLATIONS)
        if not len(poses) == len(betas) == len(places) <= MAX_PEOPLE:
            raise InputError(
                f"{source}: pose, betas and trans are of {len(poses)}, {len(betas)} and {len(places)} people"
            )
        for person in range(len(poses)):
            people.setdefault(person, []).append((number, poses[person], betas[person], places[person]))
    tracks = {}
    for person, seen in people.items():
        numbers, poses, betas, places = zip(*seen)
        if len({one.shape for one in poses}) > 1 or len({one.shape for one in betas}) > 1:
            raise InputError(f"{path}: the frames of person {person} have poses or betas of different sizes")
        tracks[str(person)] = Track(np.array(numbers), np.stack(poses), np.stack(betas), np.stack(places))
    notes = ("NLF follows nobody: people are numbered as they stand in each frame",) if len(tracks) > 1 else ()
    return Source(FORMAT, tracks, "smpl", default_focal=assumed_focal, length=frames, notes=notes) if tracks else None


def _check_lengths(path: Path, frames: int, track: Track) -> None:
    assert track.translation is not None
    betas = np.asarray(track.betas)
    if len(track.translation) != frames or (betas.ndim == 2 and len(betas) not in (1, frames)):
        raise InputError(
            f"{path}: pose has {frames} frames, trans {len(track.translation)}, betas {betas.shape}; they should agree"
        )
