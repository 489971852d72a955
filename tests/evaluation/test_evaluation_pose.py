"""Key points: what counts as found, how the detector's pictures and points move together, its file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from champ_jax.body.authored import load_authored
from champ_jax.body.measurements import rest_height
from champ_jax.body.motion import Motion, camera_points
from champ_jax.body.smpl import load_body
from champ_jax.common.errors import InputError
from champ_jax.evaluation import keypoint_detector as detector
from champ_jax.evaluation.pose import TruePose, measure_pose, training_digest

T, POINTS = 3, detector.POINTS


@pytest.fixture
def pose():
    """A person of 100 px; two points cannot be seen in the first frame, and none in the last."""
    points = np.random.default_rng(0).uniform(0, 5000, (T, POINTS, 2))  # far apart
    seen = np.ones((T, POINTS), bool)
    seen[0, [3, 9]] = seen[2] = False
    return TruePose(points, seen, np.full(T, 100.0))


def test_points_count_within_a_share_of_the_height(pose):
    near, far = (pose.points + np.array([3.0, down]) for down in (3.9, 4.1))  # 4.92 and 5.08 px away
    assert measure_pose(near, pose)["pck"].mean() == 1
    assert measure_pose(far, pose)["pck"].mean() == 0
    half = np.where(np.arange(POINTS)[:, None] % 2, near, far)
    half[:, [3, 9]] = -1000  # the odd ones; unseen in the first frame
    measured = measure_pose(half, pose)
    np.testing.assert_array_equal(measured["pck"].totals, [10, 10, 0])
    np.testing.assert_array_equal(measured["pck"].weights, [22, 24, 0])
    assert measured["pck_arms"].mean() == pytest.approx(2 / 7)  # of points 3, 4, 6, 7 only 7; 3 is out of sight once
    assert measured["pck_head"].mean() == pytest.approx(4 / 10)


def test_left_and_right_may_be_exchanged_all_at_once(pose):
    mirrored = pose.points[:, list(detector.MIRRORED)]
    assert measure_pose(mirrored, pose)["pck"].mean() == 1
    half = np.where(np.arange(POINTS)[:, None] < 12, mirrored, pose.points)
    assert measure_pose(half, pose)["pck"].mean() < 0.8


def test_the_height_is_the_persons_whatever_the_pose(tmp_path):
    """Against the points of a standing body, projected; and half as tall in a picture half as large."""
    motion = load_authored("wave")[:2]
    keypoints = np.zeros((2, 134, 3), np.float32)
    keypoints[..., :2], keypoints[..., 2] = motion.image_size / 4, 1
    keypoints[1, :5, 2] = 0
    keypoints[1, 5, 0] = -1
    (tmp_path / "v").mkdir()
    Motion(**{**vars(motion), "keypoints": keypoints}).save(tmp_path / "v" / "motion.npz")
    size = tuple(int(side) for side in motion.image_size)
    pose = TruePose.read(tmp_path / "v", size, 2)
    half = TruePose.read(tmp_path / "v", (size[0] // 2, size[1] // 2), 2)
    np.testing.assert_allclose(half.height, pose.height / 2)
    np.testing.assert_allclose(half.points, pose.points / 2)
    np.testing.assert_array_equal(pose.seen.sum(1), [24, 18])
    joints = np.asarray(camera_points(load_body(), motion)[1])
    expected = rest_height(load_body(), motion.betas) * motion.focal / joints[:, 0, 2]
    np.testing.assert_allclose(pose.height, expected, rtol=1e-4)
    with pytest.raises(InputError, match="has 2 frames, not 3"):
        TruePose.read(tmp_path / "v", size, 3)
    motion.save(tmp_path / "v" / "motion.npz")
    if motion.keypoints is None:
        with pytest.raises(InputError, match="has no key points"):
            TruePose.read(tmp_path / "v", size, 2)


def test_a_sharp_map_is_where_its_peak_is():
    maps = np.full((1, POINTS, detector.MAP, detector.MAP), -50.0, np.float32)
    maps[:, :, 8, 20] = 50
    expected = np.array([20.5, 8.5]) / detector.MAP
    np.testing.assert_allclose(detector.places(jnp.asarray(maps))[0], np.tile(expected, (POINTS, 1)), atol=1e-6)


def test_pictures_and_points_are_disturbed_alike():
    """A white dot on black is where the point says, mirrored or not; a left point becomes a right one."""
    count = 32
    rng = np.random.default_rng(0)
    pictures = np.zeros((count, detector.SIDE, detector.SIDE, 3), np.uint8)
    points = np.zeros((count, POINTS, 3), np.float32)
    right, left = 2, 5  # shoulders
    for index, (row, column) in enumerate(rng.integers(20, 44, (count, 2))):
        pictures[index, row : row + 2, column : column + 2] = 255
        points[index, right] = (column + 1) / detector.SIDE, (row + 1) / detector.SIDE, 1
    moved, where = (np.asarray(x) for x in jax.jit(detector._disturbed)(pictures, points, jax.random.key(0)))
    sides = set()
    for picture, point in zip(moved, where):
        scored = np.flatnonzero(point[:, 2])
        assert len(scored) == 1
        sides.add(int(scored[0]))
        light = np.maximum(picture.mean(-1) - 0.12, 0)  # above the noise
        center = [(light.sum(axis) @ (np.arange(detector.SIDE) + 0.5)) / light.sum() for axis in (0, 1)]
        np.testing.assert_allclose(point[scored[0], :2] * detector.SIDE, center, atol=1.0)
    assert sides == {right, left}


def test_a_file_that_holds_no_whole_detector_is_refused(tmp_path):
    path = tmp_path / "detector.safetensors"
    _, parameters = nnx.split(detector.KeypointDetector(nnx.Rngs(0)))
    detector.write(path, parameters, "abc")
    assert detector.load(path).training == detector.trained_on(path) == "abc"
    arrays, metadata = safetensors.numpy.load_file(path), {"kind": detector._KIND, "training": "abc"}
    arrays["heads.bias"][0] = np.nan
    safetensors.numpy.save_file(arrays, path, metadata=metadata)
    with pytest.raises(InputError, match=r"damaged \(heads.bias\)"):
        detector.load(path)
    del arrays["heads.bias"]
    safetensors.numpy.save_file(arrays, path, metadata=metadata)
    with pytest.raises(InputError, match=r"damaged \(heads.bias\)"):
        detector.load(path)
    safetensors.numpy.save_file(arrays, path)
    assert detector.trained_on(path) is None
    with pytest.raises(InputError, match="is not a key point detector"):
        detector.load(path)


@pytest.mark.slow
def test_a_detector_learns_where_a_square_is(tmp_path):
    """Some 60 seconds of processor time; compiling takes a third of it."""
    rng = np.random.default_rng(0)
    middles = rng.integers(10, 54, (300, 2))
    pictures = np.zeros((300, detector.SIDE, detector.SIDE, 3), np.uint8)
    for picture, (row, column) in zip(pictures, middles):
        picture[row - 4 : row + 4, column - 4 : column + 4] = 200
    points = np.ones((300, POINTS, 3), np.float32)
    points[..., :2] = middles[:, None, ::-1] / detector.SIDE
    path = tmp_path / "detector.safetensors"
    made = detector.train(pictures[:250], points[:250], "abc", path, steps=60)
    error = np.abs(made.detect(pictures[250:]) - points[250:, :, :2]).mean()
    assert error * detector.SIDE < 2  # px; guessing the middle gives 11
    np.testing.assert_array_equal(made.detect(pictures), detector.load(path).detect(pictures))


def test_mirroring_twice_changes_nothing():
    mirrored = np.array(detector.MIRRORED)
    np.testing.assert_array_equal(mirrored[mirrored], np.arange(POINTS))


def test_the_digest_notices_motions_pictures_and_steps(tmp_path):
    folder = tmp_path / "a"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "0001.png").write_bytes(b"12")
    (folder / "motion.npz").write_bytes(b"34")
    digests = [training_digest([folder], 1), training_digest([folder], 2)]
    (folder / "motion.npz").write_bytes(b"35")
    digests.append(training_digest([folder], 1))
    (folder / "images" / "0001.png").write_bytes(b"123")
    digests.append(training_digest([folder], 1))
    assert len(set(digests)) == 4
