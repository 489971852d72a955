"""The orders in which programs list joints and key points, and what they are on a body.

A layout says for each of its points which of the 134 key points it is, or which of SMPL's joints (-1 - joint), or that
it is passed over (None). Sources: COCO, OpenPose, Human3.6M, MediaPipe and SAM 3D Body, as they document their orders.
"""

import numpy as np

from champ_jax.body.motion import NUM_KEYPOINTS
from champ_jax.body.smpl import JOINT_NAMES, KEYPOINT_NAMES
from champ_jax.common.errors import InputError
from champ_jax.conditions.skeleton import coco_to_openpose

Target = int | None

_BODY = {name: number for number, name in enumerate(KEYPOINT_NAMES)}
_FEET = {
    "left_big_toe": 18,
    "left_small_toe": 19,
    "left_heel": 20,
    "right_big_toe": 21,
    "right_small_toe": 22,
    "right_heel": 23,
}
_LEFT_HAND, _RIGHT_HAND = 92, 113  # the wrist, then thumb, index, middle, ring and little finger from base to tip
_POINTS = {**_BODY, **_FEET, "left_middle_base": _LEFT_HAND + 9, "right_middle_base": _RIGHT_HAND + 9}
_POINTS |= {f"{side}_{name}_base": first + place
            for side, first in (("left", _LEFT_HAND), ("right", _RIGHT_HAND))
            for name, place in (("index", 5), ("pinky", 17))}  # fmt: skip


def _targets(names: str) -> tuple[Target, ...]:
    """Targets of names separated by blanks: of a key point, 'joint:NAME' of SMPL's, or '.' for one to pass over."""
    found: list[Target] = []
    for name in names.split():
        if name == ".":
            found.append(None)
        elif name.startswith("joint:"):
            found.append(-1 - JOINT_NAMES.index(name.removeprefix("joint:")))
        else:
            found.append(_POINTS[name])
    return tuple(found)


_COCO = """nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist
    right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"""
_BODY_25 = """nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist joint:pelvis
    right_hip right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe
    left_small_toe left_heel right_big_toe right_small_toe right_heel"""
_H36M = """joint:pelvis right_hip right_knee right_ankle left_hip left_knee left_ankle joint:spine2 joint:neck . .
    left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist"""
_BLAZEPOSE = """nose . left_eye . . right_eye . left_ear right_ear . . left_shoulder right_shoulder left_elbow
    right_elbow left_wrist right_wrist left_pinky_base right_pinky_base left_index_base right_index_base . . left_hip
    right_hip left_knee right_knee left_ankle right_ankle left_heel right_heel left_big_toe right_big_toe"""
# Fingers are listed from the tip to the third joint, which is where they leave the palm.
_MHR_HAND = ". . . . . . . {side}_index_base . . . {side}_middle_base . . . . . . . {side}_pinky_base {side}_wrist"
_MHR = f"""nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_hip
    right_hip left_knee right_knee left_ankle right_ankle left_big_toe left_small_toe left_heel right_big_toe
    right_small_toe right_heel {_MHR_HAND.format(side="right")} {_MHR_HAND.format(side="left")} . . . . . . ."""

LAYOUTS_3D: dict[str, tuple[Target, ...]] = {
    "smpl24": tuple(-1 - joint for joint in range(len(JOINT_NAMES))),
    "coco17": _targets(_COCO),
    "h36m17": _targets(_H36M),
    "blazepose33": _targets(_BLAZEPOSE),
    "mhr70": _targets(_MHR),
}
"""Orders of 3D joints, by the names that files and `--layout` give them."""

_FLAT: dict[int, tuple[Target, ...]] = {17: _targets(_COCO), 25: _targets(_BODY_25)}
POINTS_OF_LAYOUTS = (17, 25, 133, NUM_KEYPOINTS)
"""Numbers of points in a picture that tell an order: COCO, OpenPose's BODY_25, COCO-WholeBody, and the 134 as here."""


def to_whole_body(points: np.ndarray, source: str = "key points") -> np.ndarray:
    """Key points of another order as the 134: COCO (17), BODY_25 (25), COCO-WholeBody (133), or the 134 themselves.

    Args:
      points: (..., N, 3) x, y, score.
      source: begins the message of an error.

    Returns:
      (..., 134, 3); points that the order lacks are 0, the neck of COCO's is the middle of the shoulders.

    Raises:
      InputError: another number of points.
    """
    count = points.shape[-2] if points.ndim >= 2 else 0
    if points.ndim < 2 or points.shape[-1] != 3 or count not in POINTS_OF_LAYOUTS:
        raise InputError(
            f"{source}: keypoints has shape {points.shape}, expected (frames, N, 3) with N one of 17 (COCO), 25 "
            "(OpenPose's BODY_25), 133 (COCO-WholeBody) or 134 (docs/fitting.md)"
        )
    if count == NUM_KEYPOINTS:
        return points
    if count == 133:
        return coco_to_openpose(points[..., :2], points[..., 2])
    result = np.zeros((*points.shape[:-2], NUM_KEYPOINTS, 3), points.dtype)
    for place, target in enumerate(_FLAT[count]):
        if target is not None and target >= 0:
            result[..., target, :] = points[..., place, :]
    if count == 17:
        shoulders = result[..., [_BODY["left_shoulder"], _BODY["right_shoulder"]], :]
        result[..., _BODY["neck"], :2] = shoulders[..., :2].mean(axis=-2)
        result[..., _BODY["neck"], 2] = shoulders[..., 2].min(axis=-1)
    return result
