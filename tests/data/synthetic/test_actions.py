"""What the people do: within what joints allow, and with the feet on the ground."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from champ_jax.body.smpl import JOINT_NAMES
from champ_jax.data.synthetic.actions import ACTIONS, draw_style, perform
from champ_jax.data.synthetic.anatomy import load_anatomy
from champ_jax.data.synthetic.choreography import choreograph, draw_motif, pose_frames
from champ_jax.data.synthetic.one_video import SOLE, Settings, VideoName, draw_take
from champ_jax.data.synthetic.poses import GESTURES, LIMITS, mirrored, to_rotations, within_limits

JUMPS = ("run", "jump", "jumping_jack")


@pytest.fixture(scope="module")
def takes():
    """Eight motions of eight people, 24 frames each."""
    return [draw_take(Settings(seed=7, frames=24, size=(48, 48)), VideoName("train", k, k)) for k in range(8)]


def test_rotations_are_scipys_intrinsic_xyz():
    angles = np.random.default_rng(0).uniform(-1.5, 1.5, (5, 24, 3))
    expected = Rotation.from_euler("XYZ", angles.reshape(-1, 3)).as_matrix().reshape(5, 24, 3, 3)
    np.testing.assert_allclose(to_rotations(angles), expected, atol=1e-12)


def test_joints_stay_within_their_limits(takes):
    """Read back from the motions' matrices, in either of the two ways to write a rotation in Euler angles."""
    for take in takes:
        matrices = take.motion.rotations[:, 1:].reshape(-1, 3, 3)
        first = Rotation.from_matrix(matrices).as_euler("XYZ").reshape(len(take.motion), 23, 3)
        second = np.stack([first[..., 0] + np.pi, np.pi - first[..., 1], first[..., 2] + np.pi], axis=-1)
        second = (second + np.pi) % (2 * np.pi) - np.pi
        within = [
            ((angles >= LIMITS[1:, :, 0] - 1e-3) & (angles <= LIMITS[1:, :, 1] + 1e-3)).all(axis=-1)
            for angles in (first, second)
        ]
        beyond = np.argwhere(~(within[0] | within[1]))
        assert not len(beyond), [(frame, JOINT_NAMES[joint + 1]) for frame, joint in beyond[:3]]


def test_limits_are_those_of_people():
    """Knees do not bend backwards, necks do not turn round, and both sides can do the same."""
    limit = dict(zip(JOINT_NAMES, LIMITS))
    assert limit["left_knee"][0, 0] == 0
    assert limit["left_knee"][0, 1] < np.radians(150)
    assert abs(limit["neck"][1]).max() + abs(limit["head"][1]).max() < np.radians(95)
    assert (LIMITS[..., 0] <= 0).all()
    assert (LIMITS[..., 1] >= 0).all()
    angles = np.random.default_rng(1).uniform(-4, 4, (50, 24, 3))
    np.testing.assert_allclose(within_limits(mirrored(angles)), mirrored(within_limits(angles)))


@pytest.mark.parametrize("name", list(GESTURES))
def test_key_poses_need_no_clipping(name):
    np.testing.assert_array_equal(within_limits(GESTURES[name]), GESTURES[name])


@pytest.mark.parametrize("name", list(ACTIONS))
def test_actions_move_smoothly(name):
    """No joint turns faster than 20 radians a second, in any style, as the knee of a sprinter does."""
    rng = np.random.default_rng(3)
    seconds = np.arange(96) / 24
    for _ in range(5):
        angles, path = perform(name, seconds, draw_style(rng))
        angles = within_limits(angles)
        matrices = to_rotations(angles)
        steps = np.swapaxes(matrices[:-1], -1, -2) @ matrices[1:]
        assert Rotation.from_matrix(steps.reshape(-1, 3, 3)).magnitude().max() * 24 < 20
        assert np.abs(np.diff(path, axis=0)).max() * 24 < 4.5
        assert np.ptp(angles, axis=0).max() > 0.05  # it does something


def test_feet_are_on_the_ground(takes):
    """The bare body's lowest point is a sole's thickness above the floor, except in jumps, and never lower."""
    for take in takes:
        vertices, _ = pose_frames(load_anatomy().body, take.identity.betas, take.motion.rotations)
        points = vertices + take.motion.translation[:, None]
        heights = (points @ take.camera.rotation + take.camera.position)[..., 1].min(axis=1)
        assert heights.min() > SOLE - 1e-4
        if not set(take.actions) & set(JUMPS):
            np.testing.assert_allclose(heights, SOLE, atol=1e-4)


def test_a_standing_foot_does_not_leave_its_place():
    """Walking covers about the ground that its steps do: the lower ankle moves far less than the pelvis."""
    motif = draw_motif(np.random.default_rng(0), 1.0)
    style = motif.styles[0]
    angles, path = perform("walk", np.arange(48) / 24, style)
    speed = np.diff(path[:, 0]).mean() * 24
    assert 0.5 < speed < 2.2  # meters a second
    rotations = to_rotations(within_limits(angles))
    rotations[:, 0] = np.eye(3)
    _, joints = pose_frames(load_anatomy().body, np.zeros(10), rotations)
    ankles = joints[:, [JOINT_NAMES.index("left_ankle"), JOINT_NAMES.index("right_ankle")]]
    ankles = ankles + np.stack([0 * path[:, 0], 0 * path[:, 0], path[:, 0]], axis=-1)[:, None]
    lower = ankles[..., 1].argmin(axis=1)[1:]
    moved = np.abs(np.diff(ankles[..., 2], axis=0))[np.arange(47), lower] * 24
    assert np.median(moved) < 0.5 * speed


def test_a_motion_blends_its_actions():
    """Where one action follows another no joint jumps, and frames do not depend on how many follow."""
    motif = draw_motif(np.random.default_rng(5), 4.0)
    assert len(motif.actions) >= 2
    long, short = choreograph(motif, 96), choreograph(motif, 60)
    np.testing.assert_array_equal(long[0][:59], short[0][:59])
    assert np.abs(np.diff(long[0], axis=0)).max() * 24 < 20
    pelvis = np.linalg.norm(np.diff(long[2][:, :2], axis=0), axis=1) * 24
    assert pelvis.max() < 4.5
    standing = choreograph(motif, 60, reach=0.0)[2]
    np.testing.assert_array_equal(standing[:, :2], 0)
