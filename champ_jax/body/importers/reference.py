"""Files of Champ's reference implementation: a folder of per-frame NNNN.npy, or smpls_group.npz."""

from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.cameras import hmr2_focal
from champ_jax.body.importers.base import Source, Track, is_mapping_with
from champ_jax.common.errors import InputError
from champ_jax.common.pickles import read_arrays

FORMAT = "Champ's reference implementation"


def read(path: Path, data: Any) -> Source | None:
    """Reads the folder or the group file; None if `path` is neither."""
    if path.is_dir():
        files = _frame_files(path)
        return _from_frames(files) if files and _is_frame(read_arrays(files[0])) else None
    if _is_frame(data):
        return _from_frames([path])
    if is_mapping_with(data, "smpl", "camera"):
        return _from_group(path, data)
    return None


def _is_frame(data: Any) -> bool:
    return is_mapping_with(data, "smpls", "cam_t")


def _frame_files(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("*.npy") if path.stem.isdigit()), key=lambda path: int(path.stem))


def _from_frames(files: list[Path]) -> Source:
    """One person per index in a frame's lists; the reference itself uses index 0 only."""
    people: dict[int, list[tuple[int, np.ndarray, np.ndarray, np.ndarray, float]]] = {}
    image_size = None
    for path in files:
        frame = read_arrays(path)
        if not _is_frame(frame):
            raise InputError(f"{path}: is no frame of {FORMAT}, it lacks smpls or cam_t")
        size = np.asarray(frame["render_res"], np.float64) if "render_res" in frame else None
        if image_size is not None and size is not None and (size != image_size).any():
            raise InputError(
                f"{path}: render_res is {size.tolist()}, in the frames before it was {image_size.tolist()}"
            )
        image_size = size if image_size is None else image_size
        focal = frame.get("scaled_focal_length")
        rotations, betas = _poses(frame["smpls"], path)
        cameras = np.asarray(frame["cam_t"], np.float64).reshape(-1, 3)
        if len(cameras) != len(rotations):
            raise InputError(f"{path}: {len(rotations)} people in smpls, {len(cameras)} in cam_t")
        for person in range(len(rotations)):
            value = np.nan if focal is None else float(np.asarray(focal))
            people.setdefault(person, []).append(
                (int(path.stem), rotations[person], betas[person], cameras[person], value)
            )
    first = min(int(path.stem) for path in files)
    tracks = {}
    for person, rows in people.items():
        numbers, rotations, betas, cameras, focals = (np.array(column) for column in zip(*rows))
        known = not np.isnan(focals).any()
        tracks[str(person)] = Track(numbers - first, rotations, betas, cameras, focals if known else None)
    if not tracks:
        raise InputError(f"{files[0].parent}: nobody was found in any of its {len(files)} frames")
    length = int(files[-1].stem) - first + 1
    return Source(FORMAT, tracks, "smpl", image_size, default_focal=hmr2_focal, length=length)


def _from_group(path: Path, data: dict[str, Any]) -> Source:
    """The group file: no picture size, and often no focal length; both are looked for in the frames beside it."""
    frames = list(np.atleast_1d(np.asarray(data["smpl"], object)))
    cameras = np.asarray(data["camera"], np.float64).reshape(-1, 3)
    if len(frames) != len(cameras):
        raise InputError(f"{path}: {len(frames)} frames in smpl, {len(cameras)} in camera")
    poses = [_poses(frame, path) for frame in frames]
    rotations = np.stack([pose[0][0] for pose in poses])
    betas = np.stack([pose[1][0] for pose in poses])
    focal = data.get("scaled_focal_length", data.get("focal"))
    image_size = data.get("render_res")
    notes: list[str] = []
    beside = _frame_files(path.parent)
    if beside and _is_frame(read_arrays(beside[0])):
        twin = _from_frames(beside)
        image_size = twin.image_size if image_size is None else image_size
        person = twin.tracks["0"]
        if focal is None and person.focal is not None:
            focal = float(np.median(person.focal))
            notes.append("the focal length was taken from the per-frame files beside it")
        raw = float(np.median(person.translation[:, 1]))
        if abs(np.median(cameras[:, 1]) + raw) < abs(np.median(cameras[:, 1]) - raw):
            cameras = cameras * [1, -1, 1]
            notes.append("the camera's y was negated, as the per-frame files beside it show; it was turned back")
    if focal is not None:
        values = np.asarray(focal, np.float64).ravel()
        focal = values if len(values) == len(frames) else float(values[0])
    track = Track(np.arange(len(frames)), rotations, betas, cameras, focal)
    return Source(FORMAT, {"0": track}, "smpl", image_size, default_focal=hmr2_focal, notes=tuple(notes))


def _poses(smpls: Any, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (people, 24, 3, 3) and betas (people, B) of one frame's dict."""
    if not is_mapping_with(smpls, "global_orient", "body_pose", "betas"):
        raise InputError(f"{path}: smpls lacks global_orient, body_pose or betas")
    root = np.asarray(smpls["global_orient"], np.float64).reshape(-1, 1, 3, 3)
    body = np.asarray(smpls["body_pose"], np.float64).reshape(-1, 23, 3, 3)
    betas = np.asarray(smpls["betas"], np.float64).reshape(len(root), -1)
    return np.concatenate([root, body], axis=1), betas
