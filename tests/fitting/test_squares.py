"""Squares of pictures: their pixels come from where they say, turned, enlarged and reduced."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from champ_jax.fitting.squares import Squares, cut, overlap


def square(x: float, y: float, side: float, angle: float) -> Squares:
    return Squares(np.array([[x, y]]), np.array([side]), np.array([angle]))


def picture_with_dot(x: float, y: float, spread: float, size: tuple[int, int] = (160, 120)) -> Image.Image:
    columns, rows = (np.arange(side) + 0.5 for side in size)
    dot = np.exp(-((columns[None] - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * spread**2))
    return Image.fromarray(np.repeat((255 * dot)[..., None], 3, axis=-1).round().astype(np.uint8))


@settings(max_examples=25, deadline=None)
@given(
    x=st.floats(60, 100),
    y=st.floats(40, 80),
    side=st.floats(30, 400),
    angle=st.floats(-3.1, 3.1),
    at=st.floats(0.3, 0.7),
)
def test_a_point_of_the_result_is_where_the_square_says(x, y, side, angle, at):
    one = square(x, y, side, angle)
    place = one.to_picture(np.array([[[at, 0.45]]]))[0, 0]
    if not (20 < place[0] < 140 and 20 < place[1] < 100):
        return
    spread = max(side / 64 * 1.5, 2.0)
    pixels = cut(picture_with_dot(*place, spread), one, 64)[0, ..., 0].astype(float) ** 2
    grid = np.arange(64) + 0.5
    found = np.array([(pixels.sum(axis=0) * grid).sum(), (pixels.sum(axis=1) * grid).sum()]) / pixels.sum() / 64
    np.testing.assert_allclose(found, (at, 0.45), atol=0.012)


@given(st.floats(-50, 50), st.floats(-50, 50), st.booleans())
def test_a_square_about_a_circle_has_its_point_up_or_down(dx, dy, up):
    if np.hypot(dx, dy) < 1:
        return
    one = Squares.around(np.array([[10.0, 20.0]]), np.array([[10 + dx, 20 + dy]]), up=up, margin=1.25)
    expected = (0.5, 0.5 - 0.4 if up else 0.5 + 0.4)
    np.testing.assert_allclose(one.to_picture(np.array([[expected]]))[0, 0], (10 + dx, 20 + dy), atol=1e-9)


@given(st.integers(0, 2**31), st.floats(-3, 3))
def test_a_square_about_points_holds_them_and_no_more(seed, angle):
    points = np.random.default_rng(seed).normal(0, 30, (1, 7, 2))
    one = Squares.about(points, np.array([angle]), 1.0)
    cos, sin = np.cos(-angle), np.sin(-angle)
    offset = points[0] - one.center[0]
    inside = np.stack([cos * offset[:, 0] - sin * offset[:, 1], sin * offset[:, 0] + cos * offset[:, 1]], axis=-1)
    assert np.abs(inside).max() == pytest.approx(one.side[0] / 2)


def test_outside_of_the_picture_is_black():
    white = Image.new("RGB", (40, 30), (255, 255, 255))
    pixels = cut(white, square(0, 15, 20, 0.0), 20)[0]
    assert pixels[:, :9].max() == 0
    assert pixels[:, 11:].min() == 255
    for away in (square(-500, 0, 10, 0), square(np.nan, 0, 10, 0), square(5, 5, 0, 0), square(1e9, 5, 1e9, 0)):
        assert cut(white, away, 8).max() == 0


def test_overlap_of_boxes():
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6.0]])
    np.testing.assert_allclose(overlap(boxes, boxes), [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]])
