"""Smoothing: no delay, no drift off SO(3), nothing lost where nothing shakes; gaps and frame rates."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from motions import random_motion
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation, Slerp

from champ_jax.body.interpolation import fill_gaps, resample
from champ_jax.body.rotations import rotation_error
from champ_jax.body.smoothing import smooth
from champ_jax.common.errors import InputError


def steady(frames, speed, seed=0):
    """Constant velocity: rotations turn at `speed` radians a frame about random axes, the body walks a line."""
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(24, 3))
    axes *= speed / np.linalg.norm(axes, axis=1, keepdims=True)
    start = Rotation.random(24, random_state=seed)
    rotations = [(start * Rotation.from_rotvec(axes * t)).as_matrix() for t in range(frames)]
    walk = np.array([0, 0, 40.0]) + np.arange(frames)[:, None] * rng.normal(size=3) * 0.1
    return random_motion(frames, rotations=np.array(rotations), translation=walk)


@given(st.floats(0, 2.0), st.floats(0, 4), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_constant_velocity_is_unchanged(speed, strength, frames):
    motion = steady(frames, speed)
    smoothed = smooth(motion, strength)
    np.testing.assert_allclose(smoothed.rotations, motion.rotations, atol=2e-5)
    np.testing.assert_allclose(smoothed.translation, motion.translation, atol=2e-5)


@given(st.integers(0, 1000), st.floats(0.1, 4))
@settings(max_examples=25, deadline=None)
def test_stays_in_so3_and_has_no_direction_in_time(seed, strength):
    motion = random_motion(9, seed=seed)
    smoothed = smooth(motion, strength)
    assert rotation_error(smoothed.rotations.astype(np.float64)).max() < 1e-6
    backward = smooth(motion[::-1], strength)[::-1]
    np.testing.assert_allclose(smoothed.rotations, backward.rotations, atol=1e-5)
    np.testing.assert_allclose(smoothed.translation, backward.translation, atol=1e-5)


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.5])
def test_is_a_gaussian_of_that_many_frames_with_no_delay(strength):
    frames = 61
    impulse = np.zeros((frames, 3))
    impulse[30, 0] = 1
    turns = np.zeros((frames, 24, 3))
    turns[30, :, 1] = 0.01
    motion = random_motion(
        frames,
        translation=impulse + np.array([0, 0, 40]),
        rotations=Rotation.from_rotvec(turns.reshape(-1, 3)).as_matrix().reshape(frames, 24, 3, 3),
    )
    smoothed = smooth(motion, strength)
    response = smoothed.translation[:, 0]
    assert response.argmax() == 30
    time = np.arange(frames) - 30
    assert np.sum(response) == pytest.approx(1, abs=1e-5)
    assert np.sqrt(np.sum(response * time**2)) == pytest.approx(strength, rel=1e-3)
    expected = gaussian_filter1d(impulse[:, 0], strength, truncate=8)
    np.testing.assert_allclose(response, expected, atol=0.09 if strength < 1 else 0.03)
    angles = Rotation.from_matrix(smoothed.rotations[:, 3]).as_rotvec()[:, 1]
    np.testing.assert_allclose(angles / 0.01, response, atol=1e-3)


def test_takes_the_shaking_out():
    rng = np.random.default_rng(0)
    motion = steady(40, 0.05)
    shake = Rotation.from_rotvec(rng.normal(size=(40 * 24, 3)) * 0.05).as_matrix().reshape(40, 24, 3, 3)
    shaken = dataclasses.replace(motion, rotations=(motion.rotations @ shake).astype(np.float32))

    def error(other):
        turns = np.swapaxes(motion.rotations, -1, -2) @ other.rotations
        return np.linalg.norm(Rotation.from_matrix(turns[3:-3].reshape(-1, 3, 3)).as_rotvec(), axis=1).mean()

    assert error(smooth(shaken, 2.0)) < 0.5 * error(shaken)


def test_rounded_rotations_come_out_as_rotations_and_invalid_frames_are_not_neighbors():
    motion = steady(9, 0.1)
    rounded = dataclasses.replace(motion, rotations=np.round(motion.rotations, 2), valid=np.arange(9) != 4)
    rounded.rotations[4] = np.nan
    smoothed = smooth(rounded, 1.0)
    good = smoothed.rotations[rounded.valid].astype(np.float64)
    assert rotation_error(good).max() < 1e-6
    np.testing.assert_allclose(good, motion.rotations[rounded.valid], atol=0.02)
    assert np.isnan(smoothed.rotations[4]).all()


def test_keypoints_smooth_among_visible_ones():
    motion = random_motion(5, keypoints=True)
    motion.keypoints[..., 2] = 1
    motion.keypoints[2, 7, 2] = 0.1
    smoothed = smooth(motion, 1.0)
    np.testing.assert_array_equal(smoothed.keypoints[..., 2], motion.keypoints[..., 2])
    np.testing.assert_array_equal(smoothed.keypoints[:, 7], motion.keypoints[:, 7])
    assert (smoothed.keypoints[1:4, 8, :2] != motion.keypoints[1:4, 8, :2]).all()


@pytest.mark.parametrize("strength", [-1.0, np.nan, np.inf])
def test_bad_strength(strength):
    with pytest.raises(InputError, match=r"smooth=.* from 0 to 50"):
        smooth(random_motion(), strength)


def test_zero_strength_changes_nothing():
    motion = random_motion()
    assert smooth(motion, 0) is motion


def test_short_gaps_are_filled_by_slerp_and_all_are_reported():
    motion = random_motion(12, keypoints=True)
    invalid = [0, 3, 4, 7, 8, 9, 11]
    motion.rotations[invalid] = np.nan
    motion.translation[invalid] = np.nan
    motion = dataclasses.replace(motion, valid=~np.isin(np.arange(12), invalid))
    filled, lines = fill_gaps(motion, 2)
    assert lines == [
        "frame 0: left invalid, no frame on one side",
        "frames 3 to 4: filled",
        "frames 7 to 9: left invalid, longer than 2",
        "frame 11: left invalid, no frame on one side",
    ]
    filled.validate()
    np.testing.assert_array_equal(np.flatnonzero(~filled.valid), [0, 7, 8, 9, 11])
    path = Slerp([2, 5], Rotation.from_matrix(motion.rotations[[2, 5], 6]))
    np.testing.assert_allclose(filled.rotations[3:5, 6], path([3, 4]).as_matrix(), atol=1e-5)
    third = motion.translation[2] + (motion.translation[5] - motion.translation[2]) / 3
    np.testing.assert_allclose(filled.translation[3], third, atol=1e-5)
    scores = np.minimum(motion.keypoints[2, :, 2], motion.keypoints[5, :, 2])
    np.testing.assert_array_equal(filled.keypoints[3, :, 2], scores)
    np.testing.assert_array_equal(filled.rotations[motion.valid], motion.rotations[motion.valid])
    assert fill_gaps(random_motion(), 3)[1] == []
    with pytest.raises(InputError, match="fill_gaps=-1"):
        fill_gaps(motion, -1)


def test_resample_keeps_the_motion_in_seconds():
    motion = dataclasses.replace(steady(13, 0.2), fps=24.0)
    twice = resample(motion, 48)
    assert len(twice) == 25
    np.testing.assert_allclose(twice.rotations[::2], motion.rotations, atol=1e-5)
    np.testing.assert_allclose(resample(twice, 24).rotations, motion.rotations, atol=1e-5)
    third = resample(motion, 16)
    assert len(third) == 9
    assert third.fps == 16
    np.testing.assert_allclose(third.translation[2], motion.translation[3], atol=1e-5)
    gap = dataclasses.replace(motion, valid=np.arange(13) != 3)
    np.testing.assert_array_equal(np.flatnonzero(~resample(gap, 48).valid), [5, 6, 7])
    with pytest.raises(InputError, match="fps"):
        resample(motion, 0)
