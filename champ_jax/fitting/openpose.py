"""OpenPose's folders of JSON files, one a frame, as key points of one person."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.body.fields import MAX_FRAMES
from champ_jax.body.motion import NUM_KEYPOINTS
from champ_jax.common.errors import InputError
from champ_jax.common.files import read_json, require_folder
from champ_jax.fitting.layouts import to_whole_body

MAX_PEOPLE = 1000
"""People of the most crowded frame."""

_MAX_FILE = 4 * 2**20
_NAME = re.compile(r"(?:.*[^0-9])?([0-9]{1,12})_keypoints\.json")
_PARTS = {  # field: (number of points, the first of the 134 it fills; -1: the body)
    "pose_keypoints_2d": (25, -1),
    "face_keypoints_2d": (70, 24),
    "hand_left_keypoints_2d": (21, 92),
    "hand_right_keypoints_2d": (21, 113),
}
_FACE_POINTS = 68  # OpenPose adds two pupils, which the 134 lack


def is_openpose(path: str | os.PathLike) -> bool:
    """Whether a folder holds files named as OpenPose names them."""
    path = Path(path)
    return path.is_dir() and any(_NAME.fullmatch(name) for name in os.listdir(path))


def read_openpose(path: str | os.PathLike, person: int | None = None) -> tuple[np.ndarray, list[str]]:
    """Reads a folder of `NAME_NNNNNNNNNNNN_keypoints.json` (BODY_25, with or without face and hands).

    The person is followed from frame to frame by the distance of the points; it begins with the largest one, or with
    the `person`-th of the first frame that has so many.

    Returns:
      (T, 134, 3) float32 x, y, score, from the first frame's number to the last one's, and notes for the user.

    Raises:
      InputError: no such folder, no such files, or one that is damaged (it is named).
    """
    folder = require_folder(path)
    files: dict[int, Path] = {}
    for name in sorted(os.listdir(folder)):
        match = _NAME.fullmatch(name)
        if match:
            number = int(match[1])
            if number in files:
                raise InputError(
                    f"{folder / name}: has the number {number}, as {files[number].name} has; keep one of them"
                )
            files[number] = folder / name
    if not files:
        raise InputError(f"{folder}: holds no NAME_NNNNNNNNNNNN_keypoints.json, which OpenPose's --write_json makes")
    first, last = min(files), max(files)
    if last - first >= MAX_FRAMES:
        raise InputError(f"{files[last]}: would make {last - first + 1:,} frames; at most {MAX_FRAMES:,} are read")
    points = np.zeros((last - first + 1, NUM_KEYPOINTS, 3), np.float32)
    before, most = None, 0
    for number in range(first, last + 1):
        people = _read_people(files[number]) if number in files else []
        most = max(most, len(people))
        chosen = _follow(people, before, person)
        if chosen is not None:
            points[number - first] = before = chosen
    if before is None:
        wanted = "nobody" if person is None or not most else f"no person {person + 1}; at most {most} at once"
        raise InputError(f"{folder}: shows {wanted}")
    notes = [f"{folder}: read as OpenPose's BODY_25, {len(files)} files"]
    if most > 1:
        notes.append(f"up to {most} people at once; the one who is largest at the start was followed (--person=K)")
    return points, notes


def _read_people(path: Path) -> list[np.ndarray]:
    data = read_json(path, _MAX_FILE)
    people = data.get("people") if isinstance(data, dict) else None
    if not isinstance(people, list) or len(people) > MAX_PEOPLE:
        raise InputError(f"{path}: has no list of at most {MAX_PEOPLE} 'people', as OpenPose writes it")
    return [_read_person(path, index, person) for index, person in enumerate(people)]


def _read_person(path: Path, index: int, person: Any) -> np.ndarray:
    result = np.zeros((NUM_KEYPOINTS, 3), np.float32)
    if not isinstance(person, dict) or "pose_keypoints_2d" not in person:
        raise InputError(f"{path}: person {index} has no pose_keypoints_2d")
    for field, (count, place) in _PARTS.items():
        values = person.get(field)
        if values is None or values == []:
            continue
        known = isinstance(values, list) and all(type(value) in (int, float) for value in values)
        if not known or len(values) != 3 * count:
            hint = "; write it with --model_pose BODY_25" if field == "pose_keypoints_2d" else ""
            raise InputError(f"{path}: person {index}: {field} should be a list of {3 * count} numbers{hint}")
        try:
            part = np.array(values, np.float64).reshape(count, 3)
        except OverflowError:
            part = np.full((count, 3), np.nan)
        if not (np.abs(part) < 1e6).all() or (part[:, 2] < 0).any():
            raise InputError(
                f"{path}: person {index}: {field} holds a number that is no place in a picture or no score"
            )
        if place < 0:
            body = to_whole_body(part)
            result[:24] = body[:24]
        else:
            result[place : place + min(count, _FACE_POINTS)] = part[:_FACE_POINTS]
    result[result[:, 2] == 0] = 0
    return result


def _follow(people: list[np.ndarray], before: np.ndarray | None, person: int | None) -> np.ndarray | None:
    """Who of a frame is the person; None where nobody is seen well enough."""
    seen = [points for points in people if (points[:18, 2] > 0).sum() >= 3]
    if not seen:
        return None
    if before is None:
        if person is not None:
            return seen[person] if person < len(seen) else None
        return max(seen, key=_extent)
    reach = max(_extent(before), 1.0)
    best, distance = None, 1.0  # further than the person's own size is another one
    for points in seen:
        both = (points[:18, 2] > 0) & (before[:18, 2] > 0)
        if both.sum() < 3:
            continue
        away = np.linalg.norm(points[:18][both, :2] - before[:18][both, :2], axis=-1).mean() / reach
        if away < distance:
            best, distance = points, away
    return best


def _extent(points: np.ndarray) -> float:
    seen = points[:18][points[:18, 2] > 0, :2]
    return float(np.linalg.norm(np.ptp(seen, axis=0)))
