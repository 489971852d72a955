"""The shipped body: SMPL's form, a human size, a symmetric T-pose, sensible skinning; and the authored motions."""

import jax
import numpy as np
import pytest

from champ_jax.body.authored import MOTIONS, load_authored
from champ_jax.body.body_files import SMPL_PARENTS
from champ_jax.body.cameras import project
from champ_jax.body.motion import camera_points
from champ_jax.body.rotations import rotation_about
from champ_jax.body.smpl import JOINT_NAMES, KEYPOINT_NAMES, body_keypoints, load_body, rest_joints, smpl


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def pose(body):
    """name=rotation ... -> vertices and joints of the mean shape."""
    run = jax.jit(smpl)

    def posed(**turns):
        rotations = np.tile(np.eye(3, dtype=np.float32), (24, 1, 1))
        for name, matrix in turns.items():
            rotations[JOINT_NAMES.index(name)] = matrix
        vertices, joints = run(body, np.zeros(10, np.float32), rotations)
        return np.asarray(vertices), np.asarray(joints)

    return posed


def test_has_smpls_form(body):
    vertices, faces = np.asarray(body.v_template), np.asarray(body.faces)
    assert (body.space, body.parents) == ("open", SMPL_PARENTS)
    assert body.shapedirs.shape == (len(vertices), 3, 10)
    assert body.J_regressor.shape == (24, len(vertices))
    np.testing.assert_allclose(body.weights.sum(axis=1), 1, atol=2e-3)
    assert (np.asarray(body.weights) >= 0).all()
    np.testing.assert_allclose(np.asarray(body.J_regressor).sum(axis=1), 1, atol=1e-4)
    assert np.unique(faces).size == len(vertices)
    assert body.uv_faces.shape == faces.shape
    assert np.asarray(body.uvs).min() >= 0
    assert np.asarray(body.uvs).max() <= 1
    assert set(np.unique(body.parts)) == set(range(24))


def test_is_a_standing_adult(body, pose):
    vertices, joints = pose()
    height = np.ptp(vertices[:, 1])
    assert 1.5 < height < 1.9
    assert np.abs(joints[0]).max() < 2e-3  # the pelvis is the origin
    sides = [(1, 2), (4, 5), (7, 8), (10, 11), (13, 14), (16, 17), (18, 19), (20, 21), (22, 23)]
    for left, right in sides:
        np.testing.assert_allclose(joints[left] * [-1, 1, 1], joints[right], atol=3e-3)
        assert joints[left][0] > 0.01
    arm = joints[20] - joints[16]
    assert abs(arm[1]) + abs(arm[2]) < 0.15 * arm[0]  # a T-pose
    assert joints[15][1] > joints[12][1] > joints[9][1] > joints[6][1] > joints[3][1] > 0
    points = np.asarray(body_keypoints(body, vertices, joints))
    nose, right_eye, left_ear = (points[KEYPOINT_NAMES.index(name)] for name in ("nose", "right_eye", "left_ear"))
    assert nose[2] > joints[15][2] + 0.05  # faces +z
    assert right_eye[0] < -0.02 < 0.04 < left_ear[0]
    assert vertices[:, 1].max() - 0.2 < nose[1] < vertices[:, 1].max()


def test_a_bone_moves_its_own_side_only(pose):
    still, _ = pose()
    raised, joints = pose(left_shoulder=rotation_about("z", 1.2))
    moved = np.linalg.norm(raised - still, axis=1)
    assert moved[still[:, 0] < -0.02].max() < 1e-5
    assert moved[still[:, 1] < 0.1].max() < 1e-5
    hand = still[:, 0] > joints[20, 0] + 0.4
    assert moved[still[:, 0] > 0.6].min() > 0.3
    assert not hand.any() or (raised[hand, 1] > joints[16, 1]).all()
    lengths = [np.linalg.norm(j[20] - j[18]) for j in (joints, pose()[1])]
    assert lengths[0] == pytest.approx(lengths[1], abs=1e-5)


def test_betas_are_sizes_of_a_person(body):
    def height(betas):
        return float(np.ptp(np.asarray(body.v_template + body.shapedirs @ betas)[:, 1]))

    heights = [height(np.eye(10)[0] * size) for size in (-2, -1, 0, 1, 2)]
    assert heights == sorted(heights)
    assert heights[0] > 1.3
    assert heights[-1] < 2.2
    joints = np.asarray(rest_joints(body, np.eye(10)[0] * 2))
    assert 1.0 < joints[15, 1] / np.asarray(rest_joints(body, np.zeros(10)))[15, 1] < 1.3
    assert np.abs(joints[0]).max() < 0.01


def test_wrong_side_out_faces_are_few(body):
    """Triangles wind counter-clockwise seen from outside: the volume they enclose is that of a person, and positive."""
    corners = np.asarray(body.v_template, np.float64)[np.asarray(body.faces)]
    volume = np.einsum("fa,fa->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 0.04 < volume < 0.12  # cubic meters


@pytest.mark.parametrize("name", sorted(MOTIONS))
def test_authored_motions_are_whole_upright_and_in_the_picture(body, name):
    motion = load_authored(name)
    assert 24 <= len(motion) <= 48
    assert motion.body == "open"
    made = MOTIONS[name]()
    np.testing.assert_array_equal(motion.rotations, made.rotations)
    np.testing.assert_allclose(motion.translation, made.translation, atol=2e-4)
    vertices, joints = camera_points(body, motion[:: len(motion) // 8][:8])
    pixels = np.asarray(project(vertices, motion.focal[:8], motion.image_size))
    assert pixels.min() > 5
    assert pixels.max() < 251
    assert (np.asarray(joints)[:, 15, 1] < np.asarray(joints)[:, 0, 1] - 0.5).all()  # the head is up, y points down
    points = np.asarray(body_keypoints(body, vertices, joints))
    assert points[0, 0, 2] < np.asarray(joints)[0, 15, 2]  # the nose is nearer to the camera than the neck
    floor = np.asarray(vertices)[..., 1].max(axis=1)
    np.testing.assert_allclose(floor, floor[0], atol=1e-3)
