"""mesh_sequence.npz: a mesh that moves before a camera, from any program; it has no poses."""

import dataclasses
import os
import zipfile
from pathlib import Path

import numpy as np

from champ_jax.common.errors import InputError


@dataclasses.dataclass(frozen=True)
class MeshSequence:
    """A moving mesh; points in camera space (metres, x right, y down, z forward) are vertices + translation.

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
          InputError: no such file, not an npz, a field is missing or does not fit the others.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        try:
            with np.load(path, allow_pickle=False) as archive:
                fields = {field.name: archive[field.name] for field in dataclasses.fields(cls)}
        except KeyError as error:
            raise InputError(f"{path}: {error.args[0]}") from error
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
            raise InputError(f"{path}: is no readable mesh_sequence.npz ({error})") from error
        sequence = cls(**fields)
        frames = len(sequence.vertices) if sequence.vertices.ndim else 0
        if not frames:
            raise InputError(f"{path}: the sequence has no frames")
        for name, shape in (
            ("vertices", (frames, len(sequence.parts) if sequence.parts.ndim else 0, 3)),
            ("translation", (frames, 3)),
            ("focal", (frames,)),
            ("image_size", (2,)),
        ):
            if fields[name].shape != shape:
                raise InputError(f"{path}: {name} has shape {fields[name].shape}, it should be {shape}")
        return sequence


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
