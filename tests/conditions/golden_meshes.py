"""The reference renderer's meshes and pictures."""

from pathlib import Path

import numpy as np

from champ_jax.common.pictures import read_image
from champ_jax.conditions.maps import MAPS

FOLDER = Path(__file__).parents[1] / "golden" / "conditions"
SIZES = ("512x512", "720x1280")


def load(size: str) -> dict[str, np.ndarray]:
    """The fields of mesh_sequence.npz, and `points`, its vertices in camera space. The topology is stored once."""
    fields = dict(np.load(FOLDER / "512x512" / "mesh_sequence.npz"))
    if size != "512x512":
        fields |= dict(np.load(FOLDER / size / "vertices.npz"))
    fields["points"] = fields["vertices"] + fields["translation"][:, None]
    return fields


def pictures(size: str, frame: int) -> dict[str, np.ndarray]:
    modes = {"depth": "L", "mask": "L", "normal": "RGB", "semantic_map": "RGB"}
    return {name: read_image(FOLDER / size / name / f"{frame + 1:04}.png", modes[name]) for name in MAPS}
