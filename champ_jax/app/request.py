"""What a user asks for: one animation, as the page and the API send it."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Integer, Number, Rule, did_you_mean
from champ_jax.inference import builtin

_ASSETS = Path(__file__).parents[1] / "assets"
BUILT_IN = "built-in"
"""The picture, and the motion, of a request that names none: what `champ animate` takes without arguments."""

_UPLOAD = re.compile(r"u-[A-Za-z0-9_-]{22}")
_SIDE = Integer(minimum=8, maximum=16384, optional=True)


class FieldError(InputError):
    """An input that cannot be used, and the field of the request that it concerns.

    Attributes:
      field: a dotted name of `AnimationRequest`'s JSON, such as 'edits.start'; None where no field is to blame.
    """

    def __init__(self, message: object, field: str | None = None):
        super().__init__(message)
        self.field = None if field is None else str(InputError(field))  # it may be what a stranger wrote


def built_in_pictures() -> dict[str, Path]:
    """{name: file} of the pictures in the package; 'built-in' is the one that a run without arguments takes."""
    people = {path.parent.name: path for path in sorted(builtin.PEOPLE.glob("*/reference.png"))}
    return {BUILT_IN: builtin.REFERENCE} | people


def built_in_motions() -> dict[str, Path]:
    """{name: file} of the motions in the package; 'built-in' is the one that a run without arguments takes."""
    authored = {path.stem: path for path in sorted((_ASSETS / "motions").glob("*.npz"))}
    people = {path.parent.name: path for path in sorted(builtin.PEOPLE.glob("*/motion.npz"))}
    return {BUILT_IN: builtin.MOTION} | authored | people


@dataclasses.dataclass(frozen=True)
class MotionEdits:
    """How a motion is changed before it is drawn, in this order. A motion folder, whose maps are drawn, is only
    trimmed.

    Attributes:
      start: the first frame that is kept.
      stop: the frame after the last one that is kept; None keeps all to the end.
      mirror: whether left and right change.
      align: whether the person of the motion is put onto the picture's person, who is fitted. A driving video's is
        always; a built-in picture's person is found as any other.
      move_x: how far the person moves to the right, in widths of the picture.
      move_y: how far the person moves down, in heights of the picture.
      move_depth: how far the person moves away from the camera, in m.
      scale: how many times as large the person appears.
    """

    start: int = 0
    stop: int | None = None
    mirror: bool = False
    align: bool = False
    move_x: float = 0.0
    move_y: float = 0.0
    move_depth: float = 0.0
    scale: float = 1.0

    @property
    def changes_body(self) -> bool:
        """Whether more than frames are left out."""
        return self.align or dataclasses.replace(self, start=0, stop=None) != MotionEdits()


@dataclasses.dataclass(frozen=True)
class AnimationRequest:
    """One animation.

    Attributes:
      reference: the picture: the id of an upload, or a name of `built_in_pictures`.
      motion: the motion: the id of an upload (a motion.npz, a motion folder's zip or a driving video), or a name of
        `built_in_motions`.
      edits: how the motion is changed.
      width, height: size of the video in pixels; None follows the picture's aspect.
      steps: denoising steps; None takes the model's.
      guidance_scale: weight of classifier-free guidance; None takes the model's.
      seed: seed of the noise.
      frames: number of frames to make, from the first kept one on; None makes all.
      fps: frames per second; None takes the motion's, or 24.

    Raises:
      FieldError: a field is out of its range.
    """

    reference: str = BUILT_IN
    motion: str = BUILT_IN
    edits: MotionEdits = MotionEdits()
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int = 42
    frames: int | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        for path, rule in RULES.items():
            value = _at(self, path)
            reason = rule.problem(value)
            if reason:
                raise FieldError(f"{path}={str(value)[:60]}: {reason}", path)
        for name in ("mirror", "align"):
            if not isinstance(getattr(self.edits, name), bool):
                raise FieldError(
                    f"edits.{name}={str(getattr(self.edits, name))[:60]}: expected true or false", f"edits.{name}"
                )
        for name in ("reference", "motion"):
            check_source(name, getattr(self, name))
        if self.edits.stop is not None and self.edits.stop <= self.edits.start:
            raise FieldError(
                f"edits.stop={self.edits.stop}: leaves no frames, the motion starts at {self.edits.start}", "edits.stop"
            )

    @classmethod
    def from_json(cls, value: Any) -> "AnimationRequest":
        """The request of a JSON object, whose fields are those of this class; those that are absent have defaults.

        Raises:
          FieldError: it is no object, a field is unknown (the nearest is named) or out of its range.
        """
        edits = _fields(value, cls, "").pop("edits", {})
        edits = MotionEdits(**_fields(edits, MotionEdits, "edits."))
        return cls(**{**value, "edits": edits})

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `from_json` reads."""
        return dataclasses.asdict(self)

    @property
    def uploads(self) -> list[str]:
        """The ids of the uploads that it needs."""
        return [source for source in (self.reference, self.motion) if is_upload(source)]


RULES: dict[str, Rule] = {
    "width": _SIDE,
    "height": _SIDE,
    "steps": Integer(minimum=1, maximum=100_000, optional=True),
    "guidance_scale": Number(minimum=0, maximum=1000, optional=True),
    "seed": Integer(minimum=0, maximum=2**32 - 1),
    "frames": Integer(minimum=1, maximum=1_000_000, optional=True),
    "fps": Number(minimum=0.1, maximum=1000, optional=True),
    "edits.start": Integer(minimum=0, maximum=1_000_000),
    "edits.stop": Integer(minimum=1, maximum=1_000_000, optional=True),
    "edits.move_x": Number(minimum=-2, maximum=2),
    "edits.move_y": Number(minimum=-2, maximum=2),
    "edits.move_depth": Number(minimum=-20, maximum=20),
    "edits.scale": Number(minimum=0.1, maximum=10),
}
"""{dotted field: the values it may have}."""


def is_upload(source: str) -> bool:
    """Whether a request's `reference` or `motion` is the id of an upload."""
    return _UPLOAD.fullmatch(source) is not None


def check_source(field: str, source: Any) -> None:
    """Raises FieldError unless `source` is an upload's id or a name in the package."""
    known = built_in_pictures() if field == "reference" else built_in_motions()
    if not isinstance(source, str) or not (is_upload(source) or source in known):
        shown = str(source)[:60]
        hint = did_you_mean(shown, list(known)) or f"; give an upload's id, or one of {', '.join(known)}"
        raise FieldError(f"{field}={shown}: is no upload and not in the package{hint}", field)


def _fields(value: Any, kind: type, group: str) -> dict[str, Any]:
    """A copy of the JSON object, whose fields are all fields of a dataclass."""
    if not isinstance(value, Mapping):
        raise FieldError(f"{group.rstrip('.') or 'request'}: expected a JSON object", group.rstrip(".") or None)
    known = [field.name for field in dataclasses.fields(kind)]
    for name in value:
        if name not in known:
            hint = did_you_mean(str(name), known) or f"; there are {', '.join(known)}"
            raise FieldError(f"{group}{str(name)[:60]}: no such field{hint}", f"{group}{str(name)[:60]}")
    return dict(value)


def _at(request: AnimationRequest, path: str) -> Any:
    value: Any = request
    for name in path.split("."):
        value = getattr(value, name)
    return value
