"""mesh_sequence.npz: a mesh that moves before a camera, from any program; it has no poses."""

import dataclasses
import os
import zipfile
from pathlib import Path

import numpy as np

from champ_jax.body.fields import FOCAL, METERS, SIDE, Field, read_fields
from champ_jax.common.errors import InputError
from champ_jax.common.pickles import read_arrays
from champ_jax.common.ranges import Integer

FIELDS = {
    "vertices": Field(("frames", "vertices", 3), np.float32, METERS),
    "faces": Field(("faces", 3), np.int32, Integer(minimum=0)),
    "parts": Field(("vertices",), np.int32, Integer(minimum=0, maximum=23)),
    "translation": Field(("frames", 3), np.float32, METERS),
    "focal": Field(("frames",), np.float32, FOCAL),
    "image_size": Field((2,), np.int32, SIDE),
}
"""What mesh_sequence.npz holds."""


@dataclasses.dataclass(frozen=True)
class MeshSequence:
    """A moving mesh; points in camera space (meters, x right, y down, z forward) are vertices + translation.

    Attributes:
      vertices: (T, V, 3).
      faces: (M, 3) integers.
      parts: (V,) SMPL joint of each vertex, 0..23.
      translation: (T, 3).
      focal: (T,) px.
      image_size: (2,) [W, H].
    """

    vertices: np.ndarray
    faces: np.ndarray
    parts: np.ndarray
    translation: np.ndarray
    focal: np.ndarray
    image_size: np.ndarray

    def __len__(self) -> int:
        return len(self.vertices)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "MeshSequence":
        """Reads mesh_sequence.npz.

        Raises:
          InputError: no such file, not an npz, or a field is missing, does not fit the others or holds bad values.
        """
        arrays = read_fields(str(path), read_arrays(path), FIELDS)
        if arrays["faces"].max(initial=0) >= len(arrays["parts"]):
            raise InputError(
                f"{path}: faces name vertex {arrays['faces'].max()}, there are {len(arrays['parts'])} vertices"
            )
        return cls(**arrays)


def is_mesh_sequence(path: str | os.PathLike) -> bool:
    """Whether a file is an .npz that names `vertices` and `faces`."""
    path = Path(path)
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {"vertices.npy", "faces.npy"} <= set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
