"""Motions between their frames: gaps filled, frame rates changed, by slerp and straight lines."""

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from champ_jax.body.fields import FPS, check_frame_count
from champ_jax.body.motion import Motion
from champ_jax.common.ranges import Integer

GAP = Integer(minimum=0)


def fill_gaps(motion: Motion, longest: int) -> tuple[Motion, list[str]]:
    """Fills runs of invalid frames of at most `longest` frames between valid ones.

    Rotations go the shortest way at constant speed, positions and focal lengths in a straight line; a key point gets
    the lower of the two scores. Longer gaps, and those at the start and the end, stay invalid. The camera's path is
    known in all frames and stays as it is.

    Returns:
      The motion, and a line for each gap: filled or left.

    Raises:
      InputError: `longest` is outside of `GAP`.
    """
    GAP.check("fill_gaps", longest)
    times = np.arange(len(motion), dtype=np.float64)
    valid, lines = motion.valid.copy(), []
    for first, last in find_runs(~motion.valid):
        where = f"frame {first}" if first == last else f"frames {first} to {last}"
        inside = first > 0 and last < len(motion) - 1
        if inside and last - first < longest:
            valid[first : last + 1] = True
            lines.append(f"{where}: filled")
        else:
            lines.append(f"{where}: left invalid, " + (f"longer than {longest}" if inside else "no frame on one side"))
    filled = _sample(motion, times)
    take = valid & ~motion.valid
    merged = {
        name: np.where(take.reshape(-1, *[1] * (value.ndim - 1)), getattr(filled, name), value)
        for name in ("rotations", "translation", "focal", "keypoints")
        if (value := getattr(motion, name)) is not None
    }
    return dataclasses.replace(motion, valid=valid, **merged), lines


def resample(motion: Motion, fps: float) -> Motion:
    """The motion at another frame rate; a new frame is valid where the old frames around it are.

    Raises:
      InputError: `fps` is not a frame rate, or gives more frames than a motion may have.
    """
    FPS.check("fps", fps)
    count = int(np.floor((len(motion) - 1) / motion.fps * fps + 1e-6)) + 1
    check_frame_count(f"{fps:g} frames per second", count)
    times = np.arange(count) * (motion.fps / fps)
    sampled = _sample(motion, times)
    below = np.floor(times + 1e-6).astype(int)
    above = np.minimum(np.ceil(times - 1e-6).astype(int), len(motion) - 1)
    valid = motion.valid[below] & motion.valid[above]
    if motion.camera_rotations is None or motion.camera_focal is None:
        return dataclasses.replace(sampled, valid=valid, fps=float(fps))
    numbers = np.arange(len(motion))
    camera = interpolate_rotations(numbers, motion.camera_rotations[:, None], times.clip(0, numbers[-1]))
    return dataclasses.replace(
        sampled,
        valid=valid,
        fps=float(fps),
        camera_rotations=camera[:, 0],
        camera_focal=np.interp(times, numbers, motion.camera_focal).astype(np.float32),
    )


def _sample(motion: Motion, times: np.ndarray) -> Motion:
    """The motion at fractional frame numbers, interpolated between the nearest valid frames."""
    known = np.flatnonzero(motion.valid)
    times = np.clip(times, known[0], known[-1])
    left = known[np.searchsorted(known, times, side="right") - 1]
    right = known[np.searchsorted(known, times)]
    span = right - left
    fraction = np.where(span > 0, (times - left) / np.maximum(span, 1), 0.0)

    def line(values: np.ndarray) -> np.ndarray:
        weight = fraction.reshape(-1, *[1] * (values.ndim - 1))
        return (values[left] * (1 - weight) + values[right] * weight).astype(np.float32)

    keypoints = None
    if motion.keypoints is not None:
        keypoints = line(motion.keypoints)
        scores = motion.keypoints[..., 2]
        keypoints[..., 2] = np.where(span[:, None] > 0, np.minimum(scores[left], scores[right]), scores[left])
    return dataclasses.replace(
        motion,
        rotations=interpolate_rotations(known, motion.rotations[known], times),
        translation=line(motion.translation),
        focal=line(motion.focal),
        valid=np.ones(len(times), bool),
        keypoints=keypoints,
    )


def interpolate_rotations(known: np.ndarray, rotations: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Rotations (n, J, 3, 3) at the times `known` (n,), at `times` between them, on shortest paths of constant speed.

    Returns:
      (T, J, 3, 3) float32.
    """
    if len(known) == 1:
        return np.repeat(rotations, len(times), axis=0).astype(np.float32)
    joints = [Slerp(known, Rotation.from_matrix(joint))(times).as_matrix() for joint in np.swapaxes(rotations, 0, 1)]
    return np.stack(joints, axis=1).astype(np.float32)


def find_runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [(int(first), int(end) - 1) for first, end in zip(edges[::2], edges[1::2])]
