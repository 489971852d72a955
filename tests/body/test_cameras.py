"""Projection, and the step from a crop's camera to the whole picture's."""

import numpy as np

from champ_jax.body.cameras import hmr2_focal, project, weak_perspective_to_translation


def test_projection_has_x_right_y_down_and_the_middle_at_half_the_size():
    points = np.array([[[0, 0, 2.0], [1, 0, 2.0], [0, 1, 4.0]], [[0, 0, 1.0], [1, 0, 1.0], [0, 1, 1.0]]])
    pixels = project(points, np.array([100.0, 10.0]), np.array([640, 480]))
    np.testing.assert_allclose(pixels[0], [[320, 240], [370, 240], [320, 265]])
    np.testing.assert_allclose(pixels[1], [[320, 240], [330, 240], [320, 250]])


def test_hmr2_focal_follows_the_longer_side():
    assert hmr2_focal([1280, 720]) == 25000.0


def test_crop_camera_puts_the_body_where_the_crop_was():
    """A weak-perspective crop and the whole picture's pinhole agree on points near the body's depth."""
    size, center, box = np.array([1280, 720]), np.array([900.0, 300.0]), 400.0
    camera = np.array([0.9, 0.05, -0.1])
    focal = hmr2_focal(size)
    translation = np.asarray(weak_perspective_to_translation(camera, center, box, focal, size))
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3)) * [1, 1, 0]
    whole = np.asarray(project(points + translation, focal, size))
    # In the crop, [-1, 1] spans the box: x' = s (x + t).
    crop = center + box / 2 * camera[0] * (points[:, :2] + camera[1:])
    np.testing.assert_allclose(whole, crop, atol=0.02)
