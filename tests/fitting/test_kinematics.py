"""Points against the body's own vertices, derivatives against JAX's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from champ_jax.body.smpl import body_keypoints, load_body, smpl
from champ_jax.data.synthetic.anatomy import load_anatomy
from champ_jax.fitting.kinematics import (
    JOINTS,
    ROOT,
    TRANSLATION,
    left_jacobian,
    pose,
    pose_with_derivatives,
    rotation,
)
from champ_jax.fitting.points import FEET, NUM_POINTS, feet_of, padded, point_model, whole_body_places


@pytest.fixture(scope="module")
def model():
    body = load_body()
    numbers, places = whole_body_places(body)
    return numbers, point_model(body, padded(places, feet_of(body)))


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(3)
    state = rng.normal(0, 0.5, (2, 75)).astype(np.float32)
    state[:, ROOT] = 0
    state[:, TRANSLATION] += [0, 0, 4]
    root = rotation(jnp.asarray(rng.normal(0, 1, (2, 3)), jnp.float32))
    return state, root, rng.normal(size=10).astype(np.float32)


def test_points_are_where_the_body_has_them(model, frames):
    numbers, points = model
    state, root, betas = frames
    turned = jax.jit(rotation)(jnp.asarray(state[:, JOINTS]).reshape(2, 23, 3))
    rotations = jnp.concatenate([root[:, None], turned], axis=1)
    body = load_body()
    vertices, joints = jax.jit(smpl)(body, betas, rotations)
    expected = np.zeros((2, 134, 3))
    expected[:, :18] = body_keypoints(body, vertices, joints)
    anatomy = load_anatomy()
    expected[:, 18:] = np.einsum("tlkc,lk->tlc", np.asarray(vertices)[:, anatomy.landmarks], anatomy.landmark_weights)
    expected += state[:, None, TRANSLATION]
    posed = jax.jit(pose)(points, state, root, betas)
    np.testing.assert_allclose(posed.points[:, : len(numbers)], expected[:, numbers], atol=2e-5)
    np.testing.assert_allclose(posed.points[:, -len(FEET) :], expected[:, list(FEET)], atol=2e-5)
    np.testing.assert_allclose(posed.joints, joints + state[:, None, TRANSLATION], atol=2e-5)
    assert len({*numbers, *FEET}) == len(numbers) + len(FEET) <= len(points) == NUM_POINTS


def test_derivatives_are_those_of_jax(model, frames):
    _, points = model
    state, root, betas = map(jnp.asarray, frames)
    posed, by_hand = jax.jit(pose_with_derivatives)(points, state, root, betas)

    def one(state, root, betas):
        posed = pose(points, state[None], root[None], betas)
        return posed.points[0], posed.joints[0]

    jacobian = jax.jit(jax.vmap(jax.jacfwd(one, argnums=(0, 2)), in_axes=(0, 0, None)))
    (by_state, by_shape), (joints_by_state, joints_by_shape) = jacobian(state, root, betas)
    np.testing.assert_allclose(by_hand.points, by_state, atol=1e-5)
    np.testing.assert_allclose(by_hand.points_by_shape, by_shape, atol=1e-5)
    np.testing.assert_allclose(by_hand.joints, joints_by_state, atol=1e-5)
    np.testing.assert_allclose(by_hand.joints_by_shape, joints_by_shape, atol=1e-5)
    np.testing.assert_allclose(posed.points, jax.jit(pose)(points, state, root, betas).points, atol=1e-6)


@pytest.mark.parametrize("length", [0.0, 1e-4, 0.03, 0.5, 3.0])
def test_left_jacobian(length):
    direction = np.array([0.6, -0.48, 0.64])
    vector = jnp.asarray(length * direction, jnp.float32)
    turned = jax.jit(jax.jacfwd(rotation))(vector)  # (3, 3, 3)
    about = jnp.einsum("abk,cb->ack", turned, rotation(vector))  # dR R^T, the matrix of a cross product
    axes = jnp.stack([about[2, 1], about[0, 2], about[1, 0]])
    np.testing.assert_allclose(jax.jit(left_jacobian)(vector), axes, atol=2e-4)
