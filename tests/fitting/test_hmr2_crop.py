"""HMR 2.0's crop against a program that goes pixel by pixel as OpenCV documents it, and the crops' cameras."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate1d
from scipy.spatial.transform import Rotation

from champ_jax.body.cameras import hmr2_focal, project
from champ_jax.fitting.hmr2.crop import Square, crop
from champ_jax.fitting.hmr2.network import Body, normalize
from champ_jax.fitting.hmr2.predict import Predictions, person_boxes
from champ_jax.fitting.keypoints import Keypoints

# Left, top, right, bottom in a picture of 200x150: inside of it and enlarged, leaving it on all sides and blurred,
# wide, tall, outside.
BOXES = (
    (40.0, 30.0, 90.0, 110.0),
    (-150.0, -220.0, 320.5, 370.25),
    (-30.25, 60.0, 170.75, 100.0),
    (110.1, -20.3, 140.7, 149.9),
    (300.0, 300.0, 340.0, 390.0),
)


def picture(height: int = 150, width: int = 200) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def square_of(box) -> tuple[np.ndarray, float]:
    corners = np.array(box, np.float32)
    width, height = (corners[2:] - corners[:2]) / np.float32(200) * np.float32(200)
    if height / width < 256 / 192:
        height = width.astype(np.float64) * 256 / 192
    else:
        width = height.astype(np.float64) * 192 / 256
    return (corners[:2] + corners[2:]) / np.float32(2), float(max(width, height))


def reference(pixels: np.ndarray, box) -> np.ndarray:
    """The crop as 4D-Humans makes it: the whole picture is blurred, and OpenCV's fixed-point warp written out."""
    center, side = square_of(box)
    factor = side / 256 / 2
    if factor > 1.1:
        sigma = (factor - 1) / 2
        radius = int(4 * sigma + 0.5)
        kernel = np.exp(-0.5 * np.arange(-radius, radius + 1) ** 2 / sigma**2)
        for axis in (0, 1):
            pixels = correlate1d(pixels.astype(np.float64), kernel / kernel.sum(), axis, mode="nearest")
    half = np.float32(side * 0.5)
    ends = np.array([center, center + np.float32([0, half]), center + np.float32([half, 0])], np.float32)
    there = cv2.getAffineTransform(ends, np.float32([[128, 128], [128, 256], [256, 128]]))
    back = cv2.invertAffineTransform(there)
    result = np.zeros((256, 256, 3))
    u, v = np.meshgrid(np.arange(256), np.arange(256))
    x = (np.rint((back[0, 1] * v + back[0, 2]) * 1024) + 16 + np.rint(back[0, 0] * u * 1024)).astype(int) >> 5
    y = (np.rint((back[1, 1] * v + back[1, 2]) * 1024) + 16 + np.rint(back[1, 0] * u * 1024)).astype(int) >> 5
    for right in (0, 1):
        for down in (0, 1):
            column, row = (x >> 5) + right, (y >> 5) + down
            inside = (column >= 0) & (column < pixels.shape[1]) & (row >= 0) & (row < pixels.shape[0])
            taken = pixels[np.where(inside, row, 0), np.where(inside, column, 0)] * inside[..., None]
            across, along = (x & 31) / 32, (y & 31) / 32
            weight = (across if right else 1 - across) * (along if down else 1 - along)
            result += weight[..., None] * taken
    return result if factor > 1.1 else np.floor(result + 0.5)


@pytest.mark.parametrize("box", BOXES)
def test_crops_are_those_of_the_reference(box):
    square = Square.around(box)
    center, side = square_of(box)
    np.testing.assert_array_equal(square.center, center)
    assert square.side == side
    ours, theirs = crop(picture(), square), reference(picture(), box)
    assert ours.dtype == np.float32
    assert (np.abs(ours - theirs) > 1e-4).mean() < 1e-3  # a place in the middle of two 1024ths may go either way
    np.testing.assert_allclose(ours, theirs, atol=6)
    assert theirs.any() == (box[0] < 200)
    # What OpenCV itself gives; from version 5 on it does not round places.
    if side / 512 < 1.1:
        half = side / 2
        ends = center + np.float32([[0, 0], [0, half], [half, 0]])
        there = cv2.getAffineTransform(ends, np.float32([[128, 128], [128, 256], [256, 128]]))
        theirs = cv2.warpAffine(picture(), there, (256, 256), flags=cv2.INTER_LINEAR)
        assert np.abs(ours - theirs).mean() < 0.3


