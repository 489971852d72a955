"""Left-right mirror of a motion."""

import dataclasses

import numpy as np

from champ_jax.body.motion import Motion
from champ_jax.body.smpl import JOINT_NAMES

_JOINTS = np.array(
    [
        JOINT_NAMES.index(name.replace("left", "RIGHT").replace("right", "left").replace("RIGHT", "right"))
        for name in JOINT_NAMES
    ]
)


def mirror(motion: Motion) -> Motion:
    """The motion as a mirror shows it: left and right change, the picture turns over about its middle column."""
    flip = np.array([-1.0, 1.0, 1.0], np.float32)
    rotations = motion.rotations[:, _JOINTS] * flip[:, None] * flip
    keypoints = None
    if motion.keypoints is not None:
        keypoints = motion.keypoints[:, mirrored_keypoints()]
        keypoints[..., 0] = motion.image_size[0] - keypoints[..., 0]
    camera = None if motion.camera_rotations is None else motion.camera_rotations * flip[:, None] * flip
    return dataclasses.replace(
        motion,
        rotations=rotations,
        translation=motion.translation * flip,
        keypoints=keypoints,
        camera_rotations=camera,
    )


def mirrored_keypoints() -> np.ndarray:
    """(134,) for each whole-body key point the one on the other side."""
    order = np.arange(134)
    pairs = [(2, 5), (3, 6), (4, 7), (8, 11), (9, 12), (10, 13), (14, 15), (16, 17)]  # body, OpenPose's order
    pairs += [(18 + i, 21 + i) for i in range(3)]  # feet: left big toe, small toe, heel, then right
    face = [(i, 16 - i) for i in range(8)]  # the 68 face points: jaw, brows, nostrils, eyes, lips
    face += [(17 + i, 26 - i) for i in range(5)] + [(31, 35), (32, 34)]
    face += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    face += [(48, 54), (49, 53), (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65)]
    pairs += [(24 + left, 24 + right) for left, right in face]
    pairs += [(92 + i, 113 + i) for i in range(21)]  # hands
    for left, right in pairs:
        order[left], order[right] = right, left
    return order
