"""Whole-body skeleton pictures as DWPose's annotator draws them, pixel for pixel, and its order of key points."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from champ_jax.common.errors import InputError
from champ_jax.conditions import drawing

NUM_KEYPOINTS = 134
"""18 body points (OpenPose order), 6 of the feet, 68 of the face, 21 of each hand."""

BODY, FACE, LEFT_HAND, RIGHT_HAND = slice(0, 18), slice(24, 92), slice(92, 113), slice(113, 134)

# A body point is drawn above this score; a point of a hand or the face at it too.
SCORE_THRESHOLD = 0.3

LIMB_WIDTH = 4
BODY_RADIUS, HAND_RADIUS, FACE_RADIUS = 4, 4, 3

# fmt: off
BODY_COLORS = np.array(
    [
        (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
        (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255),
        (255, 0, 255), (255, 0, 170), (255, 0, 85),
    ],
    np.uint8,
)
LIMBS = np.array(
    [
        (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
        (0, 14), (14, 16), (0, 15), (15, 17),
    ]
)
HAND_EDGES = np.array(
    [
        (0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (7, 8), (0, 9), (9, 10), (10, 11), (11, 12), (0, 13),
        (13, 14), (14, 15), (15, 16), (0, 17), (17, 18), (18, 19), (19, 20),
    ]
)
# HSV (i / 20, 1, 1) in 8 bits; halves fall as they do in double precision, hence a table.
HAND_COLORS = np.array(
    [
        (255, 0, 0), (255, 77, 0), (255, 153, 0), (255, 229, 0), (204, 255, 0), (128, 255, 0), (51, 255, 0),
        (0, 255, 25), (0, 255, 102), (0, 255, 179), (0, 255, 255), (0, 178, 255), (0, 102, 255), (0, 25, 255),
        (51, 0, 255), (128, 0, 255), (204, 0, 255), (255, 0, 230), (255, 0, 153), (255, 0, 77),
    ],
    np.uint8,
)
# fmt: on
LIMB_COLORS = (BODY_COLORS[: len(LIMBS)] * 0.6).astype(np.uint8)
HAND_POINT_COLOR = (0, 0, 255)
FACE_COLOR = (255, 255, 255)

# OpenPose body point <- COCO point, after the neck was put at place 17.
_OPENPOSE_PLACES = (1, 2, 3, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17)
_COCO_PLACES = (17, 6, 8, 10, 7, 9, 12, 14, 16, 13, 15, 2, 1, 4, 3)


def coco_to_openpose(keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Reorders COCO-WholeBody key points as DWPose draws them.

    The neck is the middle of the shoulders, with score 1 if both score above 0.3, else 0.

    Args:
      keypoints: (..., 133, 2) x, y in pixels.
      scores: (..., 133).

    Returns:
      (..., 134, 3) float64 x, y, score: body 0-17 in OpenPose order, feet, face, left hand, right hand.

    Raises:
      InputError: the shapes are others.
    """
    keypoints, scores = np.asarray(keypoints, np.float64), np.asarray(scores)
    if keypoints.shape[-2:] != (133, 2) or scores.shape != keypoints.shape[:-1]:
        raise InputError(
            f"key points of shape {keypoints.shape} with scores {scores.shape}: expected (..., 133, 2) and (..., 133), "
            "the COCO-WholeBody order"
        )
    points = np.concatenate([keypoints, scores[..., None].astype(np.float64)], axis=-1)
    shoulders = points[..., 5:7, :]
    neck = shoulders.mean(axis=-2)
    neck[..., 2] = np.all(shoulders[..., 2] > SCORE_THRESHOLD, axis=-1)
    points = np.insert(points, 17, neck, axis=-2)
    points[..., _OPENPOSE_PLACES, :] = points[..., _COCO_PLACES, :]
    return points


