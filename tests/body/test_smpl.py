"""SMPL against the smplx package on random bodies and poses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from bodies import random_body, random_rotations, write_pickle

from champ_jax.body.smpl import KEYPOINT_NAMES, body_keypoints, load_body, rest_joints, smpl
from champ_jax.common.errors import InputError

RUN = jax.jit(smpl)


@pytest.fixture(scope="module")
def pickled(tmp_path_factory):
    return write_pickle(tmp_path_factory.mktemp("body") / "SMPL_NEUTRAL.pkl", random_body(6890, seed=3))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("body") / "small.npz"
    np.savez(path, **random_body(40))
    return load_body(path)


def test_equals_smplx(pickled):
    import smplx

    rng = np.random.default_rng(0)
    betas = rng.normal(size=(3, 10)).astype(np.float32)
    rotations = random_rotations((3, 24), seed=1)
    oracle_body = smplx.SMPL(str(pickled), batch_size=3)
    with torch.no_grad():
        oracle = oracle_body(
            betas=torch.from_numpy(betas),
            body_pose=torch.from_numpy(rotations[:, 1:]),
            global_orient=torch.from_numpy(rotations[:, :1]),
            pose2rot=False,
        )
    body = load_body(pickled)
    vertices, joints = RUN(body, betas, rotations)
    np.testing.assert_allclose(vertices, oracle.vertices.numpy(), atol=1e-5)
    np.testing.assert_allclose(joints, oracle.joints.numpy()[:, :24], atol=1e-5)
    # smplx appends surface points; 24..28 are nose, right eye, left eye, right ear, left ear.
    points = np.asarray(body_keypoints(body, vertices, joints))
    np.testing.assert_allclose(points[:, [0, 14, 15, 16, 17]], oracle.joints.numpy()[:, 24:29], atol=1e-5)
    for name, joint in (("right_wrist", 21), ("left_shoulder", 16), ("right_hip", 2), ("left_ankle", 7)):
        np.testing.assert_array_equal(points[:, KEYPOINT_NAMES.index(name)], np.asarray(joints)[:, joint])
    neck = points[:, KEYPOINT_NAMES.index("neck")]
    np.testing.assert_allclose(neck, np.asarray(joints)[:, 16:18].mean(axis=1), atol=1e-6)


def test_batches_broadcast_and_vmap(small):
    betas = np.random.default_rng(1).normal(size=10).astype(np.float32)
    rotations = random_rotations((2, 3, 24), seed=2)
    vertices, joints = RUN(small, betas, rotations)
    assert vertices.shape == (2, 3, 40, 3)
    assert joints.shape == (2, 3, 24, 3)
    mapped = jax.jit(jax.vmap(smpl, in_axes=(None, None, 0)))(small, betas, rotations[0])[0]
    np.testing.assert_allclose(mapped, vertices[0], atol=1e-6)


def test_the_root_turns_about_the_pelvis(small):
    betas = jnp.ones(10)
    rotations = random_rotations((2, 3, 24), seed=3)
    pelvis = RUN(small, betas, rotations)[1][..., 0, :]
    np.testing.assert_allclose(pelvis, np.broadcast_to(rest_joints(small, betas)[0], (2, 3, 3)), atol=1e-6)


def test_gradients_equal_finite_differences(small):
    rotations = jnp.asarray(random_rotations((24,), seed=4))
    target = jnp.asarray(np.random.default_rng(2).normal(size=(40, 3)), jnp.float32)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def loss(betas, rotations):
        return jnp.sum((smpl(small, betas, rotations)[0] - target) ** 2)

    step = jnp.zeros(10).at[3].set(1.0)  # the loss is a parabola in betas: central differences are exact
    _, (slope, turn_slope) = loss(jnp.zeros(10), rotations)
    numeric = (loss(step, rotations)[0] - loss(-step, rotations)[0]) / 2
    np.testing.assert_allclose(slope[3], numeric, rtol=1e-3)
    assert np.isfinite(turn_slope).all()


def test_a_body_of_unknown_mesh_has_no_face_points(small):
    with pytest.raises(InputError, match="nose, eyes and ears"):
        body_keypoints(small, small.v_template, jnp.zeros((24, 3)))
