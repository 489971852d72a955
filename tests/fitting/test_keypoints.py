"""keypoints.npz: what is written comes back, what means nothing is 0, and bad values are named."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from champ_jax.body.rotations import rotation_about
from champ_jax.common.errors import InputError
from champ_jax.fitting.keypoints import Keypoints


def some_points(frames: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 1, (frames, 134, 3)).astype(np.float32) * [64, 48, 1]


@settings(max_examples=20, deadline=None)
@given(
    scores=arrays(np.float32, (3, 134), elements=st.sampled_from([0.0, 0.5, 1.0])),
    focal=st.none() | st.floats(1, 1e4, width=32),
    fps=st.floats(0.5, 120),
)
def test_round_trip(tmp_path_factory, scores, focal, fps):
    points = some_points()
    points[..., 2] = scores
    points[0, 0, 2] = 1
    points[scores == 0, :2] = np.nan
    points[0, 0, :2] = 7
    made = Keypoints.create(points, (64, 48), fps, focal=focal)
    path = tmp_path_factory.mktemp("keypoints") / "keypoints.npz"
    made.save(path)
    read = Keypoints.load(path)
    for field in dataclasses.fields(Keypoints):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(made, field.name))
    assert np.isfinite(read.keypoints).all()
    assert not read.keypoints[read.keypoints[..., 2] == 0].any()
    np.testing.assert_array_equal(read.valid, (read.keypoints[:, :18, 2] > 0).any(axis=1))
    assert len(read) == 3


def test_invalid_frames_hold_nothing():
    points = some_points()
    points[1] = np.nan
    made = Keypoints.create(points, (64, 48), 25, valid=[True, False, True])
    assert not made.keypoints[1].any()
    np.testing.assert_array_equal(made.valid, [True, False, True])


def test_slices_keep_the_speed():
    turns = np.stack([rotation_about("y", angle) for angle in range(6)])
    made = Keypoints.create(some_points(6), (64, 48), 24, focal=np.arange(1, 7), camera_rotations=turns)
    part = made[1:5:2]
    np.testing.assert_allclose(part.camera_rotations, turns[[1, 3]], atol=1e-6)
    np.testing.assert_array_equal(part.keypoints, made.keypoints[[1, 3]])
    np.testing.assert_array_equal(part.focal, [2, 4])
    assert part.fps == 12


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"keypoints": np.zeros((3, 133, 3))}, "keypoints has shape (3, 133, 3)"),
        ({"keypoints": np.zeros((0, 134, 3))}, "no frames"),
        ({"keypoints": np.zeros((3, 134, 3))}, "no frame is valid"),
        ({"keypoints": np.float32(3)}, "keypoints has shape ()"),
        ({"keypoints": "text"}, "keypoints holds text"),
        ({"image_size": (0, 48)}, "image_size"),
        ({"image_size": (64, 48, 3)}, "image_size"),
        ({"fps": 0}, "fps"),
        ({"fps": np.nan}, "fps"),
        ({"focal": [1.0, 2.0]}, "focal has shape (2,)"),
        ({"focal": -1}, "focal"),
        ({"valid": [True]}, "valid has shape (1,)"),
        ({"camera_rotations": np.tile(np.eye(3), (3, 1, 1))}, "has camera_rotations without focal; they go together"),
        ({"camera_rotations": np.zeros((3, 3, 3)), "focal": 60}, "frame 0: camera_rotations is not a rotation"),
        ({"camera_rotations": np.eye(3), "focal": 60}, "camera_rotations has shape (3, 3)"),
    ],
)
def test_bad_values_are_named(changes, culprit):
    good = {"keypoints": some_points(), "image_size": (64, 48), "fps": 24}
    with pytest.raises(InputError) as error:
        Keypoints.create(**good | changes, source="k.npz")
    assert str(error.value).startswith("k.npz: ")
    assert culprit in str(error.value)


def test_bad_points_name_their_frame():
    points = some_points()
    points[2, 5, 0] = np.inf
    with pytest.raises(InputError, match="frame 2"):
        Keypoints.create(points, (64, 48), 24)
    points = some_points()
    points[1, 9, 2] = -0.5
    with pytest.raises(InputError, match=r"frame 1: the score of key point 9 is -0\.5"):
        Keypoints.create(points, (64, 48), 24)


def test_files_that_are_something_else(tmp_path):
    np.savez(tmp_path / "other.npz", rotations=np.zeros(3))
    with pytest.raises(InputError, match=r"other\.npz: is not a keypoints\.npz, it lacks fps, image_size, keypoints"):
        Keypoints.load(tmp_path / "other.npz")
    np.save(tmp_path / "lone.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"lone\.npy: is not a keypoints\.npz"):
        Keypoints.load(tmp_path / "lone.npy")
