"""What every importer gives: the tracks of a file, before one becomes a Motion."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from champ_jax.body.fields import METERS, SIDE, Field, read_field, to_array
from champ_jax.body.rotations import axis_angle_to_matrix
from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Number

FRAME_NUMBERS = Field(("frames",), np.int64, Number(minimum=0, maximum=2**31), reshape=True)
ROTATION = Number(minimum=-1000, maximum=1000)
ROTATION_NUMBERS = Field(("frames", "*"), np.float64, ROTATION, reshape=True)
TRANSLATIONS = Field(("frames", 3), np.float64, METERS, reshape=True)
IMAGE_CENTER = Field((1, 2), np.float64, Number(minimum=0.5, maximum=SIDE.maximum), reshape=True)


@dataclasses.dataclass(frozen=True)
class Track:
    """One person as the source file has it; NumPy, n frames in which the person was seen.

    Attributes:
      frames: (n,) int, frame numbers of the video.
      rotations: (n, J, 3, 3), J = 24 or more than 21 (the hands' are then left at rest).
      betas: (n, B) or (B,), B >= 1.
      translation: (n, 3) camera frame; None where the file has no camera.
      focal: px, a number or (n,); None where the file does not say.
      world: (n, 3) positions, for a file without a camera, in a world whose up is `up`.
    """

    frames: np.ndarray
    rotations: np.ndarray
    betas: np.ndarray
    translation: np.ndarray | None
    focal: np.ndarray | float | None = None
    world: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Source:
    """A file's tracks by person, and what it says about all of them.

    Attributes:
      format: the program or layout, for messages.
      space: shape space of the betas.
      image_size: [W, H] or None.
      fps: frames per second or None.
      default_focal: from [W, H] to px, what the program assumes when the file does not say.
      length: number of frames of the whole video, or None (up to the last frame seen).
      up: the direction that is up in a world, in its own axes.
      notes: what was assumed or left out, a line each.
    """

    format: str
    tracks: dict[str, Track]
    space: str
    image_size: np.ndarray | None = None
    fps: float | None = None
    default_focal: Callable[[np.ndarray], float] | None = None
    length: int | None = None
    up: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def axis_angles(source: Any, name: str, values: Any) -> np.ndarray:
    """Rotation vectors (n, 3 J) or (n, J, 3) -> (n, J, 3, 3)."""
    vectors = read_field(str(source), name, values, ROTATION_NUMBERS)
    if vectors.shape[1] % 3:
        raise InputError(f"{source}: {name} has {vectors.shape[1]} numbers a frame, which are not rotation vectors")
    return axis_angle_to_matrix(vectors.reshape(len(vectors), -1, 3))


def read_matrices(source: Any, name: str, values: Any, joints: int | None = None) -> np.ndarray:
    """Rotation matrices (n, J, 3, 3) from an array whose last axes may be flattened.

    Args:
      joints: J, where the format fixes it; None takes the second axis.
    """
    if joints is not None:
        return read_field(
            str(source), name, values, Field(("frames", joints, 3, 3), np.float64, ROTATION, reshape=True)
        )
    matrices = read_field(str(source), name, values, Field(("frames", "*"), np.float64, ROTATION, reshape=True))
    if not matrices.shape[1] or matrices.shape[1] % 9:
        raise InputError(f"{source}: {name} has {matrices.shape[1]} numbers a frame, which are not rotation matrices")
    return matrices.reshape(len(matrices), -1, 3, 3)


def read_betas(source: Any, name: str, values: Any) -> np.ndarray:
    """Shape parameters (n, B) or (B,)."""
    array = to_array(str(source), name, values)
    if array.ndim not in (1, 2):
        raise InputError(f"{source}: {name} has shape {array.shape}, it should be (betas,) or (frames, betas)")
    return read_field(str(source), name, array, Field(("*",) * array.ndim))


def is_mapping_with(data: Any, *names: str) -> bool:
    """Whether `data` is a dict that has all these keys."""
    return isinstance(data, Mapping) and all(name in data for name in names)


def image_size_from_center(source: Any, name: str, center: Any) -> np.ndarray:
    """[W, H] of a camera whose principal point is the picture's middle."""
    return np.rint(2 * read_field(str(source), name, center, IMAGE_CENTER)[0])
