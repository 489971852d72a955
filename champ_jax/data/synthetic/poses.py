"""Joint angles, their limits, and key poses.

A pose is (24, 3): radians about x, y and z of each joint, R = R_x R_y R_z, in SMPL's rest frame (a T-pose facing +z).
So a thigh comes forward by negative x, a knee bends by positive x, the left arm hangs by negative z and swings by x
about the shoulders' line, the left elbow bends by negative y, or upwards by positive z. The right side is the left one
with y and z negated.
"""

import numpy as np

from champ_jax.body.rotations import axis_angle_to_matrix
from champ_jax.body.smpl import JOINT_NAMES

_J = {name: number for number, name in enumerate(JOINT_NAMES)}

# Lowest and highest angle about x, y, z; of the left one for paired joints. About what healthy adults reach.
_LIMITS = {
    "spine1": ((-0.30, 0.65), (-0.40, 0.40), (-0.30, 0.30)),
    "spine2": ((-0.25, 0.50), (-0.40, 0.40), (-0.30, 0.30)),
    "spine3": ((-0.25, 0.50), (-0.40, 0.40), (-0.30, 0.30)),
    "neck": ((-0.45, 0.50), (-0.70, 0.70), (-0.40, 0.40)),
    "head": ((-0.45, 0.50), (-0.70, 0.70), (-0.40, 0.40)),
    "left_hip": ((-2.10, 0.60), (-0.70, 0.80), (-0.35, 0.95)),
    "left_knee": ((0.0, 2.40), (-0.15, 0.15), (-0.10, 0.10)),
    "left_ankle": ((-0.80, 0.75), (-0.40, 0.40), (-0.40, 0.40)),
    "left_foot": ((-0.80, 0.50), (-0.10, 0.10), (-0.10, 0.10)),
    "left_collar": ((-0.20, 0.20), (-0.40, 0.40), (-0.25, 0.50)),
    "left_shoulder": ((-2.80, 1.00), (-1.70, 0.60), (-1.55, 1.45)),
    "left_elbow": ((-0.60, 0.60), (-2.50, 0.05), (-0.30, 2.30)),
    "left_wrist": ((-0.90, 0.90), (-0.50, 0.50), (-1.10, 1.10)),
    "left_hand": ((-0.30, 0.30), (-0.30, 0.30), (-1.20, 0.30)),
}


def limits() -> np.ndarray:
    """(24, 3, 2) the lowest and highest angle of every joint; the root's are free within a turn."""
    table = np.zeros((len(JOINT_NAMES), 3, 2))
    table[0] = [-np.pi, np.pi]
    for name, ranges in _LIMITS.items():
        left = np.array(ranges)
        table[_J[name]] = left
        if name.startswith("left_"):
            table[_J[name.replace("left_", "right_")]] = [left[0], -left[1, ::-1], -left[2, ::-1]]
    return table


LIMITS = limits()


def within_limits(angles: np.ndarray) -> np.ndarray:
    """Angles (..., 24, 3) brought into `LIMITS`; the root's are left alone."""
    bounded = np.clip(angles, LIMITS[..., 0], LIMITS[..., 1])
    bounded[..., 0, :] = angles[..., 0, :]
    return bounded


def to_rotations(angles: np.ndarray) -> np.ndarray:
    """Angles (..., 24, 3) -> matrices (..., 24, 3, 3), R_x R_y R_z."""
    axes = np.eye(3)
    x, y, z = (axis_angle_to_matrix(angles[..., k, None] * axes[k]) for k in range(3))
    return x @ y @ z


def pose(**turns: tuple[float, float, float]) -> np.ndarray:
    """A pose (24, 3) of named joints; `both_NAME` gives the left one, the right one mirrored. Others are at rest:
    standing, arms hanging."""
    angles = np.zeros((len(JOINT_NAMES), 3))
    given = {
        "both_shoulder": (0.0, 0.0, -1.22),
        "both_elbow": (0.0, -0.22, 0.0),
        "both_hand": (0.0, 0.0, -0.25),
        **turns,
    }
    for name, (x, y, z) in given.items():
        if name.startswith("both_"):
            angles[_J[name.replace("both_", "left_")]] = x, y, z
            angles[_J[name.replace("both_", "right_")]] = x, -y, -z
        else:
            angles[_J[name]] = x, y, z
    return angles


def mirrored(angles: np.ndarray) -> np.ndarray:
    """Angles (..., 24, 3) with left and right exchanged."""
    order = [_J[_other(name)] for name in JOINT_NAMES]
    return angles[..., order, :] * [1, -1, -1]


def _other(name: str) -> str:
    side, _, rest = name.partition("_")
    return {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)


# Upper-body poses that a person can hold while the legs do something else.
GESTURES = {
    "stand": pose(),
    "hands_on_hips": pose(both_shoulder=(0.35, 0.0, -0.75), both_elbow=(0.0, -1.75, -0.1), both_wrist=(0.0, 0.0, 0.5)),
    "arms_crossed": pose(both_shoulder=(-0.45, -0.35, -1.1), both_elbow=(0.0, -1.75, 0.35)),
    "hands_up": pose(both_shoulder=(0.0, -0.1, 1.15), both_elbow=(0.0, -0.15, 0.25)),
    "t_pose": pose(both_shoulder=(0.0, 0.0, 0.0), both_elbow=(0.0, -0.05, 0.0)),
    "goal": pose(both_shoulder=(0.0, -0.1, 0.05), both_elbow=(0.0, -0.1, 1.5)),
    "point_left": pose(left_shoulder=(0.0, -0.3, 0.15), left_elbow=(0.0, -0.05, 0.0), neck=(0.0, 0.45, 0.0)),
    "reach_forward": pose(both_shoulder=(0.0, -1.4, -0.05), both_elbow=(0.0, -0.15, 0.0)),
    "hand_to_head": pose(left_shoulder=(-0.5, -0.5, 0.25), left_elbow=(0.0, -1.5, 1.2), head=(0.0, 0.0, 0.15)),
    "one_up": pose(right_shoulder=(0.0, 0.1, -1.2), right_elbow=(0.0, 0.2, -0.2), spine2=(0.0, 0.0, 0.1)),
    "bow": pose(spine1=(0.35, 0.0, 0.0), spine2=(0.3, 0.0, 0.0), neck=(0.25, 0.0, 0.0), both_hip=(-0.25, 0.0, 0.05)),
    "lean": pose(spine1=(0.0, 0.1, 0.2), spine3=(0.0, 0.1, 0.15), left_shoulder=(0.0, -0.2, -0.9)),
    "flex": pose(both_shoulder=(0.0, -0.1, 0.1), both_elbow=(0.0, -0.3, 1.95)),
    "shrug": pose(both_collar=(0.0, 0.0, 0.3), both_shoulder=(0.0, -0.4, -1.0), both_elbow=(0.0, -1.4, 0.2)),
}