@settings(max_examples=15, deadline=None)
@given(st.floats(-300, 300), st.floats(-300, 300), st.floats(1, 1e5), st.floats(1, 900))
def test_any_box_gives_a_crop(left, top, width, height):
    square = Square.around([left, top, left + width, top + height])
    seen = crop(picture(30, 40), square)
    assert seen.shape == (256, 256, 3)
    assert seen.min() >= 0
    assert seen.max() <= 255


def test_normalization_is_that_of_imagenet():
    means = 255 * np.array([0.485, 0.456, 0.406])
    np.testing.assert_allclose(normalize(means[None, None]), np.zeros((1, 1, 3)), atol=1e-5)
    one = np.asarray(normalize(np.full((1, 1, 3), 255, np.uint8)))[0, 0]
    np.testing.assert_allclose(one, (1 - means / 255) / [0.229, 0.224, 0.225], rtol=1e-5)


def predictions(camera, center, side: float, size) -> Predictions:
    root = Rotation.from_rotvec([2.9, 0.2, 0.3]).as_matrix()
    rotations = np.concatenate([root[None, None], np.tile(np.eye(3), (1, 23, 1, 1))], axis=1)
    body = Body(rotations, np.ones((1, 10)), np.array([camera]))
    return Predictions(body, np.array([center]), np.array([side]), np.ones(1, bool), np.array(size))


def test_the_whole_camera_sees_what_the_crop_shows():
    """Points of a flat body project to where the crop's camera puts them, at HMR2's own focal length and a short one.

    A short lens sees nearer parts larger: what is off is less than that, and more without turning the root.
    """
    points = np.random.default_rng(1).normal(0, 0.3, (20, 3))
    camera, center, side, size = np.array([0.9, 0.05, -0.1]), np.array([560.0, 90.0]), 180.0, (640, 480)
    for focal, most in ((hmr2_focal(size), 1.5), (700.0, 12.0)):
        given_ = predictions(camera, center, side, size)
        found = given_.in_picture(np.array([focal]), "smpl")
        in_crop = points @ given_.body.rotations[0, 0].T + [*camera[1:], 2 * 5000 / (256 * camera[0])]
        expected = center + 5000 * in_crop[:, :2] / in_crop[:, 2:] * side / 256
        placed = points @ found.rotations[0, 0].T + found.translation[0]
        missed = np.linalg.norm(np.asarray(project(placed, focal, np.array(size))) - expected, axis=1)
        assert missed.max() < most
    unturned = points @ given_.body.rotations[0, 0].T + found.translation[0]
    without = np.linalg.norm(np.asarray(project(unturned, 700.0, np.array(size))) - expected, axis=1)
    assert missed.mean() < 0.8 * without.mean()


def test_shapes_are_for_smpl_and_pelvises_meet():
    given_ = predictions([0.9, 0, 0], [320.0, 240.0], 200.0, (640, 480))
    focal = np.array([800.0])
    smpl, other = given_.in_picture(focal, "smpl"), given_.in_picture(focal, "open")
    np.testing.assert_array_equal(smpl.betas, np.ones(10))
    assert other.betas is None
    np.testing.assert_allclose(other.translation - smpl.translation, [[-0.0018, -0.2233, 0.0282]], atol=1e-5)
    np.testing.assert_allclose(smpl.rotations[0, 0], given_.body.rotations[0, 0], atol=1e-6)  # looked at straight
    backwards = predictions([-0.9, 0, 0], [320.0, 240.0], 200.0, (640, 480))
    assert not backwards.in_picture(focal, "smpl").usable().any()


def test_boxes_are_around_what_is_seen():
    points = np.zeros((4, 134, 3))
    points[:, :24] = [100, 50, 0.9]
    points[:, 3, :2] = [140, 150]
    points[0, 4] = [900, 900, 0.1]  # a guess
    points[:, 100] = [5, 5, 1]  # a hand's, which the body's points hold already
    points[1, 6:24, 2] = 0
    points[1, 1:3, 2] = 0
    keypoints = Keypoints.create(points, (200, 200), 24, valid=[True, True, False, True])
    keypoints.keypoints[3] = 1
    boxes = person_boxes(keypoints)
    np.testing.assert_allclose(boxes[0], [96, 40, 144, 160])
    assert np.isnan(boxes[1:]).all()
