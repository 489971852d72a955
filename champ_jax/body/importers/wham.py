"""WHAM's wham_output.pkl: a joblib dict, person -> pose (n, 72), trans (n, 3), betas (n, 10), frame_ids (n,)."""

from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.importers.base import Source, Track, axis_angles, is_mapping_with

FORMAT = "WHAM"


def diagonal_focal(image_size: np.ndarray) -> float:
    """What WHAM assumes without calibration: the picture's diagonal in px."""
    return float(np.hypot(*np.asarray(image_size, np.float64)))


def read(path: Path, data: Any) -> Source | None:
    """Reads the dict; None if it is another one. The file holds no picture size."""
    people = list(data.items()) if isinstance(data, dict) else []
    if not people or not all(is_mapping_with(person, "pose", "trans", "betas", "frame_ids") for _, person in people):
        return None
    tracks = {}
    for name, person in people:
        tracks[str(name)] = Track(
            np.asarray(person["frame_ids"]).ravel().astype(np.int64),
            axis_angles(person["pose"], path, "pose"),
            np.asarray(person["betas"], np.float64),
            np.asarray(person["trans"], np.float64).reshape(-1, 3),
        )
    return Source(FORMAT, tracks, "smpl", default_focal=diagonal_focal)
