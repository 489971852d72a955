"""Videos so small that a test can write them: every picture says where each of its pixels is."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = ("images", "depth", "normal", "semantic_map", "dwpose", "mask")
LENGTHS = {"a/one": 40, "a/two": 36, "b/three": 30, "four": 12}  # the videos of the shared dataset


def picture(kind, frame, size, video=0):
    """(height, width, 3) or (height, width) uint8: red is x, green is y, blue shows the frame, for sizes up to 128.

    'depth' holds x + y; 'mask' is a disc around a point that moves with the frame.
    """
    width, height = size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    if kind == "depth":
        return (x + y).astype(np.uint8)
    if kind == "mask":
        center = width / 2 + (frame % 9) - 4
        return np.where((x - center) ** 2 + (y - height / 2) ** 2 < (min(size) / 3) ** 2, 255, 0).astype(np.uint8)
    blue = np.full_like(x, (frame * 3 + video * 50) % 256)
    return np.stack([2 * x, 2 * y, blue], axis=-1).astype(np.uint8)


def write_video(folder, frames, size=(64, 64), kinds=KINDS, video=0, boxes=None):
    """Writes VIDEO/{kinds}/NNNN.png with `frames` frames from 0001."""
    folder = Path(folder)
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
        for frame in range(frames):
            image = Image.fromarray(picture(kind, frame, size, video))
            image.save(folder / kind / f"{frame + 1:04d}.png", compress_level=1)
    if boxes is not None:
        (folder / "human_bbox.json").write_text(json.dumps(boxes))
    return folder
