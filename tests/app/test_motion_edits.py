"""What edits make of a motion, seen in its projections."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from champ_jax.app.motion_edits import edited_motion
from champ_jax.app.request import FieldError, MotionEdits, built_in_motions
from champ_jax.body.alignment import align
from champ_jax.body.aspect import fit_image_size
from champ_jax.body.cameras import project
from champ_jax.body.mirror import mirror
from champ_jax.body.motion import MEAN_PELVIS, Motion
from champ_jax.body.smpl import load_body

SEEDS = st.integers(0, 5)
SHARES = st.floats(-0.5, 0.5)
SIZE = (320, 240)  # of the random motions


def random_motion(seed: int = 0, keypoints: bool = False, **changes) -> Motion:
    """Six frames; what edits do does not depend on the pose, only a mirror shows whether its sides change."""
    rng = np.random.default_rng(seed)
    fields = {
        "rotations": Rotation.random(6 * 24, rng).as_matrix().reshape(6, 24, 3, 3),
        "betas": rng.normal(size=10),
        "translation": rng.normal(size=(6, 3)) + np.array([0, 0, 40]),
        "focal": 5000.0,
        "image_size": SIZE,
        "fps": 25,
        "body": "open",
        "keypoints": rng.uniform(0, 240, (6, 134, 3)) * [1, 1, 1 / 240] if keypoints else None,
    }
    return Motion.create(**(fields | changes))


def pelvis_pixels(motion: Motion) -> np.ndarray:
    """(T, 2) where the pelvis is in the motion's picture."""
    return np.asarray(project(motion.translation + np.float32(MEAN_PELVIS[motion.body]), motion.focal, SIZE))


def same(motion: Motion, other: Motion, **tolerance: float) -> None:
    for field in dataclasses.fields(Motion):
        value, expected = getattr(motion, field.name), getattr(other, field.name)
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(value, expected, err_msg=field.name, **tolerance)
        else:
            assert value == expected, field.name


def at_one_depth(motion: Motion) -> Motion:
    """The motion with its pelvis as far away as in the first frame, so that shifts are equal in all frames."""
    translation = motion.translation.copy()
    translation[:, 2] = translation[0, 2]
    return dataclasses.replace(motion, translation=translation)


def test_no_edits_change_nothing():
    motion = random_motion(keypoints=True)
    same(edited_motion(motion, MotionEdits(), SIZE), motion)


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.integers(0, 5), st.integers(1, 6))
def test_trimming_takes_the_frames(seed: int, start: int, length: int):
    motion = random_motion(seed=seed, keypoints=True)
    stop = min(start + length, len(motion))
    same(edited_motion(motion, MotionEdits(start=start, stop=stop), SIZE), motion[start:stop])


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_mirroring_twice_changes_nothing(seed: int):
    motion, edits = random_motion(seed=seed, keypoints=True), MotionEdits(mirror=True)
    once = edited_motion(motion, edits, SIZE)
    same(once, mirror(motion))
    same(edited_motion(once, edits, SIZE), motion, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(SEEDS, SHARES, SHARES)
def test_moving_shifts_what_is_seen_by_shares_of_the_picture(seed: int, x: float, y: float):
    motion = at_one_depth(random_motion(seed=seed))
    moved = edited_motion(motion, MotionEdits(move_x=x, move_y=y), SIZE)
    expected = pelvis_pixels(motion) + np.multiply((x, y), SIZE)
    np.testing.assert_allclose(pelvis_pixels(moved), expected, atol=0.02)


@pytest.mark.parametrize("picture", [(320, 640), (900, 300)])
def test_moves_are_shares_of_a_picture_of_another_aspect(picture: tuple[int, int]):
    """The motion's camera is fitted to the picture as it will be for the animation; there the shift is the share."""
    motion = at_one_depth(random_motion())
    moved = edited_motion(motion, MotionEdits(move_x=0.25, move_y=-0.125), picture)
    size, zoom = fit_image_size(motion.image_size, picture, "crop")
    pelvis = np.float32(MEAN_PELVIS[motion.body])
    before, after = (
        np.asarray(project(one.translation + pelvis, one.focal * np.float32(zoom), size)) for one in (motion, moved)
    )
    np.testing.assert_allclose(
        after - before, np.tile(np.multiply((0.25, -0.125), picture), (len(motion), 1)), atol=0.1
    )
    np.testing.assert_array_equal(moved.image_size, motion.image_size)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.floats(0.2, 5), SHARES)
