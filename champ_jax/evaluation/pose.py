"""The pose of a held-out video: the true points, and how many of them a detector finds again in a result."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from champ_jax.body.measurements import rest_height, rest_pelvis
from champ_jax.body.motion import Motion, require_same_space
from champ_jax.body.smpl import load_body
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import list_images, read_image
from champ_jax.evaluation.baselines import IMAGES
from champ_jax.evaluation.keypoint_detector import MIRRORED, POINTS, small_pictures
from champ_jax.evaluation.regions import Values

MOTION = "motion.npz"
NEAR = 0.05  # share of the person's height within which a point counts as found

_GROUPS = {
    "pck": tuple(range(POINTS)),
    "pck_head": (0, 14, 15, 16, 17),
    "pck_arms": (3, 4, 6, 7),
    "pck_legs": (9, 10, 12, 13, *range(18, POINTS)),
}


@dataclasses.dataclass(frozen=True)
class TruePose:
    """Where the points of a person are.

    Attributes:
      points: (T, 24, 2) x and y, px of the frames.
      seen: (T, 24) bool: the point lies in the frame and is not on the far side of the head. Points behind other parts
        of the body count.
      height: (T,) px: how tall the person stands, seen from as far as the pelvis is. It does not change with the pose,
        nor where a frame cuts the person off.
    """

    points: np.ndarray
    seen: np.ndarray
    height: np.ndarray

    @classmethod
    def read(cls, folder: Path, size: tuple[int, int], frames: int) -> "TruePose":
        """Reads motion.npz of a video of `frames` frames of size (width, height).

        Raises:
          InputError: there is none, it has no key points, or it is of another length or another body.
        """
        path = folder / MOTION
        motion, body = Motion.load(path), load_body()
        require_same_space(motion, body)
        if motion.keypoints is None or len(motion) != frames:
            what = "has no key points" if motion.keypoints is None else f"has {len(motion)} frames, not {frames}"
            raise InputError(f"{path}: {what}; make the video again with tools/make_people.py")
        scale = np.array(size) / motion.image_size
        points = motion.keypoints[:, :POINTS, :2] * scale
        inside = ((points >= 0) & (points < size)).all(-1)
        seen = inside & (motion.keypoints[:, :POINTS, 2] > 0) & motion.valid[:, None]
        depth = motion.translation[:, 2] + rest_pelvis(body, motion.betas)[2]
        height = rest_height(body, motion.betas) * motion.focal * scale[1] / np.maximum(depth, 1e-3)
        return cls(points, seen, height)


def measure_pose(found: np.ndarray, pose: TruePose) -> dict[str, Values]:
    """The share of correct points (PCK, Yang & Ramanan 2013) at 0.05 of the person's height.

    The detector takes a back for a front now and then and exchanges all of left and right. So the points of a frame are
    taken as they are or exchanged, whichever has more correct ones: whether a body is seen from the front is left to
    the measures of pictures.

    Args:
      found: (T, 24, 2) x and y of the points in a result, px.
      pose: the true ones.

    Returns:
      {'pck', 'pck_head', 'pck_arms', 'pck_legs'}: of all points that can be seen, and of some; shares in 0..1.
    """
    correct, exchanged = (
        (np.linalg.norm(points - pose.points, axis=-1) <= NEAR * pose.height[:, None]) & pose.seen
        for points in (found, found[:, list(MIRRORED)])
    )
    correct = np.where((exchanged.sum(1) > correct.sum(1))[:, None], exchanged, correct)
    return {
        name: Values(correct[:, points].sum(1).astype(np.float64), pose.seen[:, points].sum(1).astype(np.float64))
        for name, points in ((name, list(group)) for name, group in _GROUPS.items())
    }


def read_training_set(videos: Sequence[Path], step: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Small pictures (N, 64, 64, 3) uint8 of every `step`-th frame of videos, and their points (N, 24, 3) float32: x
    and y in shares of the sides, and 1, or 0 for points that cannot be seen.

    Raises:
      InputError: a picture or a motion.npz is missing or damaged.
    """
    pictures, points = [], []
    for folder in videos:
        files = list_images(folder / IMAGES)
        frames = [read_image(path) for path in files[::step]]
        height, width = frames[0].shape[:2]
        pose = TruePose.read(folder, (width, height), len(files))
        pictures.append(small_pictures(frames))
        seen = pose.seen[::step, :, None]
        points.append(np.concatenate([pose.points[::step] / [width, height], seen], axis=-1))
    return np.concatenate(pictures), np.concatenate(points).astype(np.float32)


def training_digest(videos: Sequence[Path], steps: int) -> str:
    """What a detector depends on: names of the videos, motions, sizes of the picture files, and the number of steps."""
    total = hashlib.sha256(f"{steps}\n".encode())
    for folder in videos:
        total.update(f"{folder.name}\n".encode())
        motion = folder / MOTION
        total.update(motion.read_bytes() if motion.is_file() else b"")
        for path in list_images(folder / IMAGES):
            total.update(f"{path.name} {path.stat().st_size}\n".encode())
    return total.hexdigest()
