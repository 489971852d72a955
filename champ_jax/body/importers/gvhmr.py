"""GVHMR's hmr4d_results.pt: smpl_params_incam of a SMPL-X body, and K_fullimg."""

from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.importers.base import Source, Track, axis_angles, image_size_from_center, is_mapping_with

FORMAT = "GVHMR"
FPS = 30.0  # GVHMR resamples every video to this before it runs


def read(path: Path, data: Any) -> Source | None:
    """Reads the dict; None if it is another one."""
    if not is_mapping_with(data, "smpl_params_incam", "K_fullimg"):
        return None
    body = data["smpl_params_incam"]
    root = np.asarray(body["global_orient"], np.float64).reshape(-1, 3)
    pose = np.concatenate([root, np.asarray(body["body_pose"], np.float64).reshape(len(root), -1)], axis=1)
    intrinsics = np.asarray(data["K_fullimg"], np.float64).reshape(-1, 3, 3)
    focal = intrinsics[:, 0, 0]
    track = Track(
        np.arange(len(root)),
        axis_angles(pose, path, "body_pose"),
        np.asarray(body["betas"], np.float64),
        np.asarray(body["transl"], np.float64).reshape(-1, 3),
        focal if len(focal) == len(root) else float(focal[0]),
    )
    return Source(FORMAT, {"0": track}, "smplx", image_size_from_center(intrinsics[:1, :2, 2]), FPS)
