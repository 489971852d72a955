"""AMASS and SMPL-X npz: poses, betas, trans in a z-up world, and a frame rate. There is no camera: one is placed."""

from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.importers.base import Source, Track, axis_angles, is_mapping_with

FORMAT = "AMASS"
_SMPLX_JOINTS = 55


def read(path: Path, data: Any) -> Source | None:
    """Reads the npz; None if it is another one. 52 joints are SMPL-H, 55 SMPL-X, 24 SMPL."""
    if not is_mapping_with(data, "poses", "trans"):
        return None
    rotations = axis_angles(data["poses"], path, "poses")
    model = str(data.get("surface_model_type", "smplx" if rotations.shape[1] == _SMPLX_JOINTS else "smpl"))
    rate = next((data[name] for name in ("mocap_framerate", "mocap_frame_rate", "fps") if name in data), None)
    track = Track(
        np.arange(len(rotations)),
        rotations,
        np.asarray(data.get("betas", np.zeros(10)), np.float64),
        None,
        world=np.asarray(data["trans"], np.float64).reshape(-1, 3),
    )
    space = "smplx" if model.startswith("smplx") else "smpl"
    fps = None if rate is None else float(np.asarray(rate))
    return Source(FORMAT, {"0": track}, space, fps=fps, up=np.array([0.0, 0.0, 1.0]))
