"""What a request's `MotionEdits` make of a motion: trimmed, mirrored, aligned, moved and scaled before the camera."""

import dataclasses

import numpy as np

from champ_jax.app.request import FieldError, MotionEdits
from champ_jax.body.alignment import align
from champ_jax.body.aspect import differ_in_aspect, fit_image_size
from champ_jax.body.mirror import mirror
from champ_jax.body.motion import MEAN_PELVIS, Motion
from champ_jax.body.smpl import BodyModel

_NEAREST = 0.3  # meters from the camera to the pelvis, at least: nearer, limits reach behind the camera


def edited_motion(
    motion: Motion,
    edits: MotionEdits,
    picture_size: tuple[int, int],
    person: Motion | None = None,
    body: BodyModel | None = None,
) -> Motion:
    """Trims, mirrors, aligns, moves and scales a motion, in this order.

    Moving displaces the whole path by one vector, and scaling is a zoom of the camera that keeps the pelvis where it
    is; both are measured at the first valid frame that is kept. So feet that stand on the ground stay there, and the
    path is as many of the person's heights long as before.

    Args:
      motion: the motion, before its own camera.
      edits: what is changed.
      picture_size: (width, height) of the picture to animate. Moves are in its widths and heights, also where its
        aspect is another than that of the motion's camera, which is then fitted to it by
        `champ_jax.conditions.sources.open_conditions` with fit='crop'.
      person: the picture's person, fitted, onto whom the motion is put; None does not align, whatever `edits.align`.
      body: the body of both motions' betas; needed where there is a `person`.

    Returns:
      The motion before a camera of the same picture size; where it was aligned, before the picture's camera. The key
      points of face and hands stay those of the driver's picture, mirrored if the motion is.

    Raises:
      FieldError: 'edits.start' or 'edits.stop' lies beyond the motion or leaves no valid frame, or
        'edits.move_depth' brings a frame to the camera or behind it.
      InputError: the motion cannot be aligned, as `champ_jax.body.alignment.align` says.
    """
    edited = _trimmed(motion, edits)
    if edits.mirror:
        edited = mirror(edited)
    if person is not None:
        if body is None:
            raise TypeError("a person to align to needs the body of the betas")
        edited = align(edited, person, body, body)
    if edits.move_x or edits.move_y or edits.move_depth or edits.scale != 1:
        edited = _moved(edited, edits, picture_size)
    return edited


def _trimmed(motion: Motion, edits: MotionEdits) -> Motion:
    count = len(motion)
    if edits.start >= count:
        raise FieldError(
            f"edits.start={edits.start}: the motion has {count} frames, the first is 0 and the last {count - 1}",
            "edits.start",
        )
    if edits.stop is not None and edits.stop > count:
        raise FieldError(f"edits.stop={edits.stop}: the motion has {count} frames", "edits.stop")
    kept = motion[edits.start : edits.stop]
    if not kept.valid.any():
        raise FieldError(
            f"edits.start={edits.start}: none of the {len(kept)} frames that are kept shows the body; keep others",
            "edits.start",
        )
    return kept


def _moved(motion: Motion, edits: MotionEdits, picture_size: tuple[int, int]) -> Motion:
    first = int(np.argmax(motion.valid))
    pelvis = motion.translation[first].astype(np.float64) + MEAN_PELVIS[motion.body]
    if differ_in_aspect(motion.image_size, picture_size):
        size, zoom = fit_image_size(motion.image_size, picture_size, "crop")
    else:
        size, zoom = motion.image_size, 1.0
    view = size / (motion.focal[first] * zoom) * pelvis[2]  # meters that the picture's sides span where the person is
    shift = np.array([edits.move_x * view[0], edits.move_y * view[1], edits.move_depth])
    shift[:2] += (pelvis + shift)[:2] * (1 / edits.scale - 1)  # the zoom takes what it does to the place back
    translation = (motion.translation + shift).astype(np.float32)
    depths = np.where(motion.valid, translation[:, 2] + MEAN_PELVIS[motion.body][2], np.inf)
    nearest = int(np.argmin(depths))
    if depths[nearest] < _NEAREST:
        raise FieldError(
            f"edits.move_depth={edits.move_depth:g}: brings the person of frame {edits.start + nearest} to "
            f"{depths[nearest]:.2f} m before the camera; at least {_NEAREST:g} m must be left",
            "edits.move_depth",
        )
    scaled = np.float32(edits.scale)
    return dataclasses.replace(
        motion,
        translation=translation,
        focal=motion.focal * scaled,
        camera_focal=None if motion.camera_focal is None else motion.camera_focal * scaled,
    )
