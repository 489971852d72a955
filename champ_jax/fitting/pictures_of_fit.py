"""A fit for the eye: the body over the frames it was fitted to, and how sure and how steady it is over time."""

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from champ_jax.body.camera_path import through_camera
from champ_jax.body.motion import Motion
from champ_jax.body.smpl import BodyModel
from champ_jax.conditions.preview import preview
from champ_jax.conditions.rendered_motion import render_motion
from champ_jax.fitting.fit import Fit

_SEEN, _UNSURE = (64, 224, 96), (240, 160, 32)
_LINES = ((40, 110, 190), (200, 90, 40), (60, 140, 70))
_PANEL, _LEFT, _WIDTH = 110, 150, 800


def overlay(
    motion: Motion, body: BodyModel, frames: Iterable[np.ndarray] | None = None
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """The body, shaded, and the key points over each frame, as a camera that turned saw it.

    Args:
      frames: (H, W, 3) uint8 of the motion's picture size, one for each of its frames; dark gray by default.

    Yields:
      (H, W, 3) uint8. Frames that are not valid show the picture alone.
    """
    motion = through_camera(motion, body)
    width, height = motion.image_size.tolist()
    blank = np.full((height, width, 3), 32, np.uint8)
    rendered = render_motion(motion, body, conditions=("normal",))
    pictures = iter(frames) if frames is not None else None
    for index in range(len(motion)):
        picture = blank if pictures is None else next(pictures, blank)
        shown = preview(rendered[index]["normal"], picture) if motion.valid[index] else picture
        if motion.keypoints is not None and motion.valid[index]:
            shown = _dotted(shown, motion.keypoints[index])
        yield shown


def _dotted(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    radius = max(min(image.size) / 250, 1.0)
    for x, y, score in points[:24]:
        if score > 0:
            color = _SEEN if score > 0.5 else _UNSURE
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    return np.asarray(image)


def chart(fit: Fit) -> UInt8[np.ndarray, "height width 3"]:
    """Four curves over time: the points' mean score, how far they are missed, the joints' mean acceleration, and how
    much the left and the right foot are planted.

    Returns:
      (H, W, 3) uint8.
    """
    motion = fit.motion
    frames = len(motion)
    second = np.zeros(frames)
    if frames > 2:
        second[1:-1] = np.linalg.norm(np.diff(fit.joints, 2, axis=0), axis=-1).mean(axis=1) * motion.fps**2
    panels: list[tuple[str, list[np.ndarray]]] = []
    if motion.keypoints is not None:
        body = motion.keypoints[:, :18, 2]
        panels.append(("score of the body's points", [body.mean(axis=1)]))
    panels.append(("points missed by", [fit.errors]))
    panels.append(("acceleration, m/s^2", [second]))
    planted = fit.planted
    panels.append(("planted: left, right foot", [planted[:, :3].max(axis=1), planted[:, 3:].max(axis=1)]))
    image = Image.new("RGB", (_LEFT + _WIDTH + 20, _PANEL * len(panels) + 30), "white")
    draw = ImageDraw.Draw(image)
    for number, (name, curves) in enumerate(panels):
        top, bottom = number * _PANEL + 15, (number + 1) * _PANEL - 5
        highest = max(float(max(curve.max() for curve in curves)), 1e-9)
        draw.text((8, top), name, fill="black")
        draw.text((8, top + 14), f"highest {highest:.3g}", fill="gray")
        draw.rectangle((_LEFT, top, _LEFT + _WIDTH, bottom), outline="gray")
        for gap in np.flatnonzero(~motion.valid):
            x = _LEFT + _WIDTH * gap / max(frames, 1)
            draw.rectangle((x, top, x + max(_WIDTH / max(frames, 1), 1), bottom), fill=(225, 225, 225))
        for color, curve in zip(_LINES, curves):
            across = _LEFT + _WIDTH * (np.arange(frames) + 0.5) / frames
            down = bottom - (bottom - top) * np.asarray(curve, np.float64) / highest
            line = list(zip(across.tolist(), down.tolist()))
            if frames == 1:
                draw.point(line, fill=color)
            else:
                draw.line(line, fill=color, width=2)
    draw.text((_LEFT, _PANEL * len(panels) + 8), f"frames 0 to {frames - 1}; gray: not seen", fill="gray")
    return np.asarray(image)
