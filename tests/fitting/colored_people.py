"""Videos whose people are upright patches of a color, and networks that find these."""

import numpy as np
from PIL import Image

from champ_jax.fitting import video
from champ_jax.fitting.detection import Detections, merge
from champ_jax.fitting.landmarks import Bodies
from champ_jax.fitting.squares import Squares

SIZE = 160, 96  # width, height
RED, BLUE, GREEN = (220, 20, 20), (20, 20, 220), (20, 220, 20)
COLORS = np.array([RED, BLUE, GREEN])
SMALL = 14  # px: who is not taller is found on tiles only
FPS = 12.0


def draw(*people: tuple[tuple[int, int, int], float, float, float], backdrop: int = 90) -> np.ndarray:
    """A frame with upright people: color, x, y of the middle, height."""
    frame = np.full((SIZE[1], SIZE[0], 3), backdrop, np.uint8)
    for color, x, y, height in people:
        half = height / 4
        frame[max(round(y - height / 2), 0) : round(y + height / 2), max(round(x - half), 0) : round(x + half)] = color
    return frame


def seen(picture: Image.Image) -> list[tuple[float, float, float]]:
    """x, y and height of everybody in a frame, whatever the video's coding did to the colors."""
    step = max(picture.width // 1000, 1)
    pixels = np.asarray(picture)[::step, ::step].astype(np.int16)
    found = []
    for color in COLORS:
        rows, columns = np.nonzero(np.abs(pixels - color).max(axis=-1) < 60)
        if len(rows) > 8:
            middles = ((places.min() + places.max() + 1) / 2 for places in (columns, rows))
            x, y, height = (step * value for value in (*middles, np.ptp(rows) + 1.0))
            found.append((x, y, height))
    return found


def detect(pictures, level: int = 1) -> list[Detections]:
    results = []
    for picture in pictures:
        people = [person for person in seen(picture) if person[2] > SMALL or level > 1]
        points = np.array([[(x, y), (x, y - h / 2), (x, y - h / 5), (x, y - h / 3)] for x, y, h in people])
        points = points.reshape(-1, 4, 2)
        boxes = np.concatenate([points[:, 3] - 3, points[:, 3] + 3], axis=1)
        results.append(merge([Detections(boxes, np.full(len(people), 0.9), points)]))
    return results


def find_bodies(pictures, squares: Squares) -> Bodies:
    count = len(pictures)
    points, presence = np.zeros((count, 39, 2)), np.zeros(count)
    for index, picture in enumerate(pictures):
        for x, y, h in seen(picture):
            if np.hypot(*(squares.center[index] - (x, y))) < squares.side[index] / 3:
                points[index], presence[index] = (x, y), 1
                points[index, 34, 1] -= h / 2
    return Bodies(points, np.ones((count, 39)), np.zeros((count, 39, 3)), presence, squares)


def play_networks(monkeypatch) -> None:
    """Puts the patches' networks in place of the package's."""
    monkeypatch.setattr(video, "detect", detect)
    monkeypatch.setattr(video, "find_bodies", find_bodies)
    monkeypatch.setattr(video, "find_hands", lambda pictures, bodies: np.zeros((len(bodies), 2, 21, 3)))
    monkeypatch.setattr(video, "find_faces", lambda pictures, bodies: np.zeros((len(bodies), 468, 3)))
