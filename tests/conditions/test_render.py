"""What `render` accepts and refuses."""

import sys
import warnings

import numpy as np
import pytest

from champ_jax.common.errors import InputError
from champ_jax.conditions.map_renderer import render

# Two triangles, one after the other.
CORNERS = np.array([(-1, -1, 2), (1, -1, 2), (0, 1, 2), (-1, -1, 3), (1, -1, 3), (0, 1, 3)], np.float32)
GOOD = {
    "vertices": CORNERS[None],
    "faces": np.array([[0, 2, 1], [3, 5, 4]]),
    "parts": np.arange(6),
    "focal": 10.0,
    "image_size": [24, 20],
}


def call(**changes) -> dict[str, np.ndarray]:
    return render(**(GOOD | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vertices": CORNERS}, r"vertices have shape \(6, 3\); expected \(frames, vertices, 3\)"),
        ({"vertices": np.zeros((0, 6, 3))}, "the sequence has no frames"),
        ({"vertices": np.zeros((2, 5, 3))}, r"vertices have shape \(2, 5, 3\); expected \(frames, 6, 3\)"),
        ({"vertices": np.stack([CORNERS, CORNERS * np.nan])}, "frame 1: vertices are not finite"),
        ({"vertices": np.stack([CORNERS, -CORNERS])}, "frame 1: the body is behind the camera"),
        ({"vertices": (CORNERS - [[0, 0, 0], [0, 0, 3], *[[0, 0, 0]] * 4])[None]}, "frame 0: the body passes through"),
        ({"faces": np.array([[0, 1, 6]])}, "faces name vertices up to 6, parts describes 6"),
        ({"faces": np.zeros((1, 4), int)}, r"faces has shape \(1, 4\)"),
        ({"faces": np.array([[0.0, 1, 2]])}, "faces holds float64, integers"),
        ({"parts": np.arange(19, 25)}, "parts holds 24, expected a whole number from 0 to 23"),
        ({"parts": np.arange(6.0)}, "parts holds float64, integers"),
        ({"focal": 0.0}, "frame 0: focal is not a positive number"),
        ({"focal": np.array([1.0, np.inf, 2.0])}, r"focal has shape \(3,\)"),
        ({"image_size": [0, 5]}, "image_size holds 0, expected a number from 1"),
        ({"image_size": [5]}, r"image_size has shape \(1,\), it should be \(2,\)"),
        ({"image_size": [65_000, 65_000]}, r"image_size 65000x65000: drawing the maps: needs [0-9.]+ GiB of memory"),
        ({"backend": "opengl"}, "backend=opengl: expected jax or pyrender"),
        ({"maps": ("depth", "normals")}, "maps=depth,normals: normals: expected depth"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(InputError, match=message):
        call(**changes)


def test_pyrender_that_is_not_installed_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrender", None)
    with pytest.raises(InputError, match=r"'pyrender' cannot start \(.*\); pip install 'champ_jax\[pyrender\]'"):
        call(backend="pyrender")


def test_the_default_needs_no_opengl(monkeypatch):
    for name in ("pyrender", "OpenGL"):
        monkeypatch.setitem(sys.modules, name, None)
    assert call()["mask"].any()


def test_a_body_outside_the_frame_is_empty_and_said():
    aside = CORNERS + np.array([50, 0, 0], np.float32)
    with pytest.warns(UserWarning, match="frame 1: the body is outside the picture, the maps are empty"):
        drawn = call(vertices=np.stack([CORNERS, aside]))
    for images in drawn.values():
        assert images[0].any()
        assert not images[1].any()


def test_a_triangle_behind_the_camera_but_out_of_view_is_left_out():
    vertices = CORNERS.copy()
    vertices[3:] = (50, 0, 1), (50.01, 0, -1), (50, 0.01, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = call(vertices=vertices[None])
    np.testing.assert_array_equal(drawn["mask"], call()["mask"])


def test_only_the_maps_asked_for_are_drawn():
    every, some = call(), call(maps=("depth", "normal"))
    assert list(some) == ["depth", "normal"]
    np.testing.assert_array_equal(some["normal"], every["normal"])


def test_focal_lengths_may_differ_by_frame_and_axis():
    drawn = call(vertices=np.stack([CORNERS] * 2), focal=np.array([[10, 10], [5, 10]], np.float32))["mask"]
    np.testing.assert_array_equal(drawn[0], call()["mask"][0])
    widths = np.ptp(np.nonzero(drawn[0])[1]) + 1, np.ptp(np.nonzero(drawn[1])[1]) + 1
    assert abs(widths[0] - 2 * widths[1]) <= 2
