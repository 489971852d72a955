"""The path of a camera that turns, as an optional part of a motion: its file, its bad values, and who keeps it."""

import numpy as np
import pytest
from bodies import random_rotations
from motions import random_motion

from champ_jax.body.alignment import AlignOptions, align
from champ_jax.body.camera_path import through_camera
from champ_jax.body.cameras import project
from champ_jax.body.importers import import_motion
from champ_jax.body.interpolation import fill_gaps, resample
from champ_jax.body.mirror import mirror
from champ_jax.body.motion import Motion, camera_points
from champ_jax.body.rotations import rotation_about
from champ_jax.body.smoothing import smooth
from champ_jax.body.smpl import load_body
from champ_jax.common.errors import InputError

FRAMES = 6


def turning(**changes) -> Motion:
    """A motion before a camera that turns by 5 degrees a frame and zooms."""
    path = np.stack([rotation_about("y", np.radians(-5 * frame)) for frame in range(FRAMES)])
    focal = 5000.0 * 1.02 ** np.arange(FRAMES)
    return random_motion(FRAMES, **({"camera_rotations": path, "camera_focal": focal, "betas": np.zeros(10)} | changes))


def test_survives_its_file_and_slices(tmp_path):
    motion = turning()
    motion.save(tmp_path / "motion.npz")
    loaded = Motion.load(tmp_path / "motion.npz")[1:5:2]
    np.testing.assert_array_equal(loaded.camera_rotations, motion.camera_rotations[[1, 3]])
    np.testing.assert_array_equal(loaded.camera_focal, motion.camera_focal[[1, 3]])
    assert loaded.camera_focal.dtype == loaded.camera_rotations.dtype == np.float32
    still = random_motion()
    assert still[::2].camera_rotations is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"camera_focal": None}, "has camera_rotations without camera_focal"),
        ({"camera_rotations": None}, "has camera_focal without camera_rotations"),
        ({"camera_rotations": np.eye(3)}, r"camera_rotations has shape \(3, 3\), it should be \(6, 3, 3\)"),
        ({"camera_rotations": -np.tile(np.eye(3), (6, 1, 1))}, "frame 0: camera_rotations is not a rotation"),
        ({"camera_focal": np.array([1, 1, 0, 1, 1, 1.0])}, "frame 2: camera_focal holds 0"),
        # Of frames that do not show the body, too: the camera's path is known in all of them.
        ({"camera_focal": np.array([1, np.nan, 1, 1, 1, 1.0]), "valid": np.arange(6) != 1}, "frame 1: camera_focal is"),
        (
            {"camera_rotations": np.full((6, 3, 3), np.nan), "valid": np.arange(6) == 5},
            "frame (0|5): camera_rotations (is not a rotation|holds a number)",
        ),
    ],
)
def test_bad_paths_are_named(tmp_path, change, message):
    fields = {name: value for name, value in vars(turning()).items() if value is not None} | change
    np.savez(tmp_path / "bad.npz", **{name: value for name, value in fields.items() if value is not None})
    with pytest.raises(InputError, match=f"bad.npz: {message}"):
        Motion.load(tmp_path / "bad.npz")


def test_the_camera_sees_what_its_rotation_says():
    """A point x of the world is at R x before the camera; the body is posed through the rotated root to the same."""
    body, motion = load_body(), turning()
    seen = through_camera(motion, body)
    world, own = (np.asarray(camera_points(body, one)[1]) for one in (motion, seen))
    np.testing.assert_allclose(own, np.einsum("tab,tjb->tja", motion.camera_rotations, world), atol=1e-4)
    np.testing.assert_array_equal(seen.focal, motion.camera_focal)
    assert seen.camera_rotations is None
    assert seen.camera_focal is None
    flat = np.asarray(project(own, seen.focal, seen.image_size))
    assert np.ptp(flat[:, 0, 0]) > 500  # a camera that turns by 25 degrees moves the picture
    still = random_motion()
    assert through_camera(still, body) is still


def test_a_mirror_turns_the_path_over():
    """The mirrored motion through its mirrored camera is the mirror of what the camera saw."""
    body, motion = load_body(), turning(camera_rotations=random_rotations((FRAMES,), 3))
    one, other = through_camera(mirror(motion), body), mirror(through_camera(motion, body))
    np.testing.assert_allclose(one.translation, other.translation, atol=5e-3)
    np.testing.assert_allclose(one.rotations, other.rotations, atol=1e-5)
    np.testing.assert_allclose(mirror(mirror(motion)).camera_rotations, motion.camera_rotations)


def test_resampled_with_the_motion():
    motion = turning(valid=np.arange(FRAMES) != 2)
    twice = resample(motion, 50)
    np.testing.assert_allclose(twice.camera_rotations[::2], motion.camera_rotations, atol=1e-6)
    np.testing.assert_allclose(twice.camera_rotations[1], rotation_about("y", np.radians(-2.5)), atol=1e-6)
    np.testing.assert_allclose(twice.camera_focal[1::2], (motion.camera_focal[1:] + motion.camera_focal[:-1]) / 2)
    twice.validate()
    one = resample(turning()[:1], 50)
    np.testing.assert_array_equal(one.camera_rotations, motion.camera_rotations[:1])


def test_kept_where_frames_are_filled_and_smoothed():
    motion = turning(valid=np.arange(FRAMES) != 2)
    for other in (fill_gaps(motion, 3)[0], smooth(motion, 1)):
        np.testing.assert_array_equal(other.camera_rotations, motion.camera_rotations)
        np.testing.assert_array_equal(other.camera_focal, motion.camera_focal)
        other.validate()


def test_alignment_keeps_it_in_the_scale_of_the_picture():
    body = load_body()
    driver, reference = turning(translation=np.full((FRAMES, 3), 9.0)), random_motion(1, betas=np.ones(10), focal=1000)
    aligned = align(driver, reference, body, body)
    np.testing.assert_array_equal(aligned.camera_rotations, driver.camera_rotations)
    np.testing.assert_allclose(aligned.camera_focal, driver.camera_focal / 5, rtol=1e-6)
    aligned.validate()
    for options in (AlignOptions(turn=20.0), AlignOptions(camera="reference_parity")):
        other = align(driver, reference, body, body, options)
        assert other.camera_rotations is None
        assert other.camera_focal is None


def test_another_focal_length_given_on_import(tmp_path):
    motion = turning()
    motion.save(tmp_path / "motion.npz")
    again, _ = import_motion(tmp_path / "motion.npz", focal=2500.0)
    np.testing.assert_allclose(again.camera_focal, motion.camera_focal / 2)
    again.validate()
