"""PromptHMR's results.pkl: a joblib dict with camera and people, each with a SMPL-X body in camera coordinates."""

from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.importers.base import Source, Track, axis_angles, image_size_from_center, is_mapping_with
from champ_jax.common.errors import InputError

FORMAT = "PromptHMR"


def read(path: Path, data: Any) -> Source | None:
    """Reads the dict; None if it is another one."""
    if not is_mapping_with(data, "people", "camera"):
        return None
    camera = data["camera"]
    if not is_mapping_with(camera, "img_focal", "img_center"):
        raise InputError(f"{path}: camera lacks img_focal or img_center")
    tracks = {}
    for name, person in data["people"].items():
        if not is_mapping_with(person, "smplx_cam", "frames"):
            raise InputError(f"{path}: person {name} has no smplx_cam; run PromptHMR to the end of its body estimation")
        body = person["smplx_cam"]
        if "rotmat" in body:
            rotations = np.asarray(body["rotmat"], np.float64)
        else:
            rotations = axis_angles(body["pose"], path, "pose")
        tracks[str(name)] = Track(
            np.asarray(person["frames"]).ravel().astype(np.int64),
            rotations.reshape(len(rotations), -1, 3, 3),
            np.asarray(body["shape"], np.float64),
            np.asarray(body["trans"], np.float64).reshape(-1, 3),
            float(np.asarray(camera["img_focal"]).ravel()[0]),
        )
    if not tracks:
        raise InputError(f"{path}: holds no people")
    return Source(FORMAT, tracks, "smplx", image_size_from_center(camera["img_center"]))
