"""A camera that turns and zooms, from its background: against the path that the pictures were made with."""

import builtins

import numpy as np
import pytest
from panorama import look, path_of, texture, with_person
from PIL import Image

from champ_jax.body.rotations import matrix_to_axis_angle
from champ_jax.common.errors import InputError
from champ_jax.fitting.background import Matches, Pair, match_background
from champ_jax.fitting.camera_motion import camera_path, estimate_camera, people_boxes
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.video import Track

SIZE = 320, 240  # width, height
FOCAL, ASSUMED = 260.0, 480.0
FRAMES = 16
TIME = np.linspace(0, 1, FRAMES)
SURROUNDING = texture()


def pan(degrees: float, start: float = -20.0) -> tuple[np.ndarray, np.ndarray]:
    """World-to-camera rotations of a pan that shakes, and where the first frame looks."""
    path = path_of(degrees * TIME, 2 * np.sin(7 * TIME), 1.5 * np.sin(5 * TIME))
    return path @ path[0].T, path_of([start], [0], [0])[0]


def pictures(rotations, first, focal, boxes=None) -> list[Image.Image]:
    shown = [look(SURROUNDING, turn @ first, length, SIZE) for turn, length in zip(rotations, focal)]
    if boxes is not None:
        shown = [with_person(picture, box, seed) for seed, (picture, box) in enumerate(zip(shown, boxes))]
    rng = np.random.default_rng(0)
    return [Image.fromarray((one + rng.normal(0, 3, one.shape)).clip(0, 255).astype(np.uint8)) for one in shown]


def off_by(path, rotations) -> float:
    """The largest angle between two paths, degrees."""
    between = np.asarray(path.rotations, np.float64) @ rotations.transpose(0, 2, 1)
    return float(np.degrees(np.linalg.norm(matrix_to_axis_angle(between), axis=-1)).max())


@pytest.fixture(scope="module")
def scene():
    """40 degrees and a zoom by half, with somebody in a quarter of the picture."""
    rotations, first = pan(40)
    focal = FOCAL * (1 + 0.5 * TIME)
    left = 100 + 50 * np.sin(6 * TIME)
    boxes = np.stack([left, np.full(FRAMES, 50), left + 90, np.full(FRAMES, 230)], axis=1)
    return rotations, focal, boxes, match_background(pictures(rotations, first, focal, boxes), [boxes])


def test_a_pan_of_40_degrees_with_a_zoom(scene):
    rotations, focal, _, matches = scene
    path, notes = camera_path(matches, FOCAL, ASSUMED)
    np.testing.assert_array_equal(path.rotations[0], np.eye(3))
    assert off_by(path, rotations) < 0.05
    np.testing.assert_allclose(path.focal, focal, rtol=0.002)
    assert path.rotations.dtype == path.focal.dtype == np.float32
    (note,) = notes
    assert "turned by up to 40." in note
    assert "zoomed by 1.50" in note


def test_the_focal_length_by_how_the_background_turns(scene):
    rotations, focal, _, matches = scene
    path, notes = camera_path(matches, None, ASSUMED)
    assert off_by(path, rotations) < 0.5
    np.testing.assert_allclose(path.focal, focal, rtol=0.02)
    assert "px by how the background turned" in notes[1]


def test_points_of_people_tell_nothing(scene):
    """Nothing is matched where the person is, and without the boxes few frames are worse for it."""
    _, _, boxes, matches = scene
    for pair in matches.pairs:
        left, top, right, bottom = boxes[pair.frame] - np.tile(SIZE, 2) / 2
        inside = (pair.after > [left, top]).all(axis=1) & (pair.after < [right, bottom]).all(axis=1)
        assert not inside.any()


def test_a_camera_that_comes_back_finds_its_first_view():
    """Also over views that share too little with the one before to be tracked: 9 degrees a frame."""
    swing = path_of(30 * np.sin(2 * np.pi * TIME), 3 * np.sin(9 * TIME), 0 * TIME)
    matches = match_background(pictures(swing, np.eye(3), np.full(FRAMES, FOCAL)), [])
    path, _ = camera_path(matches, FOCAL, ASSUMED)
    assert off_by(path, swing) < 0.1
    assert len(np.unique(path.focal)) == 1  # what did not zoom has one focal length
    assert 0 in [pair.key for pair in matches.pairs if pair.frame == FRAMES - 1]


def test_a_camera_that_stands_still():
    still = np.tile(np.eye(3), (4, 1, 1))
    path, notes = estimate_camera(pictures(still, np.eye(3), np.full(4, FOCAL)), [], FOCAL, ASSUMED)
    assert path is None
    assert notes == ["the camera stood still"]
    assert estimate_camera([Image.new("RGB", SIZE)], [], None, ASSUMED) == (None, [])


