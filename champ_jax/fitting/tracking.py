"""Detections of single frames linked into people: by overlap, by color, and where a person is lost by their points."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.optimize import linear_sum_assignment

from champ_jax.fitting.detection import HIPS, SHOULDERS, Detections
from champ_jax.fitting.squares import Squares, cut, overlap

_LEVELS = 4  # of each channel of a color histogram
_PATCH = 16  # px, the side of the piece of the torso whose colors count
_OVERLAP = 0.15  # the least of the squares of one person in two detections
_COLOR = 0.65  # the largest distance of the colors of one person
_LOST = 1.0  # seconds after which a person that is not found again is lost
_FOUND_AGAIN = 3.0  # seconds after which a lost person is still taken up again ...
_SAME_COLOR = 0.45  # ... if the colors are this close,
_SAME_SIZE = 1.5  # the sizes by this ratio,
_REACH = 0.6  # and the points by this share of the size and second, plus
_CLOSE = 0.35  # this one.


def torso_colors(frame: Image.Image, detections: Detections) -> np.ndarray:
    """(N, 64) the square roots of the shares of colors on the torsos: unit vectors."""
    hips, shoulders = detections.points[:, HIPS], detections.points[:, SHOULDERS]
    squares = Squares.around((hips + shoulders) / 2, shoulders, margin=0.6)
    patches = cut(frame, squares, _PATCH).reshape(len(detections), _PATCH**2, 3).astype(int) * _LEVELS // 256
    codes = (patches * (_LEVELS**2, _LEVELS, 1)).sum(axis=-1)
    counts = np.stack([np.bincount(code, minlength=_LEVELS**3) for code in codes]) if len(codes) else np.zeros((0, 64))
    return np.sqrt(counts / _PATCH**2)


def color_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hellinger's distance, 0 .. 1, of (N, 64) and (M, 64): (N, M)."""
    return np.sqrt(np.maximum(1 - a @ b.T, 0))


@dataclasses.dataclass
class Path:
    """One person's detections.

    Attributes:
      frames: increasing frame numbers.
      squares: one of each frame.
      colors: (64,) the mean of what `torso_colors` gave.
    """

    frames: np.ndarray
    squares: Squares
    colors: np.ndarray

    def joined(self, other: "Path") -> "Path":
        """With a later path of the same person behind."""
        counts = len(self.frames), len(other.frames)
        colors = np.average([self.colors, other.colors], axis=0, weights=counts)
        return Path(
            np.concatenate([self.frames, other.frames]), Squares.join([self.squares, other.squares]), _unit(colors)
        )

    def at(self, frames: np.ndarray) -> Squares:
        """The squares at any frames: smoothed, between detections interpolated, before and after them unmoved."""
        angle = _smooth(np.unwrap(self.squares.angle))
        center = _smooth(self.squares.center)
        side = _smooth(np.log(self.squares.side))
        columns = [np.interp(frames, self.frames, values) for values in (*center.T, side, angle)]
        return Squares(np.stack(columns[:2], axis=-1), np.exp(columns[2]), columns[3])


def link(
    frames: Sequence[int], detections: Sequence[Detections], colors: Sequence[np.ndarray], fps: float
) -> list[Path]:
    """Links the detections of a shot.

    Args:
      frames: the numbers of the frames that were looked at, increasing.
      detections: the people in each of them.
      colors: their torsos' colors, (N, 64) each.
      fps: frames per second.

    Returns:
      The people in the order of their first frames.
    """
    active: list[_Growing] = []
    finished: list[_Growing] = []
    for frame, found, shades in zip(frames, detections, colors):
        squares = found.squares()
        finished += [path for path in active if frame - path.frames[-1] > _LOST * fps]
        active = [path for path in active if frame - path.frames[-1] <= _LOST * fps]
        pairs = _match(active, squares, shades)
        for path, index in pairs:
            active[path].add(frame, squares[[index]], shades[index])
        for index in sorted(set(range(len(found))) - {index for _, index in pairs}):
            active.append(_Growing([frame], [squares[[index]]], shades[index]))
    paths = [path.finish() for path in finished + active]
    return sorted(paths, key=lambda path: path.frames[0])


@dataclasses.dataclass
class _Growing:
    frames: list[int]
    squares: list[Squares]
    colors: np.ndarray

    def add(self, frame: int, square: Squares, colors: np.ndarray) -> None:
        self.frames.append(frame)
        self.squares.append(square)
        self.colors = _unit(0.8 * self.colors + 0.2 * colors)

    def finish(self) -> Path:
        return Path(np.array(self.frames), Squares.join(self.squares), self.colors)


def _match(paths: Sequence[_Growing], squares: Squares, colors: np.ndarray) -> list[tuple[int, int]]:
    if not paths or not len(squares):
        return []
    common = overlap(Squares.join([path.squares[-1] for path in paths]).boxes(), squares.boxes())
    distance = color_distance(np.stack([path.colors for path in paths]), colors)
    possible = (common >= _OVERLAP) & (distance <= _COLOR)
    rows, columns = linear_sum_assignment(np.where(possible, 1 - common + distance, 1e3))
    return [(int(row), int(column)) for row, column in zip(rows, columns) if possible[row, column]]


def rejoin(paths: Sequence[Path], points: Sequence[tuple[np.ndarray, np.ndarray]], fps: float) -> list[list[int]]:
    """Which paths are one person who was lost for a while.

    Args:
      paths: in the order of their first frames.
      points: of each path the points (K, 2) px of its person in its first and its last frame.
      fps: frames per second.

    Returns:
      Groups of numbers of paths, each in order of time.
    """
    candidates = []
    for early, a in enumerate(paths):
        for late, b in enumerate(paths):
            seconds = (b.frames[0] - a.frames[-1]) / fps
            if late == early or not 0 < seconds <= _FOUND_AGAIN:
                continue
            size = np.sqrt(a.squares.side[-1] * b.squares.side[0])
            ratio = a.squares.side[-1] / b.squares.side[0]
            apart = np.median(np.linalg.norm(points[early][1] - points[late][0], axis=-1)) / size
            color = float(color_distance(a.colors[None], b.colors[None])[0, 0])
            close = apart <= _CLOSE + _REACH * seconds
            if close and color <= _SAME_COLOR and 1 / _SAME_SIZE <= ratio <= _SAME_SIZE:
                candidates.append((apart + color, early, late))
    follows: dict[int, int] = {}
    for _, early, late in sorted(candidates):
        if early not in follows and late not in follows.values():
            follows[early] = late
    groups = []
    for start in range(len(paths)):
        if start not in follows.values():
            group = [start]
            while group[-1] in follows:
                group.append(follows[group[-1]])
            groups.append(group)
    return groups


def _unit(colors: np.ndarray) -> np.ndarray:
    return colors / max(float(np.linalg.norm(colors)), 1e-9)


def _smooth(values: np.ndarray) -> np.ndarray:
    """A quarter of each neighbor in, along the first axis."""
    if len(values) < 3:
        return values
    padded = np.concatenate([2 * values[:1] - values[1:2], values, 2 * values[-1:] - values[-2:-1]])
    return padded[:-2] / 4 + padded[1:-1] / 2 + padded[2:] / 4
