"""The motion container: what every importer gives and every later step takes (motion.npz)."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from champ_jax.body.fields import BETA, FOCAL, FPS, METERS, SIDE, Field, read_fields, to_array
from champ_jax.body.rotations import rotation_error
from champ_jax.body.smpl import NUM_JOINTS, BodyModel, smpl
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.common.pickles import read_arrays
from champ_jax.common.ranges import Number

SPACES = ("smpl", "smplx", "open")
NUM_KEYPOINTS = 134
NUM_BETAS = 10
ROTATION_TOLERANCE = 1e-3

FIELDS = {
    "rotations": Field(("frames", NUM_JOINTS, 3, 3), np.float32),
    "betas": Field((NUM_BETAS,), np.float32, BETA),
    "translation": Field(("frames", 3), np.float32, METERS),
    "focal": Field(("frames",), np.float32, FOCAL),
    "image_size": Field((2,), np.int32, SIDE),
    "fps": Field((), np.float64, FPS, reshape=True),
    "valid": Field(("frames",), bool, Number(minimum=0, maximum=1)),
    "body": Field((), str, reshape=True),
    "keypoints": Field(("frames", NUM_KEYPOINTS, 3), np.float32, METERS, optional=True),
    "camera_rotations": Field(("frames", 3, 3), np.float32, optional=True),
    "camera_focal": Field(("frames",), np.float32, FOCAL, optional=True),
}
"""What motion.npz holds."""

# Where the pelvis joint lies in each body's mean rest shape, meters. Translations are relative to it.
MEAN_PELVIS = {"smpl": (-0.0018, -0.2233, 0.0282), "smplx": (0.0031, -0.3514, 0.0120), "open": (0.0, 0.0, 0.0)}


@dataclasses.dataclass(frozen=True)
class Motion:
    """One person's motion in front of one camera. Arrays are NumPy, float32 unless stated.

    A point of the body in the camera's frame (x right, y down, z forward, meters) is
    SMPL(betas, rotations) + translation; upright and facing the camera, the root is about rot_x(pi).

    Attributes:
      rotations: (T, 24, 3, 3) each joint relative to its parent, the root relative to the camera.
      betas: (10,) shape, in the space `body`.
      translation: (T, 3) meters.
      focal: (T,) px.
      image_size: (2,) int32 [W, H] px.
      fps: frames per second.
      valid: (T,) bool; False where the body was not seen and the values of that frame mean nothing.
      body: 'smpl', 'smplx' or 'open', the space of the betas (poses carry over between bodies, betas do not).
      keypoints: (T, 134, 3) whole-body points x, y, score in px of the picture they were found in (body 0-17 in
        OpenPose's order, feet 18-23, face 24-91, hands 92-112 and 113-133), or None. After an alignment that is still
        the driver's picture: what counts is where face and hands lie relative to the body points.
      camera_rotations: (T, 3, 3) where the video's camera turned, or None: a world-to-camera rotation for each frame,
        valid or not. The world is the frame that `rotations` and `translation` are in (the first frame's camera, for a
        fitted video), and the camera stays in its origin: a point x of the world is at `camera_rotations[t] @ x` before
        frame t's camera. `body.camera_path.through_camera` gives the motion as that camera saw it; whatever else draws
        a motion does so in the world's camera.
      camera_focal: (T,) px, the focal lengths of that camera; None where `camera_rotations` is.
    """

    rotations: np.ndarray
    betas: np.ndarray
    translation: np.ndarray
    focal: np.ndarray
    image_size: np.ndarray
    fps: float
    valid: np.ndarray
    body: str
    keypoints: np.ndarray | None = None
    camera_rotations: np.ndarray | None = None
    camera_focal: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rotations)

    def __getitem__(self, frames: slice | np.ndarray) -> "Motion":
        """The chosen frames: a slice, or an array of frame numbers or booleans.

        Every k-th frame comes at a k-th of the frame rate, so the motion keeps its speed.
        """
        step = frames.step if isinstance(frames, slice) else None
        return dataclasses.replace(
            self,
            rotations=self.rotations[frames],
            translation=self.translation[frames],
            focal=self.focal[frames],
            valid=self.valid[frames],
            fps=self.fps / abs(step or 1),
            keypoints=None if self.keypoints is None else self.keypoints[frames],
            camera_rotations=None if self.camera_rotations is None else self.camera_rotations[frames],
            camera_focal=None if self.camera_focal is None else self.camera_focal[frames],
        )

    @classmethod
    def create(
        cls,
        rotations: ArrayLike,
        betas: ArrayLike,
        translation: ArrayLike,
        focal: ArrayLike,
        image_size: ArrayLike,
        fps: float,
        body: str,
        valid: ArrayLike | None = None,
        keypoints: ArrayLike | None = None,
        source: str = "motion",
        camera_rotations: ArrayLike | None = None,
        camera_focal: ArrayLike | None = None,
    ) -> "Motion":
        """A validated motion from anything array-like; one focal length serves all frames, `valid` defaults to all.

        Raises:
          InputError: as `validate`; `source` begins the message.
        """
        focal = to_array(source, "focal", focal)
        frames = next(iter(np.shape(rotations)), 0)
        fields = {
            "rotations": rotations,
            "betas": betas,
            "translation": translation,
            "focal": np.full(frames, focal) if focal.ndim == 0 else focal,
            "image_size": np.rint(to_array(source, "image_size", image_size)),
            "fps": fps,
            "valid": np.ones(frames, bool) if valid is None else valid,
            "body": body,
            "keypoints": keypoints,
            "camera_rotations": camera_rotations,
            "camera_focal": camera_focal,
        }
        return cls._checked(source, fields)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Motion":
        """Reads motion.npz.

        Raises:
          InputError: no such file, not an npz, missing fields, or as `validate`.
        """
        fields = read_arrays(path)
        if not isinstance(fields, dict):
            raise InputError(
                f"{path}: is not a motion.npz; tools/import_motion.py makes one from other programs' files"
            )
        missing = sorted({name for name, field in FIELDS.items() if not field.optional} - set(fields))
        if missing:
            raise InputError(
                f"{path}: is not a motion.npz, it lacks {', '.join(missing)}; "
                "tools/import_motion.py makes one from other programs' files"
            )
        return cls._checked(str(path), fields)

    @classmethod
    def _checked(cls, source: str, fields: Mapping[str, Any]) -> "Motion":
        """The motion of these fields, each brought to its dtype."""
        arrays: dict[str, Any] = read_fields(source, fields, FIELDS)
        motion = cls(**arrays | {"fps": float(arrays["fps"]), "body": str(arrays["body"])})
        motion._check_values(source)
        return motion

    def save(self, path: str | os.PathLike) -> None:
        """Writes motion.npz, whole or not at all.

        Raises:
          InputError: the motion is not valid, or `path` cannot be written.
        """
        self.validate(str(path))
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **{name: value for name, value in fields.items() if value is not None})

    def validate(self, source: str = "motion") -> None:
        """Checks shapes and values; frames that are not `valid` may hold anything.

        Raises:
          InputError: the first thing wrong: zero frames, a shape, a number that is not finite, a matrix that is no
            rotation (with its distance), an unknown body, half of a camera path; the first bad frame is named.
        """
        read_fields(source, vars(self), FIELDS)
        self._check_values(source)

    def _check_values(self, source: str) -> None:
        if self.body not in SPACES:
            raise InputError(f"{source}: unknown body '{self.body}', it should be one of {', '.join(SPACES)}")
        if not self.valid.any():
            raise InputError(f"{source}: no frame is valid, so there is no motion to use")
        with np.errstate(all="ignore"):
            error = rotation_error(self.rotations.astype(np.float64))
        bad = ~(error < ROTATION_TOLERANCE) & self.valid[:, None]
        if bad.any():
            frame, joint = np.argwhere(bad)[0]
            raise InputError(
                f"{source}: frame {frame}, joint {joint}: the matrix is not a rotation, it is "
                f"{error[frame, joint]:.3g} away from one (largest entry of |R^T R - 1|, "
                f"2 for a reflection); allowed is {ROTATION_TOLERANCE:g}"
            )
        check_camera_path(source, self.camera_rotations, self.camera_focal, "camera_focal")


def check_camera_path(source: str, rotations: np.ndarray | None, focal: np.ndarray | None, focal_name: str) -> None:
    """Checks the path of a camera in all frames, also those that show nobody.

    Args:
      source: begins the message of an error.
      rotations: (T, 3, 3), or None for a camera that stands still.
      focal: (T,) px.
      focal_name: the field that `focal` is from.

    Raises:
      InputError: one of the two is missing, a matrix is no rotation, or a focal length cannot be; the frame is named.
    """
    if rotations is None:
        if focal is not None and focal_name == "camera_focal":
            raise InputError(f"{source}: has camera_focal without camera_rotations; they go together")
        return
    if focal is None:
        raise InputError(f"{source}: has camera_rotations without {focal_name}; they go together")
    with np.errstate(all="ignore"):
        error = rotation_error(np.asarray(rotations, np.float64))
        turned = error < ROTATION_TOLERANCE
        possible = np.isfinite(focal) & (focal > 0)
    if not turned.all():
        frame = int(np.argmin(turned))
        raise InputError(
            f"{source}: frame {frame}: camera_rotations is not a rotation, it is {error[frame]:.3g} away from one"
        )
    if not possible.all():
        frame = int(np.argmin(possible))
        raise InputError(f"{source}: frame {frame}: {focal_name} is {focal[frame]:g}, expected {FOCAL}")


def require_same_space(motion: Motion, body: BodyModel) -> None:
    """Refuses a motion on a body of another shape space.

    Raises:
      InputError: `motion.body` is not `body.space`.
    """
    if motion.body != body.space:
        raise InputError(
            f"the motion's betas are of the '{motion.body}' body, the body given is '{body.space}', and betas do not "
            "carry over: give a body of that space (for 'smpl' --body=SMPL_NEUTRAL.pkl), or bring the poses "
            f"to this body with tools/import_motion.py --input=motion.npz --space={body.space}"
        )


def change_space(motion: Motion, space: str) -> Motion:
    """The same poses on another body: betas become its mean shape, the pelvis stays where it was in the picture.

    A motion that is of that space already is returned as it is.
    """
    if motion.body == space:
        return motion
    shift = np.array(MEAN_PELVIS[motion.body], np.float32) - np.array(MEAN_PELVIS[space], np.float32)
    return dataclasses.replace(
        motion, body=space, betas=np.zeros_like(motion.betas), translation=motion.translation + shift
    )


@jax.jit
def _pose(
    body: BodyModel, betas: jax.Array, rotations: jax.Array, translation: jax.Array
) -> tuple[jax.Array, jax.Array]:
    vertices, joints = smpl(body, betas, rotations)
    return vertices + translation[:, None], joints + translation[:, None]


def camera_points(body: BodyModel, motion: Motion) -> tuple[jax.Array, jax.Array]:
    """Poses the body and puts it before the camera.

    Returns:
      vertices (T, V, 3) and joints (T, 24, 3), meters, camera frame. Compiled once per number of frames: cut long
      motions into equal pieces.

    Raises:
      InputError: as `require_same_space`.
    """
    require_same_space(motion, body)
    return _pose(body, motion.betas, motion.rotations, motion.translation)
