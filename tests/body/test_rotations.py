"""Rotations as invariants, and against the matrix exponential."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from champ_jax.body import rotations as r

numbers = st.floats(-4, 4, allow_nan=False)
vectors = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=5).map(np.array)


@given(vectors)
@settings(max_examples=25, deadline=None)
def test_an_axis_angle_is_the_exponential_of_its_cross_product(vector):
    matrix = r.axis_angle_to_matrix(vector)
    for turn, (x, y, z) in zip(matrix, vector):
        np.testing.assert_allclose(turn, expm(np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])), atol=1e-12)
    np.testing.assert_allclose(r.axis_angle_to_matrix(r.matrix_to_axis_angle(matrix)), matrix, atol=1e-10)
    assert np.linalg.norm(r.matrix_to_axis_angle(matrix), axis=-1).max() <= np.pi + 1e-9


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 1e-4, 2e-4, 1.0, np.pi - 1e-7, np.pi])
def test_axis_angle_round_trip_near_its_corners(angle):
    for axis in np.concatenate([np.eye(3), Rotation.random(4, random_state=0).as_matrix()[:, 0]]):
        back = r.matrix_to_axis_angle(r.axis_angle_to_matrix(axis * angle))
        sign = np.sign(back @ axis) if angle > 3 else 1.0  # at pi the axis has no direction
        np.testing.assert_allclose(sign * back, axis * angle, atol=1e-7)


def test_leading_axes_stay():
    vector = Rotation.random(6, random_state=6).as_rotvec().reshape(2, 3, 3)
    matrix = r.axis_angle_to_matrix(vector)
    assert matrix.shape == (2, 3, 3, 3)
    np.testing.assert_allclose(matrix[1, 2], r.axis_angle_to_matrix(vector[1, 2]), atol=1e-15)
    np.testing.assert_allclose(r.matrix_to_axis_angle(matrix), vector, atol=1e-12)


def test_nearest_rotation_corrects_noise_and_reflections():
    rng = np.random.default_rng(0)
    noisy = Rotation.random(20, random_state=3).as_matrix() + 0.1 * rng.normal(size=(20, 3, 3))
    noisy[0, :, 0] *= -1
    nearest = r.nearest_rotation(noisy)
    assert r.rotation_error(nearest).max() < 1e-12
    assert r.rotation_error(noisy)[0] >= 2
    for other in Rotation.random(200, random_state=4).as_matrix():
        assert (np.linalg.norm(nearest - noisy, axis=(1, 2)) <= np.linalg.norm(other - noisy, axis=(1, 2))).all()


@pytest.mark.parametrize(("axis", "turned"), [("x", [0, 0, 1]), ("y", [0, 1, 0]), ("z", [-1, 0, 0])])
def test_a_quarter_turn_about_each_axis(axis, turned):
    np.testing.assert_allclose(r.rotation_about(axis, np.pi / 2) @ [0, 1, 0], turned, atol=1e-15)
