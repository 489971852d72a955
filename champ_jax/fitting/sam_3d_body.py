"""SAM 3D Body's results: for every frame a list of people, each a dictionary with `pred_keypoints_3d` (70, 3),
`pred_cam_t` (3,), both in meters in the camera's axes, `focal_length` in px and `bbox` (4,)."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from champ_jax.body.fields import FOCAL, METERS, Field, check_frame_count, read_fields
from champ_jax.common.errors import InputError

FORMAT = "SAM 3D Body"
LAYOUT = "mhr70"
MAX_PEOPLE = 1000

FIELDS = {
    "pred_keypoints_3d": Field((70, 3), np.float64, METERS),
    "pred_cam_t": Field((3,), np.float64, METERS, reshape=True),
    "focal_length": Field((), np.float64, FOCAL, reshape=True),
}


def is_sam_3d_body(data: Any) -> bool:
    """Whether this is a list, or a dictionary by frame, of people as SAM 3D Body describes them."""
    frames = list(data.values()) if isinstance(data, Mapping) else data
    if not isinstance(frames, list | tuple):
        return False
    people = [one for frame in frames for one in (frame if isinstance(frame, list | tuple) else [frame])]
    return bool(people) and all(isinstance(one, Mapping) and "pred_keypoints_3d" in one for one in people)


def read_sam_3d_body(path: str | os.PathLike, data: Any, person: int | None) -> tuple[dict[str, np.ndarray], list[str]]:
    """The joints of one person before the camera.

    Who is followed from frame to frame: the one nearest to where the person was, who begins as the nearest to the
    camera, or as the `person`-th of the first frame that has so many.

    Returns:
      `joints3d` (T, 70, 3), NaN where nobody is seen, `focal` (T,) and `layout`; and notes.

    Raises:
      InputError: a person's fields are missing or do not fit; the frame is named.
    """
    frames = list(data.values()) if isinstance(data, Mapping) else list(data)
    check_frame_count(str(path), len(frames))
    joints = np.full((len(frames), 70, 3), np.nan)
    focal = np.full(len(frames), np.nan)
    before, most = None, 0
    for number, frame in enumerate(frames):
        people = [frame] if isinstance(frame, Mapping) else list(frame or [])
        if len(people) > MAX_PEOPLE:
            raise InputError(f"{path}: frame {number} has {len(people):,} people; at most {MAX_PEOPLE} are read")
        most = max(most, len(people))
        seen = []
        for one in people:
            values: dict[str, Any] = read_fields(f"{path}: frame {number}", one, FIELDS)
            seen.append((values["pred_keypoints_3d"] + values["pred_cam_t"].reshape(3), float(values["focal_length"])))
        if before is None and person is not None:
            seen = seen[person : person + 1]
        if not seen:
            continue
        near = [points.mean(axis=0) for points, _ in seen]
        distance = [place[2] if before is None else float(np.linalg.norm(place - before)) for place in near]
        chosen = int(np.argmin(distance))
        before = near[chosen]
        joints[number], focal[number] = seen[chosen]
    if before is None:
        raise InputError(f"{path}: shows {'nobody' if person is None else f'no person {person + 1}'}")
    known = np.isfinite(focal)
    focal = np.interp(np.arange(len(frames)), np.flatnonzero(known), focal[known])
    notes = [f"{path}: read as {FORMAT}'s results"]
    if most > 1:
        notes.append(f"up to {most} people at once; the one nearest to the camera at the start was followed")
    return {"joints3d": joints, "focal": focal, "layout": LAYOUT}, notes
