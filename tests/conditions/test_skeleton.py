"""The skeleton picture against DWPose's own pictures and against OpenCV's drawing functions on random people."""

import colorsys
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from champ_jax.common.errors import InputError
from champ_jax.common.pictures import read_image
from champ_jax.conditions import drawing
from champ_jax.conditions.skeleton import coco_to_openpose, draw_skeleton

GOLDEN = Path(__file__).parents[1] / "golden" / "dwpose"

WHEEL = [colorsys.hsv_to_rgb(i / 18, 1, 1) for i in range(18)]
LIMBS = "1-2 1-5 2-3 3-4 5-6 6-7 1-8 8-9 9-10 1-11 11-12 12-13 1-0 0-14 14-16 0-15 15-17"
HAND = "0-1 1-2 2-3 3-4 0-5 5-6 6-7 7-8 0-9 9-10 10-11 11-12 0-13 13-14 14-15 15-16 0-17 17-18 18-19 19-20"


def opencv_skeleton(keypoints: np.ndarray, width: int, height: int) -> np.ndarray:
    """The annotator's procedure with OpenCV's primitives."""
    keypoints = keypoints.astype(np.float64)
    wheel = [tuple(int(c * 255 / 85 + 0.5) * 85 for c in color) for color in WHEEL]
    x, y = keypoints[..., 0] / width * width, keypoints[..., 1] / height * height
    score = keypoints[..., 2]
    canvas = np.zeros((height, width, 3), np.uint8)
    for color, limb in zip(wheel, LIMBS.split()):
        a, b = (int(end) for end in limb.split("-"))
        for p in range(len(keypoints)):
            if score[p, a] > 0.3 and score[p, b] > 0.3:
                dx, dy = x[p, a] - x[p, b], y[p, a] - y[p, b]
                center = int((x[p, a] + x[p, b]) / 2), int((y[p, a] + y[p, b]) / 2)
                axes = int((dx**2 + dy**2) ** 0.5 / 2), 4
                polygon = cv2.ellipse2Poly(center, axes, int(math.degrees(math.atan2(dy, dx))), 0, 360, 1)
                cv2.fillConvexPoly(canvas, polygon, color)
    canvas = (canvas * 0.6).astype(np.uint8)
    for j in range(18):
        for p in range(len(keypoints)):
            if score[p, j] > 0.3:
                cv2.circle(canvas, (int(x[p, j]), int(y[p, j])), 4, wheel[j], thickness=-1)
    hidden = score < 0.3
    column, row = np.where(hidden, -width, np.trunc(x)).astype(int), np.where(hidden, -height, np.trunc(y)).astype(int)
    for start in (92, 113):
        for p in range(len(keypoints)):
            hand = [(int(column[p, start + k]), int(row[p, start + k])) for k in range(21)]
            for i, edge in enumerate(HAND.split()):
                a, b = (hand[int(end)] for end in edge.split("-"))
                if min(*a, *b) > 0:
                    color = tuple(255 * c for c in colorsys.hsv_to_rgb(i / 20, 1, 1))
                    cv2.line(canvas, a, b, color, thickness=2)
            for point in hand:
                if min(point) > 0:
                    cv2.circle(canvas, point, 4, (0, 0, 255), thickness=-1)
    for p in range(len(keypoints)):
        for k in range(24, 92):
            if column[p, k] > 0 and row[p, k] > 0:
                cv2.circle(canvas, (int(column[p, k]), int(row[p, k])), 3, (255, 255, 255), thickness=-1)
    return canvas


def random_people(seed: int, width: int, height: int, people: int) -> np.ndarray:
    """Points inside and far outside the frame, scores on both sides of the threshold, some points shared."""
    rng = np.random.default_rng(seed)
    reach = rng.choice([0.0, 0.3, 2.0])
    size = np.array([width, height])
    xy = rng.uniform(-reach * size, (1 + reach) * size, (people, 134, 2))
    hands = rng.uniform(0, 1, (people, 42, 2)) * rng.choice([10, 60, 2 * width])
    xy[:, 92:] = xy[:, rng.integers(0, 18)][:, None] + hands
    if rng.random() < 0.3:
        xy = np.round(xy)
    xy[:, rng.integers(0, 134, 5)] = xy[:, rng.integers(0, 134, 1)]
    score = rng.uniform(0, 1, (people, 134, 1)).astype(np.float32)
    score[rng.random(score.shape) < 0.1] = np.float32(0.3)
    return np.concatenate([xy, score], axis=-1)


