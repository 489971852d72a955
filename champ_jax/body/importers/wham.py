"""WHAM's wham_output.pkl: a joblib dict, person -> pose (n, 72), trans (n, 3), betas (n, 10), frame_ids (n,)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.fields import read_field
from champ_jax.body.importers.tracks import (
    FRAME_NUMBERS,
    TRANSLATIONS,
    Source,
    Track,
    axis_angles,
    is_mapping_with,
    read_betas,
)

FORMAT = "WHAM"


def diagonal_focal(image_size: np.ndarray) -> float:
    """What WHAM assumes without calibration: the picture's diagonal in px."""
    return float(np.hypot(*np.asarray(image_size, np.float64)))


def read(path: Path, data: Any) -> Source | None:
    """Reads the dict; None if it is another one. The file holds no picture size."""
    people = list(data.items()) if isinstance(data, Mapping) else []
    if not people or not all(is_mapping_with(person, "pose", "trans", "betas", "frame_ids") for _, person in people):
        return None
    tracks = {}
    for name, person in people:
        source = f"{path}: person {name}"
        tracks[str(name)] = Track(
            read_field(source, "frame_ids", person["frame_ids"], FRAME_NUMBERS),
            axis_angles(source, "pose", person["pose"]),
            read_betas(source, "betas", person["betas"]),
            read_field(source, "trans", person["trans"], TRANSLATIONS),
        )
    return Source(FORMAT, tracks, "smpl", default_focal=diagonal_focal)
