"""Rotation conversions against scipy and as invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from champ_jax.body import rotations as r

numbers = st.floats(-4, 4, allow_nan=False)
vectors = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=5).map(np.array)


@given(vectors)
@settings(max_examples=60, deadline=None)
def test_axis_angle_equals_scipy(vector):
    matrix = r.axis_angle_to_matrix(vector)
    np.testing.assert_allclose(matrix, Rotation.from_rotvec(vector).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(r.axis_angle_to_matrix(r.matrix_to_axis_angle(matrix)), matrix, atol=1e-10)
    assert np.linalg.norm(r.matrix_to_axis_angle(matrix), axis=-1).max() <= np.pi + 1e-9


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 1e-4, 2e-4, 1.0, np.pi - 1e-7, np.pi])
def test_axis_angle_round_trip_near_its_corners(angle):
    for axis in np.concatenate([np.eye(3), Rotation.random(4, random_state=0).as_matrix()[:, 0]]):
        back = r.matrix_to_axis_angle(r.axis_angle_to_matrix(axis * angle))
        sign = np.sign(back @ axis) if angle > 3 else 1.0  # at pi the axis has no direction
        np.testing.assert_allclose(sign * back, axis * angle, atol=1e-7)


def test_quaternions_are_scipys_with_w_first():
    expected = Rotation.random(50, random_state=1)
    quaternion = r.matrix_to_quaternion(expected.as_matrix())
    np.testing.assert_allclose(quaternion, expected.as_quat(canonical=True)[:, [3, 0, 1, 2]], atol=1e-12)
    np.testing.assert_allclose(r.quaternion_to_matrix(3 * quaternion), expected.as_matrix(), atol=1e-12)


def test_6d_takes_any_two_columns():
    matrix = Rotation.random(20, random_state=2).as_matrix()
    np.testing.assert_allclose(r.rotation_6d_to_matrix(r.matrix_to_rotation_6d(matrix)), matrix, atol=1e-12)
    stretched = r.matrix_to_rotation_6d(matrix) * 2.5
    stretched[:, 3:] += 0.7 * stretched[:, :3]
    np.testing.assert_allclose(r.rotation_6d_to_matrix(stretched), matrix, atol=1e-12)


def test_nearest_rotation_mends_noise_and_reflections():
    rng = np.random.default_rng(0)
    noisy = Rotation.random(20, random_state=3).as_matrix() + 0.1 * rng.normal(size=(20, 3, 3))
    noisy[0, :, 0] *= -1
    nearest = r.nearest_rotation(noisy)
    assert r.rotation_error(nearest).max() < 1e-12
    assert r.rotation_error(noisy)[0] >= 2
    for other in Rotation.random(200, random_state=4).as_matrix():
        assert (np.linalg.norm(nearest - noisy, axis=(1, 2)) <= np.linalg.norm(other - noisy, axis=(1, 2))).all()


def test_slerp_equals_scipy():
    ends = Rotation.random(2, random_state=5)
    fractions = np.linspace(0, 1, 7)
    expected = Slerp([0, 1], ends)(fractions).as_matrix()
    start, end = (np.broadcast_to(matrix, (7, 3, 3)) for matrix in ends.as_matrix())
    np.testing.assert_allclose(r.slerp(start, end, fractions), expected, atol=1e-12)


def test_jax_and_numpy_agree_and_gradients_are_finite_at_rest():
    vector = Rotation.random(4, random_state=6).as_rotvec().astype(np.float32)
    np.testing.assert_allclose(
        jax.jit(r.axis_angle_to_matrix)(jnp.asarray(vector)), r.axis_angle_to_matrix(vector), atol=1e-6
    )
    there = jax.jit(jax.jacobian(r.axis_angle_to_matrix))(jnp.zeros(3))
    expected = np.zeros((3, 3, 3))
    for axis, (row, column) in enumerate([(2, 1), (0, 2), (1, 0)]):
        expected[row, column, axis], expected[column, row, axis] = 1, -1
    np.testing.assert_allclose(there, expected, atol=1e-6)
    back = jax.jit(jax.jacobian(r.matrix_to_axis_angle))(jnp.eye(3))
    assert np.isfinite(back).all()
