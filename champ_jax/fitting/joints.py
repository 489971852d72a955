"""3D joints of one person over a video, from any tracker: an .npz with `joints3d` and the name of their order."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from champ_jax.body.fields import FOCAL, FPS, METERS, SIDE, Field, read_fields, to_array
from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Number
from champ_jax.fitting.layouts import LAYOUTS_3D

FIELDS = {
    "joints3d": Field(("frames", "joints", 3), np.float32, METERS),
    "scores": Field(("frames", "joints"), np.float32, Number(minimum=0, maximum=1_000_000), optional=True),
    "layout": Field((), str, reshape=True, optional=True),
    "image_size": Field((2,), np.int32, SIDE, optional=True),
    "fps": Field((), np.float64, FPS, reshape=True, optional=True),
    "focal": Field(("frames",), np.float32, FOCAL, optional=True),
    "valid": Field(("frames",), bool, Number(minimum=0, maximum=1)),
}
"""What a file of 3D joints holds; all but `joints3d` may be missing where options say it."""

_TALLEST = 4.0  # meters between the joints of one frame that lie furthest apart


@dataclasses.dataclass(frozen=True)
class Joints3D:
    """One person's joints, frame by frame, in meters: x to the right, y down, z forward, as cameras see.

    Attributes:
      joints: (T, J, 3) float32.
      scores: (T, J) float32 at least 0; 0: not seen, and such a joint is 0.
      valid: (T,) bool; False where the person was not found.
      layout: a name in `layouts.LAYOUTS_3D`.
      image_size: (2,) int32 [W, H] px.
      fps: frames per second.
      focal: (T,) px, or None where it is not known.
    """

    joints: np.ndarray
    scores: np.ndarray
    valid: np.ndarray
    layout: str
    image_size: np.ndarray
    fps: float
    focal: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def before_camera(self) -> bool:
        """Whether the joints are where the camera sees them, and not relative to the pelvis."""
        seen = self.scores > 0
        return bool(np.median(self.joints[..., 2][seen]) > 0.5)

    @classmethod
    def create(
        cls,
        joints: ArrayLike,
        layout: str,
        image_size: ArrayLike,
        fps: float,
        scores: ArrayLike | None = None,
        valid: ArrayLike | None = None,
        focal: ArrayLike | None = None,
        source: str = "3D joints",
    ) -> "Joints3D":
        """Validated joints from anything array-like; joints that hold NaN count as not seen.

        Raises:
          InputError: a shape, a value, an unknown layout, or joints that are not in meters.
        """
        fields = {"joints3d": joints, "scores": scores, "layout": layout, "image_size": image_size, "fps": fps}
        if focal is not None:
            focal = to_array(source, "focal", focal)
            if focal.ndim == 0:
                focal = np.full(next(iter(to_array(source, "joints3d", joints).shape), 0), focal)
        return cls.read(source, {**fields, "focal": focal, "valid": valid})

    @classmethod
    def read(cls, source: str | os.PathLike, fields: Mapping[str, Any]) -> "Joints3D":
        """The joints of a file's fields, in which nothing may be missing any more but scores, valid and focal."""
        source = str(source)
        for name in ("layout", "image_size", "fps"):
            if fields.get(name) is None:
                raise InputError(f"{source}: does not say its {name}; give --{name}={_EXAMPLES[name]}")
        layout = str(read_fields(source, {"layout": fields["layout"]}, {"layout": FIELDS["layout"]})["layout"])
        if layout not in LAYOUTS_3D:
            raise InputError(f"{source}: unknown layout '{layout[:40]}', it should be one of {', '.join(LAYOUTS_3D)}")
        joints = to_array(source, "joints3d", fields["joints3d"])
        count = len(LAYOUTS_3D[layout])
        if joints.dtype.kind not in "biuf" or joints.ndim != 3 or joints.shape[1:] != (count, 3):
            raise InputError(
                f"{source}: joints3d has shape {joints.shape}, the layout {layout} should be (frames, {count}, 3)"
            )
        joints = joints.astype(np.float32) if joints.dtype.kind != "f" else joints.copy()
        scores = fields.get("scores")
        seen = np.isfinite(joints).all(axis=-1)
        if scores is None:
            scores = seen.astype(np.float32)
        else:
            scores = to_array(source, "scores", scores)
            if scores.shape != seen.shape or scores.dtype.kind not in "biuf":
                raise InputError(f"{source}: scores has shape {scores.shape}, it should be {seen.shape}")
            seen &= ~(scores == 0)
            scores = np.where(seen, scores, 0)
        joints[~seen] = 0
        valid = fields.get("valid")
        valid = seen.any(axis=1) if valid is None else valid
        values: dict[str, Any] = {**fields, "joints3d": joints, "scores": scores, "layout": layout, "valid": valid}
        arrays: dict[str, Any] = read_fields(source, values, FIELDS)
        arrays["scores"] = arrays["scores"] * arrays["valid"][:, None]
        if not (arrays["scores"] > 0).any():
            raise InputError(f"{source}: no joint is seen in any valid frame, so there is nothing to fit")
        result = cls(
            joints=arrays["joints3d"] * (arrays["scores"] > 0)[..., None],
            scores=arrays["scores"],
            valid=arrays["valid"] & (arrays["scores"] > 0).any(axis=1),
            layout=layout,
            image_size=arrays["image_size"],
            fps=float(arrays["fps"]),
            focal=arrays.get("focal"),
        )
        extent = result.extent()
        if not 0.1 < extent < _TALLEST:
            raise InputError(
                f"{source}: joints3d: the joints of a frame are {extent:.3g} apart, which is no person in meters; "
                "give meters"
            )
        return result

    def extent(self) -> float:
        """The median over frames of the largest distance along an axis between two seen joints, meters."""
        sizes = [np.ptp(one[seen], axis=0).max() for one, seen in zip(self.joints, self.scores > 0) if seen.sum() >= 2]
        return float(np.median(sizes)) if sizes else 0.0


_EXAMPLES = {"layout": "|".join(LAYOUTS_3D), "image_size": "WxH", "fps": "N"}
