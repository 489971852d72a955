"""What the person detector's numbers mean, and the tiles that it looks at."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from champ_jax.fitting.detection import Detections, anchors, decode, merge, tile_squares
from champ_jax.fitting.networks.person_detector import ANCHORS, SIZE
from champ_jax.fitting.squares import Squares


def whole(side: float) -> Squares:
    return Squares(np.array([[side / 2, side / 2]]), np.array([side]), np.zeros(1))


def test_anchors_are_in_the_order_of_the_network():
    found = anchors()
    assert len(found) == sum(side * side * count for side, count in ANCHORS) == 2254
    np.testing.assert_allclose(
        found[[0, 1, 2, 56, -1]] * 28, [(0.5, 0.5), (0.5, 0.5), (1.5, 0.5), (0.5, 1.5), (26, 26)]
    )


def test_a_person_is_decoded_to_pixels_of_the_picture():
    boxes, scores = np.zeros((1, 2254, 12), np.float32), np.zeros((1, 2254), np.float32)
    cell = 2 * (28 * 10 + 14)  # middle (14.5, 10.5) / 28
    middle = np.array([14.5, 10.5]) / 28 * SIZE
    person = np.array([[100, 80], [100, 20], [100, 60], [100, 30.0]])  # of 224 px
    for anchor, score in ((cell, 0.9), (cell + 1, 0.6)):
        boxes[0, anchor] = [100 - middle[0], 40 - middle[1], 30, 30, *(person - middle).ravel()]
        scores[0, anchor] = score
    (found,) = decode(boxes, scores, whole(2 * SIZE))
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes[0], [170, 50, 230, 110], atol=1e-3)
    np.testing.assert_allclose(found.points[0], 2 * person, atol=1e-3)
    square = found.squares()
    np.testing.assert_allclose([*square.center[0], square.side[0], square.angle[0]], [200, 160, 300, 0], atol=1e-3)


def test_two_tiles_that_see_one_person_give_one():
    points = np.array([[[50, 50], [50, 0], [50, 30], [50, 10.0]]])
    one = Detections(np.array([[40, 0, 60, 20.0]]), np.array([0.6]), points)
    same = Detections(one.boxes + 1, np.array([0.9]), points + 1)
    other = Detections(one.boxes + 100, np.array([0.7]), points + 100)
    merged = merge([one, same, other])
    np.testing.assert_array_equal(merged.scores, [0.9, 0.7])
    assert len(merge([one, merged[np.zeros(0, int)]])) == 1


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 8), st.integers(0, 2**31))
def test_every_small_person_is_whole_in_a_tile(width, height, level, seed):
    squares = tile_squares((width, height), level)
    assert squares.side[0] == max(width, height)
    side = max(width, height) / level
    reach = side / 3  # neighboring tiles have a third in common
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 1, 2) * np.maximum(np.array([width, height]) - reach, 0)
    high = np.minimum(low + reach, [width, height])
    corners = squares.boxes()
    assert (np.all(corners[:, :2] <= low + 1e-6, axis=1) & np.all(corners[:, 2:] >= high - 1e-6, axis=1)).any()
