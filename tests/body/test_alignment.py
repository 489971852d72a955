"""Alignment: shape, poses and framing as promised, on small random bodies and through the tool."""

import dataclasses

import numpy as np
import pytest
from bodies import random_body
from motions import random_motion

from champ_jax.body.alignment import AlignOptions, align, frames_outside
from champ_jax.body.aspect import fit_image_size
from champ_jax.body.cameras import project
from champ_jax.body.measurements import lowest_points, rest_height, rest_pelvis
from champ_jax.body.mirror import mirror, mirrored_keypoints
from champ_jax.body.motion import camera_points
from champ_jax.body.rotations import rotation_about
from champ_jax.body.smpl import body_keypoints, load_body
from champ_jax.common.errors import InputError


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """A driver's body and one 1.4 times as large, of the same proportions."""
    folder = tmp_path_factory.mktemp("bodies")
    arrays = random_body(40, seed=5)
    arrays |= {
        "space": np.array("open"),
        "face_vertices": np.arange(5)[:, None],
        "face_weights": np.ones((5, 1)),
        "posedirs": np.zeros((40, 3, 0)),
        "shapedirs": np.zeros((40, 3, 10)),
    }
    np.savez(folder / "small.npz", **arrays)
    np.savez(folder / "large.npz", **(arrays | {"v_template": 1.4 * arrays["v_template"]}))
    return load_body(folder / "small.npz"), load_body(folder / "large.npz")


@pytest.fixture
def driver():
    return random_motion(5, seed=1, keypoints=True, betas=np.zeros(10), focal=6250.0)


@pytest.fixture
def reference():
    motion = random_motion(2, seed=2, betas=np.zeros(10), image_size=[200, 300], focal=5000 / 256 * 300, fps=10)
    return dataclasses.replace(motion, valid=np.array([False, True]))


def pelvis(body, motion):
    return motion.translation + rest_pelvis(body, motion.betas)


def test_equation_3_and_the_default_framing(bodies, driver, reference):
    small, large = bodies
    aligned = align(driver, reference, small, large)
    np.testing.assert_array_equal(aligned.rotations, driver.rotations)  # theta of the driver
    np.testing.assert_array_equal(aligned.betas, reference.betas)  # beta of the reference
    np.testing.assert_array_equal(aligned.keypoints, driver.keypoints)
    assert aligned.image_size.tolist() == [200, 300]
    np.testing.assert_allclose(aligned.focal, reference.focal[1])
    assert aligned.fps == driver.fps
    # The path, 1.4 times as long, from the place of the reference (its first valid frame).
    assert rest_height(large, reference.betas) / rest_height(small, driver.betas) == pytest.approx(1.4, rel=1e-5)
    place = pelvis(large, reference)[1]
    walked = pelvis(small, driver) - pelvis(small, driver)[0]
    np.testing.assert_allclose(pelvis(large, aligned)[:, [0, 2]], (place + 1.4 * walked)[:, [0, 2]], atol=1e-4)
    # Feet: the lowest vertex stands where the reference's does, and rises 1.4 times as far as the driver's.
    feet = np.asarray(camera_points(large, aligned)[0])[..., 1].max(axis=1)
    driver_feet = np.asarray(camera_points(small, driver)[0])[..., 1].max(axis=1)
    ground = np.asarray(camera_points(large, reference)[0])[1, :, 1].max()
    np.testing.assert_allclose(feet, ground + 1.4 * (driver_feet - driver_feet[0]), atol=1e-4)


def test_without_ground_contact_the_pelvis_follows(bodies, driver, reference):
    small, large = bodies
    aligned = align(driver, reference, small, large, AlignOptions(ground_contact=False, scale=0.5, anchor=3))
    walked = pelvis(small, driver) - pelvis(small, driver)[3]
    np.testing.assert_allclose(pelvis(large, aligned), pelvis(large, reference)[1] + 0.5 * walked, atol=1e-4)


def test_longer_legs_keep_their_contact_on_the_open_body():
    """A squat: the feet stay on the floor for a taller person too, where the pelvis alone would sink or float."""
    body = load_body()
    count = 4
    rotations = np.tile(np.eye(3), (count, 24, 1, 1))
    rotations[:, 0] = rotation_about("x", np.pi)
    for frame, bend in enumerate(np.linspace(0, 1.6, count)):
        rotations[frame, [1, 2]], rotations[frame, [4, 5]] = rotation_about("x", -bend / 2), rotation_about("x", bend)
        rotations[frame, [7, 8]] = rotation_about("x", -bend / 2)
    driver = random_motion(
        count, rotations=rotations, betas=np.zeros(10), translation=np.tile([0, 0, 40.0], (count, 1))
    )
    driver.translation[:, 1] = 1 - lowest_points(body, driver)
    tall = random_motion(1, rotations=rotations[:1], betas=np.eye(10)[0] * 2, translation=[[0.3, 0, 30.0]])
    aligned = align(driver, tall, body, body)
    feet = pelvis(body, aligned)[:, 1] + lowest_points(body, aligned)
    np.testing.assert_allclose(feet, feet[0], atol=1e-4)
    floating = align(driver, tall, body, body, AlignOptions(ground_contact=False, scale=1.0))
    assert np.ptp(pelvis(body, floating)[:, 1] + lowest_points(body, floating)) > 0.02
    np.testing.assert_allclose(camera_points(body, aligned)[0][0], camera_points(body, tall)[0][0], atol=1e-4)


