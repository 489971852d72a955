"""Files of Champ's reference implementation: a folder of per-frame NNNN.npy, one of them, or smpls_group.npz."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.cameras import hmr2_focal
from champ_jax.body.fields import FOCAL, SIDE, Field, check_frame_count, read_field, read_fields, to_array
from champ_jax.body.importers.tracks import ROTATION, TRANSLATIONS, Source, Track, is_mapping_with
from champ_jax.common.errors import InputError
from champ_jax.common.pickles import read_arrays

FORMAT = "Champ's reference implementation"
GROUP = "smpls_group.npz"
_BODY = {
    "global_orient": Field(("people", 1, 3, 3), np.float64, ROTATION, reshape=True),
    "body_pose": Field(("people", 23, 3, 3), np.float64, ROTATION, reshape=True),
}
_FRAME = {
    "cam_t": Field(("people", 3), TRANSLATIONS.dtype, TRANSLATIONS.values, reshape=True),
    "render_res": Field((2,), np.float64, SIDE, reshape=True, optional=True),
    "scaled_focal_length": Field((), np.float64, FOCAL, reshape=True, optional=True),
}


def read(path: Path, data: Any) -> Source | None:
    """Reads the folder or the group file; None if `path` is neither."""
    if path.is_dir():
        files = _frame_files(path)
        if files and _is_frame(read_arrays(files[0][1])):
            return _from_frames(files)
        return _from_group(path / GROUP, read_arrays(path / GROUP)) if (path / GROUP).is_file() else None
    if _is_frame(data):
        return _from_frames([(0, path)])
    if is_mapping_with(data, "smpl", "camera"):
        return _from_group(path, data)
    return None


def _is_frame(data: Any) -> bool:
    return is_mapping_with(data, "smpls", "cam_t")


def _frame_files(folder: Path) -> list[tuple[int, Path]]:
    """(frame number, file) of the .npy files whose names end in a number: 0001.npy, frame_0001.npy, ref-01.npy.

    Raises:
      InputError: two files have the same number.
    """
    files: dict[int, Path] = {}
    for path in sorted(folder.glob("*.npy")):
        digits = re.search(r"[0-9]{1,18}$", path.stem)
        if digits is None or path.stem.startswith("hps_track_"):
            continue
        other = files.setdefault(int(digits[0]), path)
        if other is not path:
            raise InputError(f"{path}: has the same frame number as {other.name}; keep one motion in a folder")
    return sorted(files.items())


def _from_frames(files: Sequence[tuple[int, Path]]) -> Source:
    """One person per index in a frame's lists; the reference itself uses index 0 only."""
    first, last = files[0][0], files[-1][0]
    folder = files[0][1].parent if len(files) > 1 else files[0][1]
    length = last - first + 1
    check_frame_count(f"{files[-1][1]}: counted from {files[0][1].name}", length)
    people: dict[int, list[tuple[int, np.ndarray, np.ndarray, np.ndarray, float]]] = {}
    image_size = None
    for number, path in files:
        data = read_arrays(path)
        if not _is_frame(data):
            raise InputError(f"{path}: is not a frame of {FORMAT}, it lacks smpls or cam_t")
        rotations, betas = _read_body(data["smpls"], str(path))
        if not len(rotations):
            continue
        frame = read_fields(str(path), data, _FRAME, sizes={"people": len(rotations)})
        size = frame.get("render_res")
        if image_size is not None and size is not None and (size != image_size).any():
            raise InputError(
                f"{path}: render_res is {size.tolist()}, in the frames before it was {image_size.tolist()}"
            )
        image_size = size if image_size is None else image_size
        focal = float(frame.get("scaled_focal_length", np.nan))
        for person, row in enumerate(zip(rotations, betas, frame["cam_t"])):
            people.setdefault(person, []).append((number - first, *row, focal))
    if not people:
        raise InputError(f"{folder}: nobody was found in any of its {len(files)} frames")
    tracks = {}
    for person, rows in people.items():
        if len({len(row[2]) for row in rows}) > 1:
            raise InputError(f"{folder}: betas have different lengths in different frames")
        numbers, rotations, betas, cameras, focals = (np.array(column) for column in zip(*rows))
        tracks[str(person)] = Track(numbers, rotations, betas, cameras, None if np.isnan(focals).any() else focals)
    return Source(FORMAT, tracks, "smpl", image_size, default_focal=hmr2_focal, length=length)


