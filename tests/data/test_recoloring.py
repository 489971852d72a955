"""Other colors: what they keep, and that reference and targets get the same ones."""

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from champ_jax.common.errors import InputError
from champ_jax.data import recoloring
from champ_jax.data.pipeline import make_stage1
from champ_jax.data.recoloring import draw_recoloring, recolor


@given(st.integers(0, 2**32 - 1))
def test_grays_stay_gray(seed):
    grays = np.arange(0, 200, 10, dtype=np.uint8)[:, None].repeat(3, 1)
    changed = recolor(grays, draw_recoloring(np.random.default_rng(seed))).astype(int)
    assert np.ptp(changed, axis=1).max() <= 1
    assert (np.diff(changed[:, 0]) > 0).all()
    low, high = recoloring.BRIGHTNESS
    assert 180 * low - 1 <= changed[18].mean() <= 180 * high + 1


def test_hues_turn_all_the_way_round(monkeypatch):
    monkeypatch.setattr(recoloring, "SATURATION", (1.0, 1.0))
    monkeypatch.setattr(recoloring, "BRIGHTNESS", (1.0, 1.0))
    hues = []
    for seed in range(40):
        color = recolor(np.array([[150, 110, 110]], np.uint8), draw_recoloring(np.random.default_rng(seed)))[0]
        hue, _, _ = colorsys.rgb_to_hsv(*(color / 255.0))
        hues.append(hue)
    assert (np.histogram(hues, bins=6, range=(0, 1))[0] > 0).all()


def test_less_saturation_is_nearer_to_gray(monkeypatch):
    color = np.array([[200, 100, 60]], np.uint8)
    spreads = []
    for saturation in (0.0, 0.5, 1.0):
        monkeypatch.setattr(recoloring, "HUE", 0.0)
        monkeypatch.setattr(recoloring, "SATURATION", (saturation, saturation))
        monkeypatch.setattr(recoloring, "BRIGHTNESS", (1.0, 1.0))
        spreads.append(np.ptp(recolor(color, draw_recoloring(np.random.default_rng(0))).astype(int)))
    assert spreads == [0, 70, 140]


def test_a_sample_has_one_recoloring_and_the_same_frames(dataset_path):
    options = {"seed": 3, "batch_size": 4, "image_size": (32, 32), "crop": "center", "margin": 8}
    plain, colored = (make_stage1(dataset_path, **options, recolored=share) for share in (0.0, 1.0))
    one, two = next(plain), next(colored)
    plain.close()
    colored.close()
    assert one["names"] == two["names"]
    for name in one["conditions"]:
        np.testing.assert_array_equal(one["conditions"][name], two["conditions"][name])
    for row in range(4):
        # What turns the reference's colors into the new ones turns the target's: a fit to one, tried on the other.
        kinds = {
            kind: (one[kind][row].reshape(-1, 3), two[kind][row].reshape(-1, 3))
            for kind in one
            if kind != "names" and kind != "conditions"
        }
        old, new = (pixels.astype(float) for pixels in kinds["reference"])
        inside = (new > 0).all(1) & (new < 255).all(1)
        matrix = np.linalg.lstsq(old[inside], new[inside], rcond=None)[0]
        for kind, (before, after) in kinds.items():
            error = np.abs(np.clip(before @ matrix, 0, 255) - after)
            assert np.percentile(error, 99) < 3, kind
        assert np.abs(one["reference"][row].astype(float) - two["reference"][row]).max() > 5


def test_the_share_of_samples_is_the_one_asked_for(dataset_path):
    options = {"seed": 3, "batch_size": 40, "image_size": (16, 16), "margin": 8}
    plain, colored = (make_stage1(dataset_path, **options, recolored=share) for share in (0.0, 0.5))
    changed = [not np.array_equal(a, b) for a, b in zip(next(plain)["reference"], next(colored)["reference"])]
    plain.close()
    colored.close()
    assert 10 <= sum(changed) <= 30


def test_cached_latents_cannot_be_recolored(dataset_path):
    with pytest.raises(InputError, match=r"recolored=0\.5: cached latents have the colors .* cached=False"):
        make_stage1(dataset_path, seed=0, batch_size=1, image_size=(16, 16), cached=True, recolored=0.5)
