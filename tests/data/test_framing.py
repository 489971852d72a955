"""Windows and resizing; CLIP's pictures against transformers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPImageProcessor

from champ_jax.common.errors import InputError
from champ_jax.data.framing import CROPS, Framing, clip_picture

BICUBIC = Image.Resampling.BICUBIC
sides = st.integers(1, 400)
shares = st.floats(0, 1, exclude_max=True)


def ramp(width, height):
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x % 256, y % 256, 0 * x], axis=-1).astype(np.uint8))


@given(st.tuples(sides, sides), st.tuples(sides, sides), st.sampled_from(["none", "center", "random"]), shares, shares)
def test_windows_lie_in_the_picture_and_have_the_aspect_ratio(picture, size, crop, scale, place):
    framing = Framing(size, crop, area=(0.5, 1.0))
    left, top, right, bottom = framing.window(picture, np.array([scale, place, place]))
    tolerance = 1e-6 * max(picture)
    assert -tolerance <= left < right <= picture[0] + tolerance
    assert -tolerance <= top < bottom <= picture[1] + tolerance
    if crop != "none":
        assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1])
        covered = max((right - left) / picture[0], (bottom - top) / picture[1])
        assert covered**2 == pytest.approx(1.0 if crop == "center" else 0.5 + 0.5 * scale)


@given(st.lists(st.integers(0, 100), min_size=4, max_size=4), shares)
def test_box_windows_hold_the_box(corners, scale):
    left, right = sorted(corners[:2])
    top, bottom = sorted(corners[2:])
    box = np.array([left, top, max(right, left + 1), max(bottom, top + 1)])
    framing = Framing((64, 64), "box", box_scale=(1.0, 1.2))
    window = np.array(framing.window((101, 101), np.array([scale, 0, 0]), box))
    assert (window[:2] <= box[:2] + 1e-6).all()
    assert (window[2:] >= box[2:] - 1e-6).all()
    assert window.min() >= 0
    assert window.max() <= 101
    assert window[2] - window[0] == pytest.approx(window[3] - window[1])


def test_box_windows_grow_and_shrink_with_the_scale():
    framing = Framing((64, 64), "box", box_scale=(0.5, 1.5))
    box = np.array([40, 30, 60, 70])
    assert framing.window((100, 100), np.array([0.0, 0, 0]), box) == (40, 40, 60, 60)
    assert framing.window((100, 100), np.array([0.5, 0, 0]), box) == (30, 30, 70, 70)
    # A box at the border is moved inside; one too large is cut there.
    assert framing.window((100, 100), np.array([0.5, 0, 0]), np.array([0, 0, 20, 40])) == (0, 0, 40, 40)
    assert framing.window((50, 100), np.array([0.5, 0, 0]), np.array([10, 10, 30, 90])) == (0, 10, 50, 90)
    assert framing.window((50, 100), np.array([0.5, 0, 0]), None) == (0, 0, 50, 100)


def test_cover_cuts_pad_fills_stretch_distorts():
    picture, whole = ramp(80, 40), (0.0, 0.0, 80.0, 40.0)
    cover = Framing((40, 40), "none", "cover").apply(picture, whole, BICUBIC)
    np.testing.assert_array_equal(cover, np.asarray(picture.crop((20, 0, 60, 40))))
    stretch = Framing((40, 40), "none", "stretch").apply(picture, whole, BICUBIC)
    np.testing.assert_array_equal(stretch, np.asarray(picture.resize((40, 40), BICUBIC)))
    pad = Framing((40, 40), "none", "pad").apply(picture, whole, BICUBIC)
    np.testing.assert_array_equal(pad[10:30], np.asarray(picture.resize((40, 20), BICUBIC)))
    assert not pad[:10].any()
    assert not pad[30:].any()
    same = Framing((80, 40), "none").apply(picture, whole, BICUBIC)
    np.testing.assert_array_equal(same, np.asarray(picture))


@pytest.mark.parametrize("size", [(300, 260), (260, 401), (64, 48), (224, 224)])
def test_clip_sees_what_its_processor_makes(size):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    processor = CLIPImageProcessor(do_normalize=False, do_rescale=False)
    for window in ((0.0, 0.0, *map(float, size)), (3.0, 5.0, 43.0, 40.0)):
        cut = picture.crop(tuple(map(int, window)))
        expected = np.asarray(processor(cut, return_tensors="np")["pixel_values"][0]).transpose(1, 2, 0)
        difference = np.abs(clip_picture(picture, window).astype(int) - expected)
        assert difference.max() <= 1
        assert difference.mean() < 0.01


def test_fixed_windows_are_distinguished_from_others():
    assert [crop for crop in CROPS if Framing((8, 8), crop).is_fixed] == ["none", "center"]
    with pytest.raises(InputError, match="box_scale="):
        Framing((8, 8), "box", box_scale=(0.0, 1.0))
