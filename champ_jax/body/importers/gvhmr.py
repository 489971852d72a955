"""GVHMR's hmr4d_results.pt: smpl_params_incam of a SMPL-X body, and K_fullimg."""

from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.fields import FOCAL, Field, read_field, read_fields
from champ_jax.body.importers.tracks import (
    ROTATION_NUMBERS,
    TRANSLATIONS,
    Source,
    Track,
    axis_angles,
    image_size_from_center,
    is_mapping_with,
    read_betas,
)

FORMAT = "GVHMR"
FPS = 30.0  # GVHMR resamples every video to this before it runs
_BODY = {
    "global_orient": Field(("frames", 3), reshape=True),
    "body_pose": ROTATION_NUMBERS,
    "transl": TRANSLATIONS,
    "betas": Field(("*",), reshape=True),
}


def read(path: Path, data: Any) -> Source | None:
    """Reads the dict; None if it is another one. A file without K_fullimg says no focal length and picture size."""
    if not is_mapping_with(data, "smpl_params_incam"):
        return None
    body = read_fields(f"{path}: smpl_params_incam", data["smpl_params_incam"], _BODY)
    pose = np.concatenate([body["global_orient"], body["body_pose"]], axis=1)
    focal: np.ndarray | float | None = None
    image_size = None
    if data.get("K_fullimg") is not None:
        intrinsics = read_field(str(path), "K_fullimg", data["K_fullimg"], Field(("frames", 3, 3), reshape=True))
        focals = read_field(
            str(path), "K_fullimg's focal length", intrinsics[:, 0, 0], Field(("frames",), values=FOCAL)
        )
        image_size = image_size_from_center(path, "K_fullimg's principal point", intrinsics[:1, :2, 2])
        focal = focals if len(focals) == len(pose) else float(focals[0])
    track = Track(
        np.arange(len(pose)),
        axis_angles(path, "body_pose", pose),
        read_betas(path, "betas", data["smpl_params_incam"]["betas"]),
        body["transl"],
        focal,
    )
    return Source(FORMAT, {"0": track}, "smplx", image_size, FPS)
