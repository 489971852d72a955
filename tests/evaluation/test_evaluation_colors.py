"""Colors against scikit-image, and garments whose colors are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import color

from champ_jax.evaluation.colors import difference, measure_colors, to_lab

NAMES = {1: "top", 2: "bottom"}


def test_lab_is_scikit_images():
    colors = np.random.default_rng(0).integers(0, 256, (500, 3))
    np.testing.assert_allclose(to_lab(colors), color.rgb2lab(colors / 255), atol=0.02)


def test_the_difference_is_ciede2000():
    one, other = np.random.default_rng(0).uniform([0, -100, -100], [100, 100, 100], (2, 2000, 3))
    one[:3, 1:] = 0  # gray, whose hue is undefined
    other[1, 1:] = 0
    other[5:300] = one[5:300] + 0.5
    np.testing.assert_allclose(difference(one, other), color.deltaE_ciede2000(one, other), atol=1e-6)


@given(*(st.tuples(st.floats(0, 100), st.floats(-100, 100), st.floats(-100, 100)) for _ in range(2)))
def test_the_difference_is_a_symmetric_distance(one, other):
    forth, back = difference(np.array(one), np.array(other)), difference(np.array(other), np.array(one))
    assert forth == pytest.approx(back, abs=1e-6)
    assert difference(np.array(one), np.array(one)) == 0


@pytest.fixture
def video():
    """Two frames of a red garment over a blue one; the blue is out of sight in the second."""
    labels = np.zeros((2, 20, 20), np.uint8)
    labels[:, 2:10, 4:16] = 1
    labels[0, 10:18, 4:16] = 2
    truth = np.full((2, 20, 20, 3), 90, np.uint8)
    truth[labels == 1], truth[labels == 2] = (200, 20, 30), (10, 20, 200)
    return truth, labels


def test_what_a_garment_has_lost_is_its_own(video):
    truth, labels = video
    result = truth.copy()
    result[labels == 2] = (60, 60, 120)
    measured = measure_colors(truth, result, labels, NAMES)
    expected = color.deltaE_ciede2000(*(color.rgb2lab(np.array(rgb) / 255) for rgb in ((10, 20, 200), (60, 60, 120))))
    assert measured["color_top"].mean() == 0
    assert measured["color_bottom"].mean() == pytest.approx(expected, abs=0.02)
    np.testing.assert_array_equal(measured["color_bottom"].weights, [1, 0])
    assert measured["color"].mean() == pytest.approx(expected / 3, abs=0.01)  # three regions in two frames


def test_borders_and_specks_have_no_color(video):
    truth, labels = video
    result = truth.copy()
    result[:, [2, 9, 10, 17]] = 255
    result[:, :, [4, 15]] = 255
    assert measure_colors(truth, result, labels, NAMES)["color"].mean() == 0
    labels = np.where(labels == 2, 0, labels)
    labels[0, 0, 0] = 2
    assert "color_bottom" not in measure_colors(truth, result, labels, NAMES)
