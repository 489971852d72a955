"""From a picture, a video or points to motions: the steps of `champ fit` and of an animation's driving video.

Every step's result is a file beside the output, with a record of what it was made of, and is used again where that has
not changed.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from champ_jax.body.smpl import BodyModel
from champ_jax.common.errors import InputError
from champ_jax.common.files import open_input, read_json, write_json
from champ_jax.common.pictures import focal_from_exif, list_images
from champ_jax.common.progress import Progress
from champ_jax.common.videos import VIDEO_SUFFIXES
from champ_jax.fitting.background import require_opencv
from champ_jax.fitting.camera_motion import estimate_camera, people_boxes
from champ_jax.fitting.fit import DEFAULT_FOCAL_SHARE, Fit, FitSettings, fit_joints, fit_keypoints
from champ_jax.fitting.frames import Frames
from champ_jax.fitting.joints import Joints3D
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.options import Options
from champ_jax.fitting.predicted import PredictedPoses
from champ_jax.fitting.timing import at_even_times, uneven_rate, unevenness
from champ_jax.fitting.video import Shot as ShotOfPeople
from champ_jax.fitting.video import find_people

_PART = 1 << 20
_VERSION = 2
"""Of the records; a change of the method raises it."""


@dataclasses.dataclass(frozen=True)
class Shot:
    """The person's points in one shot.

    Attributes:
      frames: (T,) for each frame of the points the number of the video's frame that shows it.
      keypoints: the points.
    """

    frames: np.ndarray
    keypoints: Keypoints


def find_shots(
    path: str | os.PathLike,
    options: Options,
    fps: float | None,
    focal: float | str | None,
    progress: Progress,
    *,
    moving_camera: bool = False,
) -> tuple[list[Shot], list[str]]:
    """The chosen person's points in every shot of a video, a picture or a folder of pictures.

    Args:
      fps: frames per second, for a video instead of its own times; None takes these, and brings a video of uneven
        frames to a constant rate (`timing.at_even_times`).
      focal: px; 'exif' for what the camera wrote into the picture; 'auto' for an estimate by the fit; None for what the
        camera wrote into a picture, if it did, else an estimate.
      moving_camera: whether the camera of every shot is followed by its background; the points then have its rotations
        and focal lengths.

    Returns:
      Shots that show the person, at least one, and lines about what was found.

    Raises:
      InputError: nobody is seen, the file cannot be read, 'exif' is asked for and nothing is written there, or a camera
        is to be followed without OpenCV.
    """
    notes = []
    if focal == "exif":
        focal = _exif(path)
    elif focal is None and Path(path).is_file() and Path(path).suffix.lower() not in VIDEO_SUFFIXES:
        focal = focal_from_exif(path)
        if focal is not None:
            notes.append(
                f"{path}: the focal length is {focal:.0f} px by what the camera wrote (--focal=auto estimates it)"
            )
    if moving_camera:
        require_opencv()
    people = find_people(path, options, fps, progress)
    times = people.times
    rate = uneven_rate(times) if fps is None else None
    if rate is not None and times is not None:
        notes.append(f"{path}: {unevenness(times, rate)}")
    shots = []
    for shot in people.shots:
        if shot.chosen is None:
            continue
        points = shot.chosen.keypoints
        if isinstance(focal, float):
            points = Keypoints.create(
                points.keypoints, points.image_size, points.fps, points.valid, focal, source=str(path)
            )
        frames = np.arange(shot.first, shot.last + 1)
        if moving_camera:
            points, lines = _with_camera(points, shot, Frames(path, fps), progress)
            where = f"{path}: frames {shot.first} to {shot.last}" if len(people.shots) > 1 else f"{path}"
            notes += [f"{where}: {line}" for line in lines]
        if rate is not None and times is not None:
            points, nearest = at_even_times(points, times[frames], rate, str(path))
            frames = frames[nearest]
        shots.append(Shot(frames, points))
    return shots, [*notes, *people.lines()]


def _with_camera(
    points: Keypoints, shot: ShotOfPeople, frames: Frames, progress: Progress
) -> tuple[Keypoints, list[str]]:
    """The points of a shot with the path of its camera, and lines about it."""
    with progress.bar("camera", len(shot), "frame") as bar:

        def pictures() -> Iterator[Image.Image]:
            for picture in frames.at(np.arange(shot.first, shot.last + 1)):
                yield picture
                bar.update()

        focal = None if points.focal is None else float(points.focal[0])
        assumed = DEFAULT_FOCAL_SHARE * float(points.image_size.max())
        camera, lines = estimate_camera(pictures(), people_boxes(shot.tracks), focal, assumed)
    if camera is not None:
        points = dataclasses.replace(points, focal=camera.focal, camera_rotations=camera.rotations)
    return points, lines


def _exif(path: str | os.PathLike) -> float:
    if Path(path).suffix.lower() in VIDEO_SUFFIXES:
        raise InputError(f"{path}: videos carry no focal length; give --focal=PX or --focal=auto")
    first = list_images(path)[:1] if Path(path).is_dir() else [Path(path)]
    focal = focal_from_exif(first[0]) if first else None
    if focal is None:
        raise InputError(f"{path}: the camera wrote no focal length into it; give --focal=PX or --focal=auto")
    return focal


def fit_points(
    points: Keypoints | Joints3D,
    body: BodyModel,
    settings: FitSettings,
    progress: Progress,
    store: str | os.PathLike | None = None,
    predict: Callable[[np.ndarray], PredictedPoses] | None = None,
) -> Fit:
    """`fit_keypoints` or `fit_joints`, with a bar; `predict` is of key points alone."""
    with progress.bar("fit", 1000, "step") as bar:

        def report(stage: str, share: float) -> None:
            place = 300 * share if stage == "start" else 300 + 700 * share
            bar.update(max(int(place) - bar.n, 0))

        if isinstance(points, Keypoints):
            return fit_keypoints(points, body, settings, report, store, predict)
        return fit_joints(points, body, settings, report, store)


def made_of(inputs: dict[str, str | os.PathLike | None], settings: Any) -> dict[str, Any]:
    """A record: digests of the files (of a folder, of all in it) and the settings, to compare by `is_current`."""
    return {
        "version": _VERSION,
        "inputs": {name: None if path is None else _digest(Path(path)) for name, path in inputs.items()},
        "settings": json.loads(json.dumps(settings, default=str)),
    }


def is_current(output: str | os.PathLike, record: dict[str, Any]) -> bool:
    """Whether a file is there and was made of what the record says."""
    try:
        return Path(output).is_file() and read_json(record_path(output)) == record
    except InputError:
        return False


def keep_record(output: str | os.PathLike, record: dict[str, Any]) -> None:
    """Writes the record beside its output."""
    write_json(record_path(output), record)


def record_path(output: str | os.PathLike) -> Path:
    """Where the record of an output is: motion.npz has motion.made_of.json."""
    return Path(output).with_suffix(".made_of.json")


def _digest(path: Path) -> str:
    whole = hashlib.sha256()
    files = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
    for one in files:
        whole.update(f"{one.name}\0".encode("utf-8", "surrogateescape"))
        with open_input(one) as file:
            while part := file.read(_PART):
                whole.update(part)
    return whole.hexdigest()
