"""Key points and 3D joints from files of any tracker, recognized by content."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.importers import DEFAULT_FPS
from champ_jax.common.errors import InputError
from champ_jax.common.files import find_type
from champ_jax.common.pickles import read_arrays
from champ_jax.fitting.joints import Joints3D
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.layouts import LAYOUTS_3D, to_whole_body
from champ_jax.fitting.openpose import is_openpose, read_openpose
from champ_jax.fitting.sam_3d_body import is_sam_3d_body, read_sam_3d_body


@dataclasses.dataclass(frozen=True)
class SourceOptions:
    """What the user says about a file, in place of what it says itself.

    Attributes:
      image_size: (width, height) px.
      fps: frames per second.
      focal: px for all frames; None: what the file says, if it does.
      estimate_focal: whether the focal length is estimated even where the file says one.
      layout: the order of 3D joints.
      person: which of several people.
    """

    image_size: tuple[int, int] | None = None
    fps: float | None = None
    focal: float | None = None
    estimate_focal: bool = False
    layout: str | None = None
    person: int | None = None


def read_points(
    path: str | os.PathLike, options: SourceOptions = SourceOptions()
) -> tuple[Keypoints | Joints3D, list[str]]:
    """Reads what a tracker wrote.

    - A folder of OpenPose's JSON files; SAM 3D Body's results.
    - .npz, .npy, .pkl, joblib or PyTorch's files with `keypoints` (T, N, 3) of 17, 25, 133 or 134 points, as
      `layouts.to_whole_body` has them, or with `joints3d` (T, J, 3) in the `layout` that the file or the user names. A
      lone array is 3D joints where the user names a layout, key points otherwise.

    Returns:
      The points, and what a person should know about them, a line each.

    Raises:
      InputError: no such file, none of these, damaged, or without a picture size (or a layout) that nobody says.
    """
    kind = find_type(path)
    if kind is None:
        raise InputError(f"{path}: no such file or folder")
    if kind == "folder":
        if not is_openpose(path):
            raise InputError(f"{path}: is a folder without OpenPose's NAME_NNNNNNNNNNNN_keypoints.json")
        points, notes = read_openpose(path, options.person)
        return _keypoints(path, {"keypoints": points}, options, notes), notes
    data = read_arrays(path)
    if is_sam_3d_body(data):
        fields, notes = read_sam_3d_body(path, data, options.person)
        return _joints(path, fields, options, notes), notes
    if isinstance(data, np.ndarray):
        data = {"joints3d" if options.layout else "keypoints": data}
    if not isinstance(data, Mapping) or not {"keypoints", "joints3d"} & set(data):
        known = f" (it holds {', '.join(map(str, list(data)[:5]))})" if isinstance(data, Mapping) and data else ""
        raise InputError(
            f"{path}: holds neither keypoints (frames, N, 3) nor joints3d (frames, J, 3){known}; motions of other "
            "programs are for tools/import_motion.py"
        )
    notes = []
    if "joints3d" in data:
        return _joints(path, data, options, notes), notes
    if options.layout is not None:
        raise InputError(f"{path}: holds key points in a picture; --layout is for 3D joints")
    return _keypoints(path, data, options, notes), notes


def _common(
    path: str | os.PathLike, data: Mapping[str, Any], options: SourceOptions, notes: list[str]
) -> dict[str, Any]:
    size = options.image_size if options.image_size is not None else data.get("image_size")
    if size is None:
        raise InputError(f"{path}: does not say how large the video is; give --image_size=WxH")
    fps = options.fps if options.fps is not None else data.get("fps")
    if fps is None:
        fps = DEFAULT_FPS
        notes.append(f"{path}: says no frame rate; {fps:g} frames per second were assumed (--fps=N)")
    focal = data.get("focal")
    if options.focal is not None:
        focal = options.focal
    elif options.estimate_focal:
        focal = None
    return {"image_size": size, "fps": fps, "focal": focal, "valid": data.get("valid")}


def _keypoints(path: str | os.PathLike, data: Mapping[str, Any], options: SourceOptions, notes: list[str]) -> Keypoints:
    common = _common(path, data, options, notes)
    points = data["keypoints"]
    if isinstance(points, np.ndarray) and points.ndim == 3 and points.dtype.kind in "biuf":
        count = points.shape[1]
        with np.errstate(all="ignore"):
            points = to_whole_body(points.astype(np.float64), str(path))
        if count != points.shape[1]:
            notes.append(f"{path}: {count} points a frame were brought to the 134")
    camera = data.get("camera_rotations")
    if camera is not None and (options.focal is not None or options.estimate_focal):
        raise InputError(f"--focal: {path} has the path of a camera, which goes with the focal lengths beside it")
    return Keypoints.create(points, source=str(path), camera_rotations=camera, **common)


def _joints(path: str | os.PathLike, data: Mapping[str, Any], options: SourceOptions, notes: list[str]) -> Joints3D:
    common = _common(path, data, options, notes)
    layout = options.layout if options.layout is not None else data.get("layout")
    if layout is None:
        raise InputError(f"{path}: does not say the order of its joints; give --layout={'|'.join(LAYOUTS_3D)}")
    joints = Joints3D.create(data["joints3d"], layout, scores=data.get("scores"), source=str(path), **common)
    if not joints.before_camera:
        notes.append(f"{path}: the joints are not before a camera; the person was put before one")
    if joints.focal is None:
        notes.append(f"{path}: says no focal length; 1.5 times the longer side was assumed (--focal=PX)")
    return joints


def is_points_file(path: str | os.PathLike) -> bool:
    """Whether a path is to be read by `read_points`, by its kind: pictures and videos are not."""
    return Path(path).suffix.lower() in (".npz", ".npy", ".pkl", ".pt", ".pth") or is_openpose(path)
