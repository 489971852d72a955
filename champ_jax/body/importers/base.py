"""What every importer gives: the tracks of a file, before one becomes a Motion."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from champ_jax.body.rotations import axis_angle_to_matrix
from champ_jax.common.errors import InputError


@dataclasses.dataclass(frozen=True)
class Track:
    """One person as the source file has it; NumPy, n frames in which the person was seen.

    Attributes:
      frames: (n,) int, frame numbers of the video.
      rotations: (n, J, 3, 3), J = 24 or more than 21 (the hands' are then left at rest).
      betas: (n, B) or (B,), B >= 1.
      translation: (n, 3) camera frame; None where the file has no camera.
      focal: px, a number or (n,); None where the file does not say.
      world: for a file without a camera, (n, 3) positions in a world whose up is `up`.
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
      length: frames of the whole video, or None (up to the last frame seen).
      up: of a world, in its own axes.
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


def axis_angles(values: Any, path: Any, name: str) -> np.ndarray:
    """Rotation vectors (n, 3 J) or (n, J, 3) -> (n, J, 3, 3)."""
    array = np.asarray(values, np.float64)
    if array.ndim < 2 or array[0].size % 3:
        raise InputError(f"{path}: {name} has shape {array.shape}, it should be (frames, 3 x joints) rotation vectors")
    return axis_angle_to_matrix(array.reshape(len(array), -1, 3))


def is_mapping_with(data: Any, *names: str) -> bool:
    """Whether `data` is a dict that has all these keys."""
    return isinstance(data, dict) and all(name in data for name in names)


def image_size_from_center(center: Any) -> np.ndarray:
    """[W, H] of a camera whose principal point is the picture's middle."""
    return np.rint(2 * np.asarray(center, np.float64).reshape(-1, 2)[0])