def test_a_background_without_features():
    """Noise that differs from frame to frame is no feature; the line says what was assumed."""
    rng = np.random.default_rng(1)
    blank = [Image.fromarray(rng.normal(120, 3, (240, 320, 3)).clip(0, 255).astype(np.uint8)) for _ in range(5)]
    path, (note,) = estimate_camera(blank, [], None, ASSUMED)
    assert path is None
    assert "shows too little to follow the camera by in 4 of 5 frames; the camera was taken to stand still" in note


def test_frames_without_background_are_interpolated():
    rotations, first = pan(20)
    shown = pictures(rotations, first, np.full(FRAMES, FOCAL))
    for frame in (5, 6):
        shown[frame] = Image.new("RGB", SIZE, "gray")
    path, notes = estimate_camera(shown, [], FOCAL, ASSUMED)
    assert off_by(path, rotations) < 0.5
    assert "in 2 of 16 frames, first in 5, the background shows too little; the camera was interpolated" in notes[-1]


def rays_of(depth: np.ndarray, points: np.ndarray, turn: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Where points (N, 2) px at depths (N,) are seen by a camera that turned and then stands at `moved`."""
    there = np.column_stack([points / FOCAL, np.ones(len(points))]) * depth[:, None]
    own = (there - moved) @ turn.T
    return FOCAL * own[:, :2] / own[:, 2:]


@pytest.mark.parametrize(("moved", "doubtful"), [(0.0, False), (0.5, True)])
def test_a_camera_that_moves_sideways_is_doubted(moved, doubtful):
    """Matches of a background 2 to 8 m away, all of which agree in a homography or not: the rotation alone cannot."""
    rng = np.random.default_rng(2)
    rotations, _ = pan(10)
    points, depth = rng.uniform(-110, 110, (200, 2)), rng.uniform(2, 8, 200)
    pairs = []
    for frame in range(1, FRAMES):
        shift = moved * np.array([frame / FRAMES, 0, 0])
        pairs.append(Pair(0, frame, points, rays_of(depth, points, rotations[frame], shift)))
    known = np.ones(FRAMES, bool)
    path, notes = camera_path(Matches(SIZE, FRAMES, pairs, known, np.ones(FRAMES)), FOCAL, ASSUMED)
    assert any("does not move as before a camera that only turns" in note for note in notes) == doubtful
    assert (off_by(path, rotations) < 1e-3) != doubtful
    few = Matches(SIZE, FRAMES, pairs, known, np.full(FRAMES, 0.4))
    assert any("only 40% of the background moves as one" in note for note in camera_path(few, FOCAL, ASSUMED)[1])


def test_a_zoom_alone_does_not_tell_the_focal_length():
    points = np.random.default_rng(3).uniform(-110, 110, (100, 2))
    pairs = [Pair(0, frame, points, points * (1 + 0.4 * TIME[frame])) for frame in range(1, FRAMES)]
    matches = Matches(SIZE, FRAMES, pairs, np.ones(FRAMES, bool), np.ones(FRAMES))
    path, notes = camera_path(matches, None, ASSUMED)
    assert "turned too little to tell the focal length; 480 px were assumed (--focal=PX)" in notes[1]
    np.testing.assert_allclose(path.focal, ASSUMED * (1 + 0.4 * TIME), rtol=1e-4)


def track(valid, chosen: bool) -> Track:
    points = np.zeros((len(valid), 134, 3))
    points[:, :2] = [[100, 50, 1], [120, 150, 1]]
    points[np.flatnonzero(valid)[-1], :2, 0] += 60
    keypoints = Keypoints.create(points, SIZE, 24, valid)
    boxes = np.where(np.asarray(valid)[:, None], [10.0, 20, 30, 40], np.nan)
    return Track(1, 0, len(valid) - 1, 100.0, boxes, keypoints, np.zeros(64), chosen)


def test_where_people_are():
    chosen, other = people_boxes([track([0, 1, 0, 1, 0], True), track([1, 0, 0, 0, 1], False)])
    assert np.isnan(chosen[[0, 4]]).all()
    np.testing.assert_allclose(chosen[1], [90, 40, 130, 160])  # the points, and a tenth of the size around them
    np.testing.assert_allclose(chosen[2], [120, 40, 160, 160])
    np.testing.assert_allclose(other, np.tile([10, 20, 30, 40], (5, 1)))


def test_opencv_is_asked_for_in_one_line(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == "cv2":
            raise ImportError("No module named 'cv2'", name="cv2")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"--camera=moving: needs OpenCV; pip install 'champ_jax\[fit\]'"):
        match_background([Image.new("RGB", SIZE)], [])
