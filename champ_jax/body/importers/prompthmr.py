"""PromptHMR's results.pkl: a joblib dict with camera and people, each with a SMPL-X body in camera coordinates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from champ_jax.body.fields import FOCAL, Field, read_field
from champ_jax.body.importers.tracks import (
    FRAME_NUMBERS,
    TRANSLATIONS,
    Source,
    Track,
    axis_angles,
    image_size_from_center,
    is_mapping_with,
    read_betas,
    read_matrices,
)
from champ_jax.common.errors import InputError

FORMAT = "PromptHMR"


def read(path: Path, data: Any) -> Source | None:
    """Reads the dict; None if it is another one."""
    if not is_mapping_with(data, "people", "camera"):
        return None
    camera, people = data["camera"], data["people"]
    if not is_mapping_with(camera, "img_focal", "img_center"):
        raise InputError(f"{path}: camera lacks img_focal or img_center")
    if not isinstance(people, Mapping):
        raise InputError(f"{path}: people holds {type(people).__name__}, persons by their IDs are expected")
    if not people:
        raise InputError(f"{path}: holds no people")
    focal = float(read_field(str(path), "img_focal", camera["img_focal"], Field((1,), values=FOCAL, reshape=True))[0])
    tracks = {}
    for name, person in people.items():
        source = f"{path}: person {name}"
        if not is_mapping_with(person, "smplx_cam", "frames"):
            raise InputError(f"{source} has no smplx_cam; run PromptHMR to the end of its body estimation")
        body = person["smplx_cam"]
        pose = "rotmat" if is_mapping_with(body, "rotmat") else "pose"
        if not is_mapping_with(body, pose, "shape", "trans"):
            raise InputError(f"{source}: smplx_cam lacks pose, shape or trans")
        tracks[str(name)] = Track(
            read_field(source, "frames", person["frames"], FRAME_NUMBERS),
            (read_matrices if pose == "rotmat" else axis_angles)(source, pose, body[pose]),
            read_betas(source, "shape", body["shape"]),
            read_field(source, "trans", body["trans"], TRANSLATIONS),
            focal,
        )
    size = image_size_from_center(path, "img_center", camera["img_center"])
    return Source(FORMAT, tracks, "smplx", size)