def test_apparent_depth_keeps_how_large_the_driver_looks(bodies, driver, reference):
    """The same pictures taken with half the focal length at half the distance give the same aligned motion."""
    small, large = bodies
    near = dataclasses.replace(driver, focal=driver.focal / 2, translation=driver.translation * [1, 1, 0.5])
    near.translation[:, 2] -= 0.5 * rest_pelvis(small, driver.betas)[2]  # the pelvis, not the origin, is at half
    options = AlignOptions(ground_contact=False)
    far = align(driver, reference, small, large, options)
    np.testing.assert_allclose(align(near, reference, small, large, options).translation, far.translation, atol=1e-3)
    metric = align(near, reference, small, large, dataclasses.replace(options, depth="metric"))
    assert np.abs(metric.translation[:, 2] - far.translation[:, 2]).max() > 0.1


def test_reference_parity_drops_the_global_motion(bodies, driver, reference):
    aligned = align(driver, reference, *bodies, AlignOptions(camera="reference_parity"))
    np.testing.assert_allclose(aligned.translation, np.tile(reference.translation[1], (5, 1)), atol=1e-5)
    np.testing.assert_allclose(aligned.focal, reference.focal[1])
    np.testing.assert_array_equal(aligned.rotations, driver.rotations)


@pytest.mark.parametrize("fit", ["crop", "pad", "none"])
def test_the_drivers_camera_in_the_references_aspect(bodies, driver, reference, fit):
    small = bodies[0]
    aligned = align(driver, reference, small, small, AlignOptions(camera="driver", fit=fit, ground_contact=False))
    np.testing.assert_allclose(aligned.translation, driver.translation, atol=1e-4)
    # 320x240 into 200x300: cropping fills the height (300/240), padding the width (200/320).
    zoom = {"crop": 1.25, "pad": 0.625, "none": 1.0}[fit]
    size = [320, 240] if fit == "none" else [200, 300]
    assert aligned.image_size.tolist() == size
    points = np.asarray(camera_points(small, driver)[0])
    before = np.asarray(project(points, driver.focal, driver.image_size)) - driver.image_size / 2
    after = np.asarray(project(points, aligned.focal, aligned.image_size)) - aligned.image_size / 2
    np.testing.assert_allclose(after, zoom * before, rtol=1e-4, atol=1e-3)


def test_fit_of_equal_sizes_changes_nothing():
    for fit in ("crop", "pad"):
        size, zoom = fit_image_size(np.array([640, 480]), np.array([320, 240]), fit)
        assert (size.tolist(), zoom) == ([320, 240], 0.5)


def test_another_camera_turns_the_whole_motion_about_the_start(bodies, driver, reference):
    small, large = bodies
    straight = align(driver, reference, small, large)
    turned = align(driver, reference, small, large, AlignOptions(turn=90.0, tilt=20.0))
    turn = rotation_about("x", np.radians(20)) @ rotation_about("y", np.radians(90))
    before, after = (np.asarray(camera_points(large, motion)[0]) for motion in (straight, turned))
    center = pelvis(large, straight)[0]
    np.testing.assert_allclose(after - center, (before - center) @ turn.T, atol=2e-4)


def test_identity_alignment_gives_the_driver_back(bodies, driver):
    small, _ = bodies
    again = align(driver, driver, small, small)
    np.testing.assert_allclose(again.translation, driver.translation, atol=1e-4)
    np.testing.assert_array_equal(again.rotations, driver.rotations)


def test_mirror_is_the_picture_turned_over():
    """On a body that is its own mirror image, a mirrored motion gives the mirrored points; twice gives the motion."""
    motion = random_motion(3, keypoints=True, betas=np.zeros(10))
    body = load_body()
    other = mirror(motion)
    points, mirrored = (
        np.asarray(body_keypoints(body, *camera_points(body, dataclasses.replace(m, keypoints=None))))
        for m in (motion, other)
    )
    order = mirrored_keypoints()
    np.testing.assert_allclose(mirrored * [-1, 1, 1], points[:, order[:18]], atol=5e-3)
    np.testing.assert_array_equal(np.sort(order), np.arange(134))
    np.testing.assert_array_equal(order[order], np.arange(134))
    twice = mirror(other)
    np.testing.assert_allclose(twice.keypoints, motion.keypoints, atol=1e-4)
    np.testing.assert_array_equal(twice.rotations, motion.rotations)
    assert (order[24:92] - 24)[[0, 8, 17, 21, 27, 36, 39, 48, 60, 66]].tolist() == [
        16,
        8,
        26,
        22,
        27,
        45,
        42,
        54,
        64,
        66,
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (AlignOptions(camera="side"), "camera=side: expected reference, driver or reference_parity"),
        (AlignOptions(scale="legs"), "scale=legs"),
        (AlignOptions(scale=float("nan")), "scale=nan"),
        (AlignOptions(anchor=9), "anchor=9: is not a valid frame of the driving motion, which has 5"),
        (AlignOptions(scale=-100.0), r"frame \d: the aligned body would come -?\d+\.\d\d m before the camera"),
    ],
)
def test_bad_choices(bodies, driver, reference, options, message):
    driver.translation[:, 2] = 40 + np.array([0, 1, -1, 0, 0])
    with pytest.raises(InputError, match=message):
        align(driver, reference, *bodies, options)


def test_spaces_do_not_mix(bodies, driver, reference):
    with pytest.raises(InputError, match="betas do not carry over"):
        align(dataclasses.replace(driver, body="smpl"), reference, *bodies)
    with pytest.raises(InputError, match="betas do not carry over"):
        align(driver, dataclasses.replace(reference, body="smpl"), *bodies)


def test_frames_outside_the_picture_are_found(bodies, driver):
    driver.translation[:] = [0, 0, 40]
    driver.translation[2, 0] = 20
    assert frames_outside(bodies[0], driver).tolist() == [False, False, True, False, False]
