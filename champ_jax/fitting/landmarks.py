"""The points of people whose place is known roughly: body, hands and face of one person in each of several pictures."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image

from champ_jax.fitting.networks import face_mesh, hand_landmarks, hand_recrop, pose_landmarks
from champ_jax.fitting.programs import programs
from champ_jax.fitting.squares import Squares, cut

PRESENT = 0.5
"""The probability from which on a network's answer counts."""

_CENTER, _RIM = 33, 34  # points of the pose network: a circle about the body
_HEAD = slice(0, 11)
_RIGHT_EYE, _LEFT_EYE = 5, 2
_HANDS = ((15, 17, 19), (16, 18, 20))  # left, right: wrist, little finger, index finger
_HAND_SEEN = 0.1  # a hand is looked for where the wrist's score is at least this
_MESH_RIGHT_EYE, _MESH_LEFT_EYE = 33, 263

# A body is looked at again where the square that its points ask for differs from the square it was seen in by more than
# these: share of the side, ratio of the sides, radians.
_MOVED, _RESIZED, _TURNED = 0.1, 1.3, 0.25


@dataclasses.dataclass(frozen=True)
class Bodies:
    """One person in each of N pictures.

    Attributes:
      points: (N, 39, 2) px in the picture, as MediaPipe numbers them.
      scores: (N, 39): how surely a point is in the picture and not hidden.
      world: (N, 39, 3) meters about the middle of the hips, x to the right and y down as the square was turned.
      presence: (N,): the probability that there is a person.
      squares: what the network saw.
    """

    points: np.ndarray
    scores: np.ndarray
    world: np.ndarray
    presence: np.ndarray
    squares: Squares

    def __len__(self) -> int:
        return len(self.presence)

    def next_squares(self) -> Squares:
        """The squares that these points ask for."""
        return Squares.around(self.points[:, _CENTER], self.points[:, _RIM])


def find_bodies(pictures: Sequence[Image.Image], squares: Squares) -> Bodies:
    """The points of the people in these squares, one of each picture.

    Where the points say that the square was a poor one, the person is looked at again in the better one.

    Args:
      pictures: N, RGB.
      squares: N.
    """
    first = _look(pictures, squares)
    better = first.next_squares()
    again = np.flatnonzero((first.presence >= PRESENT) & _differ(squares, better))
    if not len(again):
        return first
    second = _look([pictures[index] for index in again.tolist()], better[again])
    again, second_kept = again[second.presence >= PRESENT], np.flatnonzero(second.presence >= PRESENT)
    result = {}
    for name in ("points", "scores", "world", "presence"):
        result[name] = getattr(first, name).copy()
        result[name][again] = getattr(second, name)[second_kept]
    used = Squares(squares.center.copy(), squares.side.copy(), squares.angle.copy())
    for name in ("center", "side", "angle"):
        getattr(used, name)[again] = getattr(second.squares, name)[second_kept]
    return Bodies(**result, squares=used)


def _look(pictures: Sequence[Image.Image], squares: Squares) -> Bodies:
    points, world, heatmaps, presence = programs()["pose_landmarks"](_cut_each(pictures, squares, pose_landmarks.SIZE))
    scores = 1 / (1 + np.exp(-points[..., 3:].min(axis=-1).clip(-80, 80)))
    refined = pose_landmarks.refine(points[..., :2], heatmaps)
    return Bodies(squares.to_picture(refined / pose_landmarks.SIZE), scores, world, presence, squares)


def _differ(a: Squares, b: Squares) -> np.ndarray:
    moved = np.linalg.norm(a.center - b.center, axis=1) > _MOVED * a.side
    ratio = b.side / np.maximum(a.side, 1e-6)
    turned = np.abs((a.angle - b.angle + np.pi) % (2 * np.pi) - np.pi) > _TURNED
    return moved | (ratio > _RESIZED) | (ratio < 1 / _RESIZED) | turned


def find_hands(pictures: Sequence[Image.Image], bodies: Bodies) -> np.ndarray:
    """The hands of bodies: (N, 2, 21, 3) x, y, score of the left and the right one; score 0 where none was found."""
    result = np.zeros((len(bodies), 2, hand_landmarks.POINTS, 3))
    owners: list[tuple[int, int]] = []
    squares: list[Squares] = []
    for side, (wrist, little, index) in enumerate(_HANDS):
        wrists = bodies.points[:, wrist]
        middles = (2 * bodies.points[:, index] + bodies.points[:, little]) / 3
        seen = np.flatnonzero((bodies.scores[:, wrist] >= _HAND_SEEN) & (bodies.presence >= PRESENT))
        roughly = Squares.around(middles, 2 * middles - wrists, margin=1).shifted(-0.1).scaled(2.7)
        owners += [(person, side) for person in seen.tolist()]
        squares.append(roughly[seen])
    if not owners:
        return result
    of_hands = [pictures[person] for person, _ in owners]
    roughly = Squares.join(squares)
    (rims,) = programs()["hand_recrop"](_cut_each(of_hands, roughly, hand_recrop.SIZE))
    rims = roughly.to_picture(rims / hand_recrop.SIZE)
    exactly = Squares.around(rims[:, 0], rims[:, 1], up=False, margin=1).shifted(-0.1)
    points, presence, _ = programs()["hand_landmarks"](_cut_each(of_hands, exactly, hand_landmarks.SIZE))
    points = exactly.to_picture(points[..., :2] / hand_landmarks.SIZE)
    for (person, side), hand, score in zip(owners, points, presence):
        if score >= PRESENT:
            result[person, side, :, :2], result[person, side, :, 2] = hand, score
    return result


def find_faces(pictures: Sequence[Image.Image], bodies: Bodies) -> np.ndarray:
    """The faces of bodies: (N, 468, 3) x, y, score; score 0 where none was found."""
    result = np.zeros((len(bodies), face_mesh.POINTS, 3))
    seen = np.flatnonzero(bodies.presence >= PRESENT)
    if not len(seen):
        return result
    head = bodies.points[seen, _HEAD]
    squares = Squares.about(head, _tilt(head[:, _RIGHT_EYE], head[:, _LEFT_EYE]), 2.2)
    of_faces = [pictures[index] for index in seen.tolist()]
    for _ in range(2):  # the second time in the square that the points of the first ask for
        points, presence = programs()["face_mesh"](_cut_each(of_faces, squares, face_mesh.SIZE))
        points = squares.to_picture(points[..., :2] / face_mesh.SIZE)
        squares = Squares.about(points, _tilt(points[:, _MESH_RIGHT_EYE], points[:, _MESH_LEFT_EYE]), 1.5)
    result[seen, :, :2], result[seen, :, 2] = points, np.where(presence >= PRESENT, presence, 0)[:, None]
    return result * (result[..., 2:] > 0)


def _tilt(right: np.ndarray, left: np.ndarray) -> np.ndarray:
    """The angle (N,) of the line from the right eye to the left one."""
    dx, dy = np.moveaxis(left - right, -1, 0)
    return np.arctan2(dy, dx)


def _cut_each(pictures: Sequence[Image.Image], squares: Squares, size: int) -> np.ndarray:
    if not pictures:
        return np.zeros((0, size, size, 3), np.uint8)
    return np.concatenate([cut(picture, squares[index : index + 1], size) for index, picture in enumerate(pictures)])
