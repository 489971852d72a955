"""Parametric shape alignment: the reference person's body does the driver's motion (the paper's eq. 3).

H_trans^i = SMPL(beta_ref, theta_m^i) says which shape and which poses; where that body stands, and in front of which
camera, is what the options here choose.
"""

import dataclasses

import numpy as np

from champ_jax.body.aspect import FITS, fit_image_size
from champ_jax.body.cameras import project
from champ_jax.body.measurements import lowest_points, rest_height, rest_pelvis
from champ_jax.body.motion import Motion, camera_points, require_same_space
from champ_jax.body.rotations import rotation_about
from champ_jax.body.smpl import BodyModel
from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Choice, Number, Rule, check_config

CAMERAS = ("reference", "driver", "reference_parity")
DEPTHS = ("apparent", "metric")
ANGLE = Number(minimum=-360_000, maximum=360_000)
_SCALE = Number(minimum=-1000, maximum=1000)
_RULES: dict[str, Rule] = {
    "camera": Choice(*CAMERAS),
    "depth": Choice(*DEPTHS),
    "fit": Choice(*FITS),
    "turn": ANGLE,
    "tilt": ANGLE,
}
_MIN_DEPTH = 0.1
_CHUNK = 32


@dataclasses.dataclass(frozen=True)
class AlignOptions:
    """How the driver's motion is put into the reference picture.

    Attributes:
      camera: 'reference' (default): the reference picture's camera; the person starts where he or she stands in it and
        moves from there as the driver does. 'driver': the driver's own camera and starting point, with the
        reference's shape.
        'reference_parity': what the reference implementation does: every frame at the reference's place, so that the
        global motion is lost.
      scale: how much of the driver's path is walked: 'height' (default), the ratio of the two bodies' heights, or a
        number (0 stays on the spot).
      ground_contact: keep the height of the lowest point over the ground, instead of the pelvis's (default true), so
        that feet neither float nor sink where legs are longer or shorter.
      depth: 'apparent' (default): distances to the camera are first brought to the reference's angle of view, so that
        the driver looks as large as before; right for motions whose focal length was assumed, such as HMR2's.
        'metric': taken as they are; right where both cameras were measured.
      anchor: the driver's frame that stands at the reference's place; None is the first valid one.
      turn: degrees by which the whole motion is turned about the vertical through the starting point: another camera.
      tilt: degrees by which the camera looks down on it.
      fit: for camera='driver', how its picture gets the reference's aspect: 'crop' (default), 'pad', or 'none'.
    """

    camera: str = "reference"
    scale: float | str = "height"
    ground_contact: bool = True
    depth: str = "apparent"
    anchor: int | None = None
    turn: float = 0.0
    tilt: float = 0.0
    fit: str = "crop"

    def validate(self) -> None:
        """Raises InputError for an unknown choice, or a number that is out of range."""
        check_config(vars(self), _RULES, prefix="")
        if self.scale != "height" and (isinstance(self.scale, str) or _SCALE.problem(self.scale)):
            raise InputError(f"scale={self.scale}: expected 'height' or {_SCALE}")