@pytest.mark.parametrize("name", ["fullbody_512x512", "half_invisible_576x768", "crowd_96x200", "crowd_333x200"])
def test_draws_the_annotators_pictures(name):
    case = np.load(GOLDEN / f"{name}.npz")
    picture = draw_skeleton(case["keypoints"], case["image_size"])
    assert np.count_nonzero((picture != read_image(GOLDEN / f"{name}.png")).any(axis=-1)) == 0


@pytest.mark.parametrize("seed", range(40))
def test_draws_what_opencv_draws(seed):
    rng = np.random.default_rng(1000 + seed)
    width, height = (int(n) for n in rng.choice([37, 96, 200, 333], 2))
    keypoints = random_people(seed, width, height, int(rng.integers(0, 4)))
    # OpenCV 4.13 draws lines that leave the frame otherwise than DWPose's OpenCV 4.8: crowd_* holds those.
    keypoints[:, 92:, :2] = np.clip(keypoints[:, 92:, :2], 0, [width - 1, height - 1])
    difference = draw_skeleton(keypoints, [width, height]) != opencv_skeleton(keypoints, width, height)
    assert np.count_nonzero(difference.any(axis=-1)) == 0


inside = st.tuples(st.integers(0, 82), st.integers(0, 60))
anywhere = st.tuples(st.integers(-90, 160), st.integers(-90, 160))


@settings(max_examples=300, deadline=None)
@given(inside, inside)
def test_thick_lines_are_opencvs(start, end):
    ours, theirs = np.zeros((2, 61, 83, 3), np.uint8)
    _, pixels = drawing.thick_lines(np.array([start]), np.array([end]), (83, 61))
    ours.reshape(-1, 3)[pixels] = (10, 20, 30)
    cv2.line(theirs, start, end, (10, 20, 30), thickness=2)
    np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=300, deadline=None)
@given(anywhere, st.integers(0, 150), st.integers(-180, 180))
def test_ellipses_are_opencvs(center, length, angle):
    ours, theirs = np.zeros((2, 61, 83, 3), np.uint8)
    polygon = drawing.ellipse_polygons(np.array([center]), np.array([length]), 4, np.array([angle]))
    _, pixels = drawing.convex_polygons(polygon, (83, 61))
    ours.reshape(-1, 3)[pixels] = (10, 20, 30)
    cv2.fillConvexPoly(theirs, cv2.ellipse2Poly(center, (length, 4), angle, 0, 360, 1), (10, 20, 30))
    np.testing.assert_array_equal(ours, theirs)


def test_reorders_coco_points():
    case = np.load(GOLDEN / "reorder_fullbody_512x512.npz")
    points = coco_to_openpose(case["raw_keypoints"], case["raw_scores"])
    np.testing.assert_array_equal(points.astype(np.float32), case["keypoints134"])


def test_feet_are_not_drawn():
    keypoints = np.zeros((1, 134, 3))
    keypoints[:, 18:24] = (20, 20, 1)
    assert not draw_skeleton(keypoints, [40, 40]).any()


def test_nobody_is_black():
    assert draw_skeleton(np.zeros((0, 134, 3)), [30, 20]).shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("keypoints", "size", "message"),
    [
        (np.zeros((1, 133, 3)), [8, 8], r"shape \(1, 133, 3\): expected \(people, 134, 3\)"),
        (np.zeros((134, 3)), [8, 8], "expected"),
        (np.zeros((1, 134, 3)), [0, 8], "positive"),
        (np.full((1, 134, 3), np.nan), [8, 8], "point 0 of person 0 is not finite"),
    ],
)
def test_refuses(keypoints, size, message):
    with pytest.raises(InputError, match=message):
        draw_skeleton(keypoints, size)


def test_reordering_refuses_other_shapes():
    with pytest.raises(InputError, match="133"):
        coco_to_openpose(np.zeros((2, 134, 2)), np.zeros((2, 134)))
