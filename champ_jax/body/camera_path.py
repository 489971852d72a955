"""Motions before a camera that turns and zooms: as the world has them, and as the camera saw them."""

import dataclasses

import numpy as np

from champ_jax.body.measurements import rest_pelvis
from champ_jax.body.motion import Motion
from champ_jax.body.smpl import BodyModel


def through_camera(motion: Motion, body: BodyModel) -> Motion:
    """The motion as the video's camera saw it: every frame in its own camera, with that camera's focal length.

    The root turns about the pelvis joint J, so for x' = R x the translation becomes R (J + translation) - J.

    Args:
      motion: a motion without a camera path comes back as it is.
      body: the body of the motion's betas.

    Returns:
      A motion of the same frames without a camera path. Drawn frame by frame it lies over the video.
    """
    if motion.camera_rotations is None or motion.camera_focal is None:
        return motion
    pelvis = rest_pelvis(body, motion.betas)
    turned = turn_frames(motion.camera_rotations, motion.rotations, motion.translation, pelvis)
    return dataclasses.replace(
        motion,
        rotations=turned[0],
        translation=turned[1],
        focal=motion.camera_focal,
        camera_rotations=None,
        camera_focal=None,
    )


def turn_frames(
    camera: np.ndarray, rotations: np.ndarray, translation: np.ndarray, pelvis: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Every frame's body turned about the camera.

    Args:
      camera: (T, 3, 3) one rotation for each frame: world-to-camera to get into each frame's camera, its transpose to
        get back.
      rotations: (T, 24, 3, 3) as a motion's. translation: (T, 3) as a motion's.
      pelvis: (3,) the pelvis joint at rest.

    Returns:
      rotations (T, 24, 3, 3) and translation (T, 3), float32.
    """
    turned = np.array(rotations, np.float32)
    turned[:, 0] = camera @ rotations[:, 0]
    moved = np.einsum("tab,tb->ta", camera, translation + pelvis) - pelvis
    return turned, moved.astype(np.float32)