def align(
    driver: Motion,
    reference: Motion,
    driver_body: BodyModel,
    reference_body: BodyModel,
    options: AlignOptions | None = None,
) -> Motion:
    """The driver's poses on the reference's shape, in front of the chosen camera.

    Args:
      driver: the motion to do. reference: the person of the reference picture; its first valid frame counts.
      driver_body, reference_body: the bodies the two motions' betas belong to. Where the driver's body is not given,
        bring the driver to the reference's with `champ_jax.body.motion.change_space` (its height is then the mean).

    Returns:
      A motion in the reference's space with the driver's poses, frame rate, validity and key points. These stay as the
      driver's picture has them: only where face and hands lie relative to the driver's own body points counts when
      a skeleton is drawn. The path of a camera that turned is kept, its focal lengths in the new picture's scale; where
      the motion is seen from another side, or stays at one place, it means nothing and is left out.

    Raises:
      InputError: bodies and motions of different spaces, an unknown option, an anchor that is not a valid frame, or a
        frame that would come too near to the camera or behind it.
    """
    options = options or AlignOptions()
    options.validate()
    require_same_space(driver, driver_body)
    require_same_space(reference, reference_body)
    anchor = _anchor(driver, options.anchor)
    picture = reference[int(np.argmax(reference.valid)) :][:1]
    heights = rest_height(driver_body, driver.betas), rest_height(reference_body, reference.betas)
    scale = heights[1] / heights[0] if options.scale == "height" else float(options.scale)

    if options.camera == "driver":
        size, zoom = fit_image_size(driver.image_size, reference.image_size, options.fit)
        focal = driver.focal * zoom
    else:
        size, focal = picture.image_size, np.repeat(picture.focal, len(driver))
    aligned = dataclasses.replace(driver, betas=reference.betas, body=reference.body, focal=focal, image_size=size)
    if options.camera == "reference_parity" or options.turn or options.tilt:
        aligned = dataclasses.replace(aligned, camera_rotations=None, camera_focal=None)
    elif driver.camera_focal is not None:
        aligned = dataclasses.replace(aligned, camera_focal=driver.camera_focal * (focal / driver.focal))
    rest = rest_pelvis(reference_body, reference.betas)
    place = picture.translation[0] + rest
    if options.camera == "reference_parity":
        placed = np.repeat(place[None], len(driver), axis=0)
    else:
        pelvis = driver.translation.astype(np.float64) + rest_pelvis(driver_body, driver.betas)
        feet = pelvis[:, 1] + lowest_points(driver_body, driver)
        ground = place[1] + lowest_points(reference_body, picture)[0]
        if options.camera == "driver":
            place, ground = pelvis[anchor], feet[anchor]
        elif options.depth == "apparent":
            # The same picture under the reference's angle of view: distances go with the focal length per picture size.
            pelvis[:, 2] *= (focal / size.max()) / (driver.focal / driver.image_size.max())
        placed = place + scale * (pelvis - pelvis[anchor])
        if options.ground_contact:
            placed[:, 1] = ground + scale * (feet - feet[anchor]) - lowest_points(reference_body, aligned)
        turn = rotation_about("x", np.radians(options.tilt)) @ rotation_about("y", np.radians(options.turn))
        placed = (placed - placed[anchor]) @ turn.T + placed[anchor]
        rotations = driver.rotations.copy()
        rotations[:, 0] = turn @ rotations[:, 0]
        aligned = dataclasses.replace(aligned, rotations=rotations)
    aligned = dataclasses.replace(aligned, translation=(placed - rest).astype(np.float32))
    near = aligned.valid & (placed[:, 2] < _MIN_DEPTH)
    if near.any():
        raise InputError(
            f"frame {int(np.argmax(near))}: the aligned body would come {placed[near][0, 2]:.2f} m before the camera; "
            "choose a smaller scale, or camera=driver"
        )
    return aligned


def frames_outside(body: BodyModel, motion: Motion) -> np.ndarray:
    """(T,) bool: valid frames in which none of the joints lies inside the picture."""
    outside = []
    for start in range(0, len(motion), _CHUNK):
        # The last piece repeats its last frame, so that one compiled program serves all pieces.
        piece = motion[np.minimum(np.arange(start, start + _CHUNK), len(motion) - 1)]
        pixels = np.asarray(project(camera_points(body, piece)[1], piece.focal, motion.image_size))
        inside = np.any(np.all((pixels >= 0) & (pixels < motion.image_size), axis=-1), axis=-1)
        outside.append(~inside[: len(motion) - start])
    return motion.valid & np.concatenate(outside)


def _anchor(driver: Motion, anchor: int | None) -> int:
    if anchor is None:
        return int(np.argmax(driver.valid))
    if not 0 <= anchor < len(driver) or not driver.valid[anchor]:
        raise InputError(f"anchor={anchor}: is not a valid frame of the driving motion, which has {len(driver)}")
    return anchor