def test_scaling_scales_what_is_seen_about_the_person(seed: int, scale: float, x: float):
    """The pelvis of the first frame stays; points around it go `scale` times as far, and so does the path."""
    motion = at_one_depth(random_motion(seed=seed))
    scaled = edited_motion(motion, MotionEdits(scale=scale), SIZE)
    center = pelvis_pixels(motion)[0]
    np.testing.assert_allclose(pelvis_pixels(scaled) - center, scale * (pelvis_pixels(motion) - center), atol=0.05)
    around = np.float32([[0.4, -0.9, 0], [-0.3, 0.7, 0]])
    before, after = (
        np.asarray(project(one.translation[0] + np.float32(MEAN_PELVIS["open"]) + around, one.focal[0], SIZE))
        for one in (motion, scaled)
    )
    np.testing.assert_allclose(after - center, scale * (before - center), atol=0.05)
    both = edited_motion(motion, MotionEdits(scale=scale, move_x=x), SIZE)  # the move is not scaled
    np.testing.assert_allclose(pelvis_pixels(both)[0] - center, [x * SIZE[0], 0], atol=0.05)


def test_the_whole_path_is_displaced_by_one_vector():
    """Feet that stand still go on standing still, whatever depth the person has come to."""
    motion = random_motion()
    moved = edited_motion(motion, MotionEdits(move_x=0.3, move_y=0.1, move_depth=2.0, scale=1.5), SIZE)
    shifts = moved.translation - motion.translation
    np.testing.assert_allclose(shifts, np.tile(shifts[0], (len(motion), 1)), atol=1e-5)
    assert shifts[0, 2] == pytest.approx(2.0, abs=1e-5)


def test_the_place_is_that_of_the_first_valid_frame_that_is_kept():
    valid = np.array([True, True, False, True, True, True])
    motion = random_motion(valid=valid)
    moved = edited_motion(motion, MotionEdits(start=2, move_x=0.2), SIZE)
    np.testing.assert_allclose(pelvis_pixels(moved)[1] - pelvis_pixels(motion)[3], [0.2 * SIZE[0], 0], atol=0.02)


def test_a_cameras_path_is_zoomed_along():
    turns = np.tile(np.eye(3), (6, 1, 1))
    motion = random_motion(camera_rotations=turns, camera_focal=np.linspace(4000, 5000, 6))
    scaled = edited_motion(motion, MotionEdits(scale=2.0), SIZE)
    np.testing.assert_allclose(scaled.camera_focal, 2 * motion.camera_focal)
    np.testing.assert_allclose(scaled.focal, 2 * motion.focal)


def test_aligning_comes_after_the_mirror_and_before_the_moves():
    body = load_body(None)
    motion = Motion.load(built_in_motions()["wave"])
    person = Motion.load(built_in_motions()["p00000_m00000"])
    size = tuple(int(side) for side in person.image_size)
    edits = MotionEdits(start=2, stop=9, mirror=True, align=True, move_x=0.1)
    expected = align(mirror(motion[2:9]), person, body, body)
    expected = edited_motion(expected, MotionEdits(move_x=0.1), size)
    same(edited_motion(motion, edits, size, person, body), expected)
    with pytest.raises(TypeError, match="body"):
        edited_motion(motion, edits, size, person)


@pytest.mark.parametrize(
    ("edits", "field", "message"),
    [
        (MotionEdits(start=6), "edits.start", "edits.start=6: the motion has 6 frames, the first is 0 and the last 5"),
        (MotionEdits(start=2, stop=7), "edits.stop", "edits.stop=7: the motion has 6 frames"),
        (
            MotionEdits(start=4),
            "edits.start",
            "edits.start=4: none of the 2 frames that are kept shows the body; keep others",
        ),
        (
            MotionEdits(start=1, move_depth=-10),
            "edits.move_depth",
            "edits.move_depth=-10: brings the person of frame 1 to -9.50 m before the camera; "
            "at least 0.3 m must be left",
        ),
    ],
)
def test_edits_that_leave_nothing_to_draw(edits: MotionEdits, field: str, message: str):
    place = np.tile([0.0, 0.0, 0.5], (6, 1))
    motion = random_motion(translation=place, valid=[True, True, True, True, False, False])
    with pytest.raises(FieldError) as caught:
        edited_motion(motion, edits, SIZE)
    assert caught.value.field == field
    assert str(caught.value) == message