def _from_group(path: Path, data: Any) -> Source:
    """The group file: no picture size, and often no focal length; both are looked for in the frames beside it."""
    if not is_mapping_with(data, "smpl", "camera"):
        raise InputError(f"{path}: lacks smpl or camera")
    frames = list(np.atleast_1d(np.asarray(data["smpl"], object)))
    check_frame_count(str(path), len(frames))
    cameras = read_field(str(path), "camera", data["camera"], TRANSLATIONS)
    if len(frames) != len(cameras):
        raise InputError(f"{path}: {len(frames)} frames in smpl, {len(cameras)} in camera")
    poses = [_read_body(frame, f"{path}: frame {number}") for number, frame in enumerate(frames)]
    empty = next((number for number, (rotations, _) in enumerate(poses) if not len(rotations)), None)
    if empty is not None:
        raise InputError(f"{path}: frame {empty}: smpl holds nobody")
    rotations = np.stack([rotations[0] for rotations, _ in poses])
    betas = [betas[0] for _, betas in poses]
    if len({len(row) for row in betas}) > 1:
        raise InputError(f"{path}: betas have different lengths in different frames")
    focal = data.get("scaled_focal_length", data.get("focal"))
    image_size = data.get("render_res")
    if image_size is not None:
        image_size = read_field(str(path), "render_res", image_size, _FRAME["render_res"])
    notes: list[str] = []
    beside = _frame_files(path.parent)
    if beside and _is_frame(read_arrays(beside[0][1])):
        twin = _from_frames(beside)
        image_size = twin.image_size if image_size is None else image_size
        person = twin.tracks["0"]
        if focal is None and person.focal is not None:
            focal = float(np.median(person.focal))
            notes.append("the focal length was taken from the per-frame files beside it")
        assert person.translation is not None  # every frame file has cam_t
        raw = float(np.median(person.translation[:, 1]))
        if abs(np.median(cameras[:, 1]) + raw) < abs(np.median(cameras[:, 1]) - raw):
            cameras = cameras * [1, -1, 1]
            notes.append("the camera's y was negated, as the per-frame files beside it show; it was turned back")
    if focal is not None:
        values = read_field(str(path), "the focal length", focal, Field(("*",), values=FOCAL, reshape=True))
        if len(values) not in (1, len(frames)):
            raise InputError(f"{path}: {len(values)} focal lengths, {len(frames)} frames")
        focal = values if len(values) > 1 else float(values[0])
    track = Track(np.arange(len(frames)), rotations, np.stack(betas), cameras, focal)
    return Source(FORMAT, {"0": track}, "smpl", image_size, default_focal=hmr2_focal, notes=tuple(notes))


def _read_body(smpls: Any, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (people, 24, 3, 3) and betas (people, B) of one frame's dict; no people where it holds nothing."""
    if not is_mapping_with(smpls, "global_orient", "body_pose", "betas"):
        raise InputError(f"{source}: smpls lacks global_orient, body_pose or betas")
    if to_array(source, "global_orient", smpls["global_orient"]).size == 0:
        return np.zeros((0, 24, 3, 3)), np.zeros((0, 1))
    body = read_fields(source, smpls, _BODY)
    people = len(body["global_orient"])
    betas = read_field(source, "betas", smpls["betas"], Field(("*",), reshape=True))
    if not len(betas) or len(betas) % people:
        raise InputError(f"{source}: {len(betas)} betas are not the same number for each of {people} people")
    return np.concatenate([body["global_orient"], body["body_pose"]], axis=1), betas.reshape(people, -1)
