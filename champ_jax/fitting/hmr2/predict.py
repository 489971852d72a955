"""HMR 2.0 over a video: a crop around one person's points in every frame, and the bodies before the whole camera."""

import dataclasses
import os
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from champ_jax.body.cameras import weak_perspective_to_translation
from champ_jax.body.motion import MEAN_PELVIS
from champ_jax.body.rotations import axis_angle_to_matrix
from champ_jax.common.progress import Progress
from champ_jax.fitting.hmr2.crop import Square, crop
from champ_jax.fitting.hmr2.network import CROP, Body
from champ_jax.fitting.hmr2.weights import load
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.predicted import PredictedPoses
from champ_jax.models.functional import PureNetwork

BATCH = 8
"""Crops a call, at most."""

_POINTS = slice(0, 24)  # body and feet, of the 134 points
_SURE = 0.3  # score below which a detector guesses
_FEWEST = 6  # points that a box is drawn around
_MARGIN = 1.2  # the person is larger than the box of his or her points
_PIXEL = 0.5  # OpenCV counts from the first pixel's center


class Network:
    """HMR 2.0 on the default device, compiled once for each number of crops."""

    def __init__(self, network: PureNetwork, parameters: nnx.State):
        self._parameters = jax.device_put(parameters)
        self._run = jax.jit(lambda parameters, crops: network.bind(parameters)(crops))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Network":
        """The network of a file that `champ convert` wrote.

        Raises:
          InputError: as `weights.load`.
        """
        return cls(*load(path))

    def __call__(self, crops: np.ndarray) -> Body:
        """The bodies in crops (N, 256, 256, 3) as `crop` gives them; NumPy."""
        return Body(*map(np.asarray, self._run(self._parameters, jnp.asarray(crops))))


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What the network saw of one person in T frames, each in its crop's camera. Arrays are NumPy.

    Attributes:
      body: rotations (T, 24, 3, 3), betas (T, 10) of SMPL, camera (T, 3).
      centers: (T, 2) px, the crops' centers, a pixel's center at +0.5.
      sides: (T,) px.
      known: (T,) bool; False where no crop was made and the values mean nothing.
      image_size: (2,) [W, H] px.
    """

    body: Body
    centers: np.ndarray
    sides: np.ndarray
    known: np.ndarray
    image_size: np.ndarray

    def in_picture(self, focal: np.ndarray, space: str) -> PredictedPoses:
        """The bodies before the whole picture's camera.

        A crop shows a person as a camera does that looks straight at him or her. The whole picture's camera sees the
        person aside, so the root is turned by the angle between the two lines of sight.

        Args:
          focal: (T,) px.
          space: of the body that is fitted: SMPL's betas are of use where it is 'smpl'.
        """
        offset = (self.centers - self.image_size / 2) / focal[:, None]
        length = np.linalg.norm(offset, axis=1)
        axis = np.stack([-offset[:, 1], offset[:, 0], np.zeros_like(length)], axis=1)
        angle = np.arctan(length) / np.maximum(length, 1e-12)
        rotations = np.array(self.body.rotations, np.float64)
        rotations[:, 0] = axis_angle_to_matrix(axis * angle[:, None]) @ rotations[:, 0]
        translation = weak_perspective_to_translation(
            self.body.camera, self.centers, self.sides, focal, self.image_size
        )
        pelvis = np.subtract(MEAN_PELVIS["smpl"], MEAN_PELVIS[space])
        betas = None
        if space == "smpl" and self.known.any():
            betas = np.median(self.body.betas[self.known], axis=0)
        known = self.known & (self.body.camera[:, 0] > 0)
        return PredictedPoses(rotations, np.asarray(translation) + pelvis, known, betas)


def predict(
    network: Network, pictures: Iterable[Image.Image | np.ndarray], keypoints: Keypoints, progress: Progress
) -> Predictions:
    """Looks at the person in every frame in which enough points are seen.

    Args:
      network: HMR 2.0; it is always given as many crops, black ones in the end.
      pictures: RGB frames, as many as the points' or more.
      keypoints: the person's points in these frames.
      progress: is told what happens.
    """
    frames = len(keypoints)
    boxes = person_boxes(keypoints)
    known = np.isfinite(boxes).all(axis=1)
    squares = [Square.around(box - _PIXEL) if is_known else None for box, is_known in zip(boxes, known)]
    rotations = np.tile(np.eye(3, dtype=np.float32), (frames, 24, 1, 1))
    body = Body(rotations, np.zeros((frames, 10), np.float32), np.zeros((frames, 3), np.float32))
    batch = min(BATCH, int(known.sum()))
    pending: list[tuple[int, np.ndarray]] = []

    def look() -> None:
        if pending:
            crops = np.zeros((batch, CROP, CROP, 3), np.float32)
            crops[: len(pending)] = [one for _, one in pending]
            for whole, part in zip(body, network(crops)):
                whole[[frame for frame, _ in pending]] = part[: len(pending)]
            pending.clear()

    with progress.bar("HMR2", frames, "frame") as bar:
        for frame, (square, picture) in enumerate(zip(squares, pictures)):
            if square is not None:
                pending.append((frame, crop(np.asarray(picture), square)))
            if len(pending) == batch:
                look()
            bar.update()
        look()
    centers = np.zeros((frames, 2))
    sides = np.ones(frames)
    for frame, square in enumerate(squares):
        if square is not None:
            centers[frame], sides[frame] = square.center + _PIXEL, square.side
    return Predictions(body, centers, sides, known, np.asarray(keypoints.image_size, np.float64))


def person_boxes(keypoints: Keypoints) -> np.ndarray:
    """(T, 4) float64 left, top, right, bottom of the person, px; NaN in frames that show too little of him or her."""
    boxes = np.full((len(keypoints), 4), np.nan)
    for frame, points in enumerate(keypoints.keypoints[:, _POINTS]):
        seen = points[points[:, 2] > _SURE, :2].astype(np.float64)
        if not keypoints.valid[frame] or len(seen) < _FEWEST:
            continue
        low, high = seen.min(axis=0), seen.max(axis=0)
        # Points on one spot are nobody's.
        if (high - low).max() >= 2:
            grown = (high - low) * (_MARGIN - 1) / 2
            boxes[frame] = np.concatenate([low - grown, high + grown])
    return boxes
