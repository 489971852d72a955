"""Short motions on the open body, written by hand: what a first run and the gallery show.

They are stored under champ_jax/assets/motions by `tools/make_motions.py`; `load_authored` reads them.
"""

import dataclasses
from collections.abc import Callable
from importlib import resources

import numpy as np

from champ_jax.body.cameras import hmr2_focal
from champ_jax.body.measurements import lowest_points
from champ_jax.body.motion import Motion
from champ_jax.body.rotations import rotation_about
from champ_jax.body.smpl import JOINT_NAMES, load_body

IMAGE_SIZE, FPS = (256, 256), 24.0
_Pose = dict[str, list[tuple[str, np.ndarray | float]]]  # {joint: turns in radians, as (axis, (T,) or one number)}
_DEPTH = 43.0  # meters: with HMR2's focal length the body is about 0.84 of the picture
_FLOOR = 0.94  # meters below the middle of the picture


def wave() -> Motion:
    """36 frames: the right arm goes up, waves three times and comes down."""
    frames = 36
    time = np.arange(frames) / (frames - 1)
    raised = _ease(time, 0.0, 0.28) - _ease(time, 0.75, 1.0)
    swing = raised * np.sin(2 * np.pi * 3 * np.clip((time - 0.22) / 0.56, 0, 1))
    pose = _standing(frames)
    pose["right_shoulder"] = [("z", 1.2 - 1.55 * raised)]
    pose["right_elbow"] = [("z", 0.05 - 1.15 * raised + 0.4 * swing)]
    pose["right_wrist"] = [("z", 0.2 * swing)]
    pose["spine2"] = [("z", 0.07 * raised)]
    pose["head"] = [("z", -0.12 * raised), ("y", -0.15 * raised)]
    return _motion(pose, yaw=np.zeros(frames))


def turn() -> Motion:
    """48 frames: once round on the spot, arms a little out."""
    frames = 48
    time = np.arange(frames) / (frames - 1)
    out = np.sin(np.pi * time) ** 2
    pose = _standing(frames)
    pose["left_shoulder"] = [("z", -1.2 + 0.35 * out)]
    pose["right_shoulder"] = [("z", 1.2 - 0.35 * out)]
    pose["neck"] = [("y", 0.25 * np.sin(2 * np.pi * time))]
    step = 0.18 * np.abs(np.sin(4 * np.pi * time)) * out
    pose["left_knee"] = pose["right_knee"] = [("x", step)]
    pose["left_hip"] = pose["right_hip"] = [("x", -step / 2)]
    pose["left_ankle"] = pose["right_ankle"] = [("x", -step / 2)]
    return _motion(pose, yaw=2 * np.pi * _ease(time, 0.0, 1.0))


def sway() -> Motion:
    """48 frames that loop: a side step to and fro with bending knees and swinging arms."""
    frames = 48
    phase = 2 * np.pi * np.arange(frames) / frames
    side, beat = np.sin(phase), 0.5 - 0.5 * np.cos(2 * phase)
    bend = 0.15 + 0.4 * beat
    pose = _standing(frames)
    pose["left_shoulder"] = [("z", -0.75 + 0.45 * side), ("y", -0.5 * beat)]
    pose["right_shoulder"] = [("z", 0.75 + 0.45 * side), ("y", 0.5 * beat)]
    pose["left_elbow"] = [("y", -0.6 - 0.5 * beat)]
    pose["right_elbow"] = [("y", 0.6 + 0.5 * beat)]
    pose["spine1"] = [("z", -0.12 * side)]
    pose["spine3"] = [("y", 0.25 * side)]
    pose["head"] = [("z", 0.1 * side)]
    for name, sign in (("left", 1.0), ("right", -1.0)):
        lean = 0.1 * side
        pose[f"{name}_hip"] = [("z", lean), ("x", -bend / 2), ("y", 0.15 * sign)]
        pose[f"{name}_knee"] = [("x", bend)]
        pose[f"{name}_ankle"] = [("x", -bend / 2), ("z", -lean)]
    return _motion(pose, yaw=0.2 * side, sideways=0.12 * side)


MOTIONS: dict[str, Callable[[], Motion]] = {"wave": wave, "turn": turn, "sway": sway}


def load_authored(name: str) -> Motion:
    """Reads one of `MOTIONS` from the package's assets."""
    with resources.as_file(resources.files("champ_jax") / f"assets/motions/{name}.npz") as path:
        return Motion.load(path)


def _standing(frames: int) -> _Pose:
    """Arms down; of a joint's turns the first one is outermost."""
    still = np.ones(frames)
    return {
        "left_shoulder": [("z", -1.2 * still)],
        "right_shoulder": [("z", 1.2 * still)],
        "left_elbow": [("y", -0.2 * still)],
        "right_elbow": [("y", 0.2 * still)],
    }


def _ease(time: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 before `start`, 1 after `end`, a cosine between."""
    return 0.5 - 0.5 * np.cos(np.pi * np.clip((time - start) / (end - start), 0, 1))


def _motion(pose: _Pose, yaw: np.ndarray, sideways: np.ndarray | float = 0.0) -> Motion:
    """Upright, facing the camera at yaw 0, the lowest point of the body on the floor."""
    frames = len(yaw)
    rotations = np.tile(np.eye(3), (frames, len(JOINT_NAMES), 1, 1))
    for frame in range(frames):
        rotations[frame, 0] = rotation_about("x", np.pi) @ rotation_about("y", yaw[frame])
        for name, turns in pose.items():
            for axis, angles in turns:
                angle = np.broadcast_to(angles, (frames,))[frame]
                joint = rotations[frame, JOINT_NAMES.index(name)]
                joint[:] = joint @ rotation_about(axis, angle)
    translation = np.zeros((frames, 3))
    translation[:, 0], translation[:, 2] = sideways, _DEPTH
    motion = Motion.create(
        rotations, np.zeros(10), translation, hmr2_focal(IMAGE_SIZE), IMAGE_SIZE, FPS, "open", source="authored motion"
    )
    # The open body's pelvis is its origin, so the translation is the pelvis.
    motion.translation[:, 1] = _FLOOR - lowest_points(load_body(), motion)
    return dataclasses.replace(motion, translation=np.round(motion.translation, 4))
