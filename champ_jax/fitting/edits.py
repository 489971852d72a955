"""Corrections of single key points by hand: a JSON file laid over what a tracker saw.

    {"frames": {"12": {"4": [310.5, 220], "7": null}, "13": null}}

moves point 4 of frame 12 (both counted from 0), takes point 7 away, and says that frame 13 does not show the person.
"""

import dataclasses
import os
import re
from typing import Any

import numpy as np

from champ_jax.body.motion import NUM_KEYPOINTS
from champ_jax.common.errors import InputError
from champ_jax.common.files import read_json
from champ_jax.fitting.keypoints import POSITION, Keypoints

_MAX_FILE = 16 * 2**20
_NUMBER = re.compile(r"[0-9]{1,9}")


def apply_edits(keypoints: Keypoints, path: str | os.PathLike) -> tuple[Keypoints, int]:
    """The key points with the file's corrections, and how many there were.

    A point that is moved is sure: its score becomes the highest of the clip, at least 1. A frame with a moved point is
    valid.

    Raises:
      InputError: no such file, not JSON, or a frame, point or value that cannot be; it is named.
    """
    data = read_json(path, _MAX_FILE)
    frames = data.get("frames") if isinstance(data, dict) else None
    if not isinstance(frames, dict):
        raise InputError(f'{path}: has no object "frames": write {{"frames": {{"12": {{"4": [310.5, 220]}}}}}}')
    points, valid = keypoints.keypoints.copy(), keypoints.valid.copy()
    sure = max(float(points[..., 2].max()), 1.0)
    count = 0
    for frame_name, changes in frames.items():
        frame = _number(path, "frame", frame_name, len(points))
        if changes is None:
            points[frame], valid[frame] = 0, False
            count += 1
            continue
        if not isinstance(changes, dict):
            raise InputError(f"{path}: frame {frame}: should be an object of points, or null")
        for point_name, place in changes.items():
            point = _number(path, f"frame {frame}: point", point_name, NUM_KEYPOINTS)
            if place is None:
                points[frame, point] = 0
            else:
                points[frame, point] = *_place(path, frame, point, place), sure
                valid[frame] = True
            count += 1
    if not valid.any():
        raise InputError(f"{path}: takes the person away in every frame")
    return dataclasses.replace(keypoints, keypoints=points, valid=valid), count


def _number(path: str | os.PathLike, what: str, text: str, end: int) -> int:
    if not _NUMBER.fullmatch(text) or int(text) >= end:
        raise InputError(f"{path}: {what} {text[:40]}: expected a whole number from 0 to {end - 1}")
    return int(text)


def _place(path: str | os.PathLike, frame: int, point: int, place: Any) -> tuple[float, float]:
    if not isinstance(place, list) or len(place) != 2 or any(POSITION.problem(value) for value in place):
        raise InputError(f"{path}: frame {frame}: point {point}: expected [x, y] in px or null")
    x, y = (float(np.float32(value)) for value in place)
    return x, y