def draw_skeleton(keypoints: np.ndarray, image_size: Sequence[int]) -> UInt8[np.ndarray, "height width 3"]:
    """Draws the skeletons of the people in a frame on black.

    Limbs are ellipses at 60 % brightness, body points discs over them, then the hands and the faces. Points of the body
    count above score 0.3, those of hands and face from 0.3 on; feet are never drawn. Points outside the frame are
    clipped, except that points of hands and face in the first column or row or before it are left out.

    Args:
      keypoints: (P, 134, 3) x px, y px, score of P people (P may be 0), in the order of `coco_to_openpose`.
      image_size: [W, H].

    Returns:
      (H, W, 3) uint8 RGB.

    Raises:
      InputError: another shape, a coordinate that is not finite, or a size that is not positive.
    """
    width, height = (int(side) for side in image_size)
    if width < 1 or height < 1:
        raise InputError(f"image_size {width}x{height}: expected a positive width and height")
    keypoints = np.asarray(keypoints, np.float64)
    if keypoints.ndim != 3 or keypoints.shape[1:] != (NUM_KEYPOINTS, 3):
        raise InputError(f"key points of shape {keypoints.shape}: expected (people, {NUM_KEYPOINTS}, 3) of x, y, score")
    if not np.isfinite(keypoints).all():
        person, point, _ = np.argwhere(~np.isfinite(keypoints))[0]
        raise InputError(f"key point {point} of person {person} is not finite; give invisible points score 0")

    # The annotator works on coordinates divided by the frame's size; the round trip can lose an integer pixel to the
    # truncations below, so it is part of the picture.
    size = np.array([width, height], np.float64)
    points, scores = keypoints[..., :2] / size * size, keypoints[..., 2]
    pixels = points.astype(np.int64)  # truncates towards zero

    canvas = np.zeros((height, width, 3), np.uint8)
    visible = scores[:, BODY] > SCORE_THRESHOLD
    # Later layers cover earlier ones; within the body: limb by limb, and person by person within a limb.
    limb, person = np.nonzero((visible[:, LIMBS[:, 0]] & visible[:, LIMBS[:, 1]]).T)
    layer, covered = _limbs(points[person, LIMBS[limb, 0]], points[person, LIMBS[limb, 1]], (width, height))
    drawing.paint(canvas, layer, covered, LIMB_COLORS[limb[layer]])
    joint, person = np.nonzero(visible.T)
    layer, covered = drawing.discs(pixels[person, joint], BODY_RADIUS, (width, height))
    drawing.paint(canvas, layer, covered, BODY_COLORS[joint[layer]])

    # The annotator puts invisible points at -1 times the size, and draws points of hands and face from pixel 1 on.
    drawable = ~(scores < SCORE_THRESHOLD) & np.all(pixels >= 1, axis=-1)
    hands, drawn = (np.concatenate([array[:, LEFT_HAND], array[:, RIGHT_HAND]]) for array in (pixels, drawable))
    _draw_hands(canvas, hands, drawn)
    layer, covered = drawing.discs(pixels[:, FACE][drawable[:, FACE]], FACE_RADIUS, (width, height))
    canvas.reshape(-1, 3)[covered] = FACE_COLOR
    return canvas


def _limbs(starts: np.ndarray, ends: np.ndarray, size: drawing.Size) -> drawing.Pixels:
    """The ellipses about limbs between points (N, 2)."""
    dx, dy = (starts - ends).T
    lengths = (dx**2 + dy**2) ** 0.5
    angles = np.array([math.degrees(math.atan2(y, x)) for x, y in zip(dx, dy)])  # libm's, to the last bit
    centers, lengths, angles = (v.astype(np.int64) for v in ((starts + ends) / 2, lengths / 2, angles))
    return drawing.convex_polygons(drawing.ellipse_polygons(centers, lengths, LIMB_WIDTH, angles), size)


def _draw_hands(canvas: np.ndarray, hands: np.ndarray, drawable: np.ndarray) -> None:
    """Draws hands (N, 21, 2), one after the other: its lines, then its points."""
    size = canvas.shape[1], canvas.shape[0]
    layers = len(HAND_EDGES) + 1
    hand, edge = np.nonzero(drawable[:, HAND_EDGES[:, 0]] & drawable[:, HAND_EDGES[:, 1]])
    line, line_pixels = drawing.thick_lines(hands[hand, HAND_EDGES[edge, 0]], hands[hand, HAND_EDGES[edge, 1]], size)
    owner, peak = np.nonzero(drawable)
    disc, disc_pixels = drawing.discs(hands[owner, peak], HAND_RADIUS, size)
    drawing.paint(
        canvas,
        np.concatenate([(hand * layers + edge)[line], owner[disc] * layers + len(HAND_EDGES)]),
        np.concatenate([line_pixels, disc_pixels]),
        np.concatenate([HAND_COLORS[edge[line]], np.broadcast_to(HAND_POINT_COLOR, (len(disc), 3))]),
    )
