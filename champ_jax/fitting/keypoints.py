"""Whole-body key points of one person over a video: what a detector gives and the fit takes (keypoints.npz)."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from champ_jax.body.fields import FOCAL, FPS, SIDE, Field, read_fields, to_array
from champ_jax.body.motion import NUM_KEYPOINTS, check_camera_path
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.common.pickles import read_arrays
from champ_jax.common.ranges import Number

BODY = slice(0, 18)
"""The points of the body among the 134, in OpenPose's order; a frame without any of them shows nobody."""

POSITION = Number(minimum=-1_000_000, maximum=1_000_000)
"""px; points may lie outside of the picture."""

FIELDS = {
    "keypoints": Field(("frames", NUM_KEYPOINTS, 3), np.float32, POSITION),
    "image_size": Field((2,), np.int32, SIDE),
    "fps": Field((), np.float64, FPS, reshape=True),
    "focal": Field(("frames",), np.float32, FOCAL, optional=True),
    "valid": Field(("frames",), bool, Number(minimum=0, maximum=1)),
    "camera_rotations": Field(("frames", 3, 3), np.float32, optional=True),
}
"""What keypoints.npz holds."""


@dataclasses.dataclass(frozen=True)
class Keypoints:
    """One person's key points, frame by frame. Arrays are NumPy, float32 unless stated.

    Attributes:
      keypoints: (T, 134, 3) x, y, score: body 0-17 in OpenPose's order, feet 18-23, face 24-91, left hand 92-112, right
        hand 113-133. x to the right and y down in px from the picture's upper left corner, so that a pixel's center is
        at +0.5. The score is a confidence, at least 0; 0 means not seen, and such a point's x and y are 0.
      image_size: (2,) int32 [W, H] px.
      fps: frames per second.
      valid: (T,) bool; False where the person was not found. The points of such a frame are 0.
      focal: (T,) focal length in px, or None where it is not known. The principal point is the picture's center.
      camera_rotations: (T, 3, 3) where the camera turned, or None: each frame's world-to-camera rotation, the world
        being the first frame's camera. All frames have one, valid or not, and a `focal`, too.
    """

    keypoints: np.ndarray
    image_size: np.ndarray
    fps: float
    valid: np.ndarray
    focal: np.ndarray | None = None
    camera_rotations: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, frames: slice | np.ndarray) -> "Keypoints":
        """The chosen frames: a slice, or an array of frame numbers or booleans.

        Every k-th frame comes at a k-th of the frame rate, as in a motion.
        """
        step = frames.step if isinstance(frames, slice) else None
        return dataclasses.replace(
            self,
            keypoints=self.keypoints[frames],
            valid=self.valid[frames],
            focal=None if self.focal is None else self.focal[frames],
            camera_rotations=None if self.camera_rotations is None else self.camera_rotations[frames],
            fps=self.fps / abs(step or 1),
        )

    @classmethod
    def create(
        cls,
        keypoints: ArrayLike,
        image_size: ArrayLike,
        fps: float,
        valid: ArrayLike | None = None,
        focal: ArrayLike | None = None,
        source: str = "key points",
        camera_rotations: ArrayLike | None = None,
    ) -> "Keypoints":
        """Validated key points from anything array-like.

        Args:
          keypoints: (T, 134, 3) x, y, score. What stands at a point of score 0, or in a frame that is not valid, may be
            anything, NaN too.
          image_size: (W, H) px.
          fps: frames per second.
          valid: (T,); by default a frame is valid where it has a body point (0-17) of a score above 0.
          focal: px, (T,) or one number for all frames.
          source: begins the message of an error.
          camera_rotations: (T, 3, 3).

        Raises:
          InputError: as `validate`.
        """
        if focal is not None:
            focal = to_array(source, "focal", focal)
            if focal.ndim == 0:
                focal = np.full(next(iter(to_array(source, "keypoints", keypoints).shape), 0), focal)
        fields = {
            "keypoints": keypoints,
            "image_size": image_size,
            "fps": fps,
            "valid": valid,
            "focal": focal,
            "camera_rotations": camera_rotations,
        }
        return cls._checked(source, fields)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Keypoints":
        """Reads keypoints.npz. Without `valid` in it, a frame is valid where a body point has a score above 0.

        Raises:
          InputError: no such file, not an npz, missing fields, or as `validate`.
        """
        fields = read_arrays(path)
        optional = {"valid", *(name for name, field in FIELDS.items() if field.optional)}
        missing = sorted(set(FIELDS) - optional - set(fields if isinstance(fields, Mapping) else ()))
        if missing:
            raise InputError(f"{path}: is not a keypoints.npz, it lacks {', '.join(missing)}; docs/fitting.md has them")
        return cls._checked(str(path), fields)

    @classmethod
    def _checked(cls, source: str, fields: Mapping[str, Any]) -> "Keypoints":
        """The key points of these fields, each brought to its dtype; what means nothing becomes 0."""
        points = to_array(source, "keypoints", fields["keypoints"])
        valid = fields.get("valid")
        if points.ndim == 3 and points.shape[2] == 3 and points.dtype.kind in "biuf":
            points = points.astype(np.float32) if points.dtype.kind != "f" else points.copy()
            points[points[..., 2] == 0] = 0
            if valid is None:
                valid = (points[:, BODY, 2] > 0).any(axis=1)
        elif valid is None:
            valid = np.ones(len(points) if points.ndim else 1, bool)  # its shape is what will be refused
        arrays: dict[str, Any] = read_fields(source, {**fields, "keypoints": points, "valid": valid}, FIELDS)
        arrays["keypoints"] = np.where(arrays["valid"][:, None, None], arrays["keypoints"], np.float32(0))
        result = cls(**arrays | {"fps": float(arrays["fps"])})
        result._check_values(source)
        return result

    def save(self, path: str | os.PathLike) -> None:
        """Writes keypoints.npz, whole or not at all.

        Raises:
          InputError: the key points are not valid, or `path` cannot be written.
        """
        self.validate(str(path))
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **{name: value for name, value in fields.items() if value is not None})

    def validate(self, source: str = "key points") -> None:
        """Checks shapes and values.

        Raises:
          InputError: the first thing wrong: zero frames, a shape, a number that is not finite, a negative score, no
            valid frame; the first bad frame is named.
        """
        read_fields(source, vars(self), FIELDS)
        self._check_values(source)

    def _check_values(self, source: str) -> None:
        if not self.valid.any():
            raise InputError(f"{source}: no frame is valid: nobody was found, so there is nothing to fit")
        negative = (self.keypoints[..., 2] < 0) & self.valid[:, None]
        if negative.any():
            frame, point = np.argwhere(negative)[0]
            raise InputError(
                f"{source}: frame {frame}: the score of key point {point} is {self.keypoints[frame, point, 2]:g}, "
                "expected 0 (not seen) or more"
            )
        check_camera_path(source, self.camera_rotations, self.focal, "focal")
