"""The correction of points: learned numbers come back, and a mirrored person is corrected to the mirrored points."""

import numpy as np
import pytest

from champ_jax.fitting.landmarks import Bodies
from champ_jax.fitting.point_bias import (
    JOINTS,
    MIRRORED,
    POINTS,
    correct,
    directions,
    joints,
    learn,
    pixels_per_meter,
    shipped_bias,
)
from champ_jax.fitting.squares import Squares
from champ_jax.fitting.whole_body import BODY_SOURCES, FEET_SOURCES, whole_body

# MediaPipe's 33 points as a mirror shows them: the odd ones from 7 on are left.
MIRRORED_33 = [0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, *(i + 1 if i % 2 else i - 1 for i in range(11, 33)), *range(33, 39)]


def random_people(seed: int, count: int) -> tuple[np.ndarray, Bodies]:
    """A stiff body of random points, turned in space, and seen from afar."""
    rng = np.random.default_rng(seed)
    shape = rng.normal(0, 0.4, (39, 3)) + rng.normal(0, 0.1, (count, 39, 3))
    scale, angle = rng.uniform(50, 300, count), rng.uniform(-1, 1, count)
    squares = Squares(rng.uniform(0, 500, (count, 2)), 2 * scale, angle)
    points = squares.to_picture(0.5 + shape[..., :2] / 2)
    bodies = Bodies(points, np.ones((count, 39)), shape, np.ones(count), squares)
    return whole_body(points, bodies.scores, np.zeros((count, 2, 21, 3)), np.zeros((count, 468, 3))), bodies


def mirror(points: np.ndarray, bodies: Bodies) -> tuple[np.ndarray, Bodies]:
    order = np.array([*MIRRORED, *range(POINTS, 134)])
    flip = np.array([-1.0, 1, 1])
    squares = Squares(bodies.squares.center * flip[:2], bodies.squares.side, -bodies.squares.angle)
    seen = Bodies(
        bodies.points[:, MIRRORED_33] * flip[:2],
        bodies.scores,
        bodies.world[:, MIRRORED_33] * flip,
        bodies.presence,
        squares,
    )
    return points[:, order] * flip, seen


def test_the_size_in_the_picture_is_found():
    _, bodies = random_people(0, 5)
    np.testing.assert_allclose(pixels_per_meter(bodies), bodies.squares.side / 2, rtol=1e-6)


def test_learned_numbers_come_back():
    points, bodies = random_people(1, 300)
    rng = np.random.default_rng(2)
    true = {name: rng.normal(0, 0.05, len(numbers)) for name, numbers in shipped_bias().items()}
    truth = correct(points, bodies, true)
    learned = learn([(points[::2], _some(bodies, slice(0, None, 2)), truth[::2])])
    moved = correct(points, bodies, learned)
    before, after = (np.linalg.norm((p - truth)[:, :POINTS, :2], axis=-1) for p in (points, moved))
    assert np.median(after) < 0.05 * np.median(before)


def test_a_mirrored_person_is_corrected_to_the_mirrored_points():
    points, bodies = random_people(3, 4)
    corrected, seen = mirror(correct(points, bodies), bodies)
    np.testing.assert_allclose(correct(*mirror(points, bodies)), corrected, atol=1e-9)
    assert len(seen) == 4


def test_scores_hands_and_faces_stay():
    points, bodies = random_people(4, 2)
    corrected = correct(points, bodies)
    np.testing.assert_array_equal(corrected[..., 2], points[..., 2])
    np.testing.assert_array_equal(corrected[:, POINTS:], points[:, POINTS:])
    assert np.abs(corrected - points)[:, :POINTS, :2].max() > 0


def test_the_shipped_numbers_fit_the_directions():
    points, bodies = random_people(5, 1)
    assert set(shipped_bias()) == set(JOINTS)
    for name, _, mirrored in joints():
        assert directions(points, bodies, name, mirrored).shape[-1] == len(shipped_bias()[name])
    assert sorted(place for _, place, _ in joints()) == list(range(POINTS))


def test_points_that_say_nothing_of_the_size_are_not_thrown_about():
    points, bodies = random_people(6, 1)
    nothing = Bodies(bodies.points, bodies.scores, np.zeros_like(bodies.world), bodies.presence, bodies.squares)
    assert pixels_per_meter(nothing)[0] == pytest.approx(0)
    assert np.isfinite(correct(points, nothing)).all()


def test_each_point_comes_from_one_of_its_side():
    left = {5, 6, 7, 11, 12, 13, 15, 17, 18, 19, 20}
    for place, source in enumerate(BODY_SOURCES + FEET_SOURCES):
        if source > 8:
            assert (source % 2 == 1) == (place in left)


def _some(bodies: Bodies, index: slice) -> Bodies:
    return Bodies(
        bodies.points[index], bodies.scores[index], bodies.world[index], bodies.presence[index], bodies.squares[index]
    )
