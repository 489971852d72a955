"""AMASS and SMPL-X npz: poses, betas, trans in a z-up world, and a frame rate. There is no camera: one is placed."""

from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.fields import FPS, Field, read_field
from champ_jax.body.importers.tracks import TRANSLATIONS, Source, Track, axis_angles, is_mapping_with, read_betas

FORMAT = "AMASS"
_SMPLX_JOINTS = 55


def read(path: Path, data: Any) -> Source | None:
    """Reads the npz; None if it is another one. 52 joints are SMPL-H, 55 SMPL-X, 24 SMPL."""
    if not is_mapping_with(data, "poses", "trans"):
        return None
    rotations = axis_angles(path, "poses", data["poses"])
    model = str(data.get("surface_model_type", "smplx" if rotations.shape[1] == _SMPLX_JOINTS else "smpl"))
    rate = next((name for name in ("mocap_framerate", "mocap_frame_rate", "fps") if name in data), None)
    track = Track(
        np.arange(len(rotations)),
        rotations,
        read_betas(path, "betas", data.get("betas", np.zeros(10))),
        None,
        world=read_field(str(path), "trans", data["trans"], TRANSLATIONS),
    )
    space = "smplx" if model.startswith("smplx") else "smpl"
    fps = None if rate is None else float(read_field(str(path), rate, data[rate], Field((), values=FPS, reshape=True)))
    return Source(FORMAT, {"0": track}, space, fps=fps, up=np.array([0.0, 0.0, 1.0]))
