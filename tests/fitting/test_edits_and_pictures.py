"""Corrections by hand, and the pictures of a fit."""

import json

import numpy as np
import pytest

from champ_jax.body.authored import load_authored
from champ_jax.body.smpl import load_body
from champ_jax.common.errors import InputError
from champ_jax.fitting.edits import apply_edits
from champ_jax.fitting.fit import Fit
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.pictures_of_fit import chart, overlay


def some_keypoints() -> Keypoints:
    points = np.full((4, 134, 3), 0.5)
    points[2] = 0
    return Keypoints.create(points, (64, 48), 24)


def test_edits_change_what_they_name(tmp_path):
    edits = {"frames": {"0": {"4": [31.5, 22], "7": None}, "1": None, "2": {"0": [3, 4]}}}
    (tmp_path / "edits.json").write_text(json.dumps(edits))
    before = some_keypoints()
    after, count = apply_edits(before, tmp_path / "edits.json")
    assert count == 4
    np.testing.assert_array_equal(after.keypoints[0, 4], [31.5, 22, 1])
    assert not after.keypoints[0, 7].any()
    np.testing.assert_array_equal(after.valid, [True, False, True, True])
    assert not after.keypoints[1].any()
    np.testing.assert_array_equal(after.keypoints[2, 0], [3, 4, 1])
    same = np.ones((4, 134), bool)
    same[0, [4, 7]] = same[1] = same[2, 0] = False
    np.testing.assert_array_equal(after.keypoints[same], before.keypoints[same])
    np.testing.assert_array_equal(before.keypoints, some_keypoints().keypoints)


@pytest.mark.parametrize(
    ("edits", "culprit"),
    [
        ([], "frames"),
        ({"frames": []}, "frames"),
        ({"frames": {"9": None}}, "frame 9"),
        ({"frames": {"-1": None}}, "frame -1"),
        ({"frames": {"x": None}}, "frame x"),
        ({"frames": {"0": 3}}, "frame 0"),
        ({"frames": {"0": {"134": None}}}, "point 134"),
        ({"frames": {"0": {"4": [1]}}}, "point 4"),
        ({"frames": {"0": {"4": [1, "a"]}}}, "point 4"),
        ({"frames": {"0": {"4": [1, float("nan")]}}}, "point 4"),
        ({"frames": {"0": {"4": [1, 10**400]}}}, "point 4"),
        ({"frames": {str(frame): None for frame in range(4)}}, "every frame"),
    ],
)
def test_edits_that_cannot_be(tmp_path, edits, culprit):
    (tmp_path / "edits.json").write_text(json.dumps(edits))
    with pytest.raises(InputError) as error:
        apply_edits(some_keypoints(), tmp_path / "edits.json")
    assert str(tmp_path / "edits.json") in str(error.value)
    assert culprit in str(error.value)


def test_pictures():
    motion = load_authored("wave")[:2]
    width, height = motion.image_size.tolist()
    frames = [np.full((height, width, 3), 200, np.uint8)] * 2
    shown = list(overlay(motion, load_body(), frames))
    assert len(shown) == 2
    assert shown[0].shape == (height, width, 3)
    covered = (shown[0] != 200).any(axis=-1).mean()
    assert 0.02 < covered < 0.5
    picture = chart(Fit(motion, np.array([1, 2], np.float32), np.ones((2, 6)), 500.0, np.zeros((2, 24, 3))))
    assert picture.dtype == np.uint8
    assert picture.std() > 10
