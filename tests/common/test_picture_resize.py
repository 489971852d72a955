"""Resizing against the reference's picture, whatever Pillow's version."""

from pathlib import Path

import numpy as np
from PIL import Image

from champ_jax.common.pictures import read_image, resize_image

PICTURE = Path(__file__).parents[1] / "golden" / "model" / "pictures" / "ref.png"


def weights(before, after):
    """Lanczos weights (after, before), antialiased, as Pillow documents them."""
    scale = before / after
    support = 3 * max(scale, 1.0)
    table = np.zeros((after, before))
    for i in range(after):
        center = (i + 0.5) * scale
        taken = np.arange(max(int(center - support + 0.5), 0), min(int(center + support + 0.5), before))
        x = (taken - center + 0.5) / max(scale, 1.0)
        row = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
        table[i, taken] = row / row.sum()
    return table


def test_rows_are_resized_before_columns():
    image = read_image(PICTURE)
    rows = np.floor(np.clip(np.einsum("xw,hwc->hxc", weights(150, 128), image), 0, 255) + 0.5)
    both = np.floor(np.clip(np.einsum("yh,hxc->yxc", weights(180, 128), rows), 0, 255) + 0.5)
    result = resize_image(image, (128, 128), "lanczos")
    assert (np.abs(result - both) > 0).mean() < 0.001  # Pillow's fixed-point weights round a few pixels elsewhere


def test_one_direction_is_pillows_own():
    image = read_image(PICTURE)
    expected = np.asarray(Image.fromarray(image).resize((224, 180), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize_image(image, (224, 180)), expected)
    assert resize_image(image, (150, 180)) is image
