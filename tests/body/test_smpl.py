"""SMPL against the smplx package on random bodies and poses."""

import jax
import numpy as np
import pytest
import torch
from bodies import random_body, random_rotations, write_pickle

from champ_jax.body.smpl import KEYPOINT_NAMES, body_keypoints, load_body, smpl


@pytest.fixture(scope="module")
def pickled(tmp_path_factory):
    return write_pickle(tmp_path_factory.mktemp("body") / "SMPL_NEUTRAL.pkl", random_body(6890, seed=3))


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
    vertices, joints = jax.jit(smpl)(load_body(pickled), betas, rotations)
    np.testing.assert_allclose(vertices, oracle.vertices.numpy(), atol=1e-5)
    np.testing.assert_allclose(joints, oracle.joints.numpy()[:, :24], atol=1e-5)
    # smplx appends surface points; 24..28 are nose, right eye, left eye, right ear, left ear.
    ours = np.asarray(body_keypoints(load_body(pickled), vertices, joints))
    np.testing.assert_allclose(ours[:, [0, 14, 15, 16, 17]], oracle.joints.numpy()[:, 24:29], atol=1e-5)
    right_wrist = KEYPOINT_NAMES.index("right_wrist")
    np.testing.assert_array_equal(ours[:, right_wrist], np.asarray(joints)[:, 21])
