"""People in single pictures: the detector on the whole picture and on tiles, and what it says made one of each."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image

from champ_jax.fitting.networks.person_detector import ANCHORS, SIZE
from champ_jax.fitting.programs import programs
from champ_jax.fitting.squares import Squares, cut, overlap

THRESHOLD = 0.5
"""The least score of a person."""

HIPS, RIM, SHOULDERS = 0, 1, 2
"""Of a detection's points: the middle of the hips, one on the circle about the body, the middle of the shoulders."""

_SAME = 0.3  # overlap of boxes of the head from which on two detections are one
_SAME_BODY = 0.6  # the same for squares of bodies
_TILE_STEP = 2 / 3  # of a tile's side


@dataclasses.dataclass(frozen=True)
class Detections:
    """People in a picture, the surest first.

    Attributes:
      boxes: (N, 4) left, top, right, bottom of their heads, px.
      scores: (N,).
      points: (N, 4, 2) px; see `HIPS`, `RIM`, `SHOULDERS`.
    """

    boxes: np.ndarray
    scores: np.ndarray
    points: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: np.ndarray) -> "Detections":
        return Detections(self.boxes[index], self.scores[index], self.points[index])

    def squares(self) -> Squares:
        """What to cut out for the landmarks."""
        return Squares.around(self.points[:, HIPS], self.points[:, RIM])


def tile_squares(size: tuple[int, int], level: int) -> Squares:
    """The squares that the detector looks at: the whole picture, and for levels above 1 tiles that overlap.

    Args:
      size: (width, height) of the picture, px.
      level: tiles are a `level`-th of the picture's longer side.
    """
    width, height = size
    squares = [Squares(np.array([[width / 2, height / 2]]), np.array([float(max(size))]), np.zeros(1))]
    if level > 1:
        side = max(size) / level
        x, y = (_tile_centers(length, side) for length in size)
        center = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        squares.append(Squares(center, np.full(len(center), side), np.zeros(len(center))))
    return Squares.join(squares)


def _tile_centers(length: float, side: float) -> np.ndarray:
    if side >= length:
        return np.array([length / 2])
    count = int(np.ceil((length - side) / (side * _TILE_STEP) - 1e-9)) + 1
    return np.linspace(side / 2, length - side / 2, count)


def detect(pictures: Sequence[Image.Image], level: int = 1) -> list[Detections]:
    """The people in pictures of one size.

    Args:
      pictures: RGB.
      level: of `tile_squares`.
    """
    if not pictures:
        return []
    squares = tile_squares(pictures[0].size, level)
    program = programs()["person_detector"]
    boxes, scores = program(np.concatenate([cut(picture, squares, SIZE) for picture in pictures]))
    found = decode(boxes, 1 / (1 + np.exp(-scores.clip(-80, 80))), Squares.join([squares] * len(pictures)))
    count = len(squares)
    return [merge(found[at : at + count]) for at in range(0, len(found), count)]


def anchors() -> np.ndarray:
    """(2254, 2) x, y of the middles of the anchors' cells, in sides of the picture."""
    grids = []
    for side, count in ANCHORS:
        middle = (np.arange(side) + 0.5) / side
        cells = np.stack(np.meshgrid(middle, middle), axis=-1).reshape(-1, 2)
        grids.append(np.repeat(cells, count, axis=0))
    return np.concatenate(grids)


def decode(boxes: np.ndarray, scores: np.ndarray, squares: Squares) -> list[Detections]:
    """What the network found in each square, in px of the picture, every person once.

    Detections of one person are averaged by their scores (MediaPipe's weighted non-maximum suppression).

    Args:
      boxes: (N, 2254, 12), scores: (N, 2254) of the network, after the sigmoid.
      squares: N, not turned.
    """
    centers = anchors()
    found = []
    for index in range(len(squares)):
        chosen = np.flatnonzero(scores[index] >= THRESHOLD)
        chosen = chosen[np.argsort(-scores[index][chosen], kind="stable")]
        values, middles = boxes[index][chosen] / SIZE, centers[chosen]
        middle, half = values[:, :2] + middles, values[:, 2:4] / 2
        points = values[:, 4:].reshape(-1, 4, 2) + middles[:, None]
        corners = np.concatenate([middle - half, middle + half], axis=1).reshape(-1, 2, 2)
        placed = np.concatenate([corners, points], axis=1)
        owner = squares[np.full(len(chosen), index)]
        placed = owner.to_picture(placed)
        single = Detections(placed[:, :2].reshape(-1, 4), scores[index][chosen], placed[:, 2:])
        found.append(_average(single))
    return found


def _average(all_of_them: Detections) -> Detections:
    left = np.arange(len(all_of_them))
    boxes, scores, points = [], [], []
    while len(left):
        same = overlap(all_of_them.boxes[left[:1]], all_of_them.boxes[left])[0] > _SAME
        same[0] = True
        group = all_of_them[left[same]]
        boxes.append(np.average(group.boxes, axis=0, weights=group.scores))
        points.append(np.average(group.points, axis=0, weights=group.scores))
        scores.append(group.scores[0])
        left = left[~same]
    return Detections(np.reshape(boxes, (-1, 4)), np.array(scores), np.reshape(points, (-1, 4, 2)))


def merge(found: Sequence[Detections]) -> Detections:
    """The detections of overlapping squares, every person once: of two that are one, the surer stays."""
    joined = Detections(
        *(np.concatenate([getattr(one, name) for one in found]) for name in ("boxes", "scores", "points"))
    )
    joined = joined[np.argsort(-joined.scores, kind="stable")]
    if len(found) == 1:
        return joined
    heads = overlap(joined.boxes, joined.boxes) > _SAME
    body_boxes = joined.squares().boxes()
    same = heads | (overlap(body_boxes, body_boxes) > _SAME_BODY)
    kept: list[int] = []
    for index in range(len(joined)):
        if not same[index, kept].any():
            kept.append(index)
    return joined[np.array(kept, int)]
