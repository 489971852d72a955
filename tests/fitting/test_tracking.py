"""Detections become people: through crossings, gaps, and when someone is lost and found again."""

import numpy as np

from champ_jax.fitting.detection import Detections
from champ_jax.fitting.squares import Squares
from champ_jax.fitting.tracking import Path, color_distance, link, rejoin

RED, BLUE = np.eye(64)[0], np.eye(64)[1]


def people(*places: tuple[float, float], size: float = 100) -> Detections:
    points = np.array([[(x, y), (x, y - size / 2.5), (x, y - 20), (x, y - 30)] for x, y in places]).reshape(-1, 4, 2)
    boxes = np.concatenate([points[:, 3] - 5, points[:, 3] + 5], axis=1)
    return Detections(boxes, np.full(len(points), 0.9), points)


def test_two_people_who_cross_keep_their_colors():
    frames = list(range(0, 40, 2))
    found = [people((20 + 5 * t, 100), (220 - 5 * t, 100)) for t in frames]
    paths = link(frames, found, [np.stack([RED, BLUE])] * len(frames), 24)
    assert [len(path.frames) for path in paths] == [20, 20]
    by_color = {int(np.argmax(path.colors)): path for path in paths}
    np.testing.assert_allclose(by_color[0].squares.center[-1, 0], 210)
    np.testing.assert_allclose(by_color[1].squares.center[-1, 0], 30)


def test_somebody_who_is_missed_for_a_moment_stays_one_person():
    frames = list(range(30))
    found = [people((100 + t, 80)) if not 10 <= t < 20 else people() for t in frames]
    colors = [np.tile(RED, (len(one), 1)) for one in found]
    (path,) = link(frames, found, colors, 24)
    between = path.at(np.array([14.5]))
    np.testing.assert_allclose([*between.center[0], between.side[0]], [114.5, 80, 100], atol=1e-6)
    assert len(link(frames, found, colors, 5)) == 2  # ten frames are two seconds now


def test_between_detections_a_turn_goes_the_short_way():
    squares = Squares(np.zeros((2, 2)), np.ones(2), np.array([3.1, -3.1]))
    middle = Path(np.array([0, 2]), squares, RED).at(np.array([1])).angle[0]
    assert abs(abs(middle) - np.pi) < 1e-6


def test_who_was_lost_is_found_again_by_color_size_and_place():
    def path(first: int, x: float, colors: np.ndarray, size: float = 100) -> Path:
        frames = np.arange(first, first + 5)
        return Path(frames, people(*[(x, 0)] * 5, size=size).squares(), colors)

    early = path(0, 0, RED)
    others = [path(30, 20, RED), path(30, 20, BLUE), path(30, 20, RED, 200), path(30, 900, RED), path(200, 20, RED)]
    for other, same in zip(others, (True, False, False, False, False)):
        ends = [(one.squares.center[[0]], one.squares.center[[-1]]) for one in (early, other)]
        assert rejoin([early, other], ends, 24) == ([[0, 1]] if same else [[0], [1]])
    joined = early.joined(others[0])
    np.testing.assert_array_equal(joined.frames, [0, 1, 2, 3, 4, 30, 31, 32, 33, 34])


def test_color_distance():
    np.testing.assert_allclose(color_distance(np.stack([RED, BLUE]), RED[None]), [[0], [1]])
