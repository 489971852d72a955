"""Cuts are found; flashes, pans and moving people are none."""

import numpy as np
import pytest
from PIL import Image

from champ_jax.fitting.cuts import find_cuts, thumbnail


def scene(seed: int, frames: int, pan: int = 0) -> np.ndarray:
    """A soft background, moved by `pan` thumbnail pixels a frame, and a patch that moves over it."""
    rng = np.random.default_rng(seed)
    wide = np.asarray(Image.fromarray(rng.integers(0, 256, (4, 40, 3), np.uint8)).resize((400, 18)))
    result = np.stack([wide[:, index * pan : index * pan + 32] for index in range(frames)]).copy()
    color = rng.integers(0, 256, 3)
    for index in range(frames):
        left = 3 + abs(index % 40 - 20)  # to and fro
        result[index, 4:16, left : left + 6] = color
    return result


def test_a_cut_is_found_at_its_first_frame():
    assert find_cuts(np.concatenate([scene(0, 12), scene(1, 9), scene(2, 20)])) == [12, 21]


@pytest.mark.parametrize("length", [1, 2])
def test_a_shot_of_a_few_frames_at_the_end_counts(length):
    assert find_cuts(np.concatenate([scene(0, 12), scene(1, length)])) == [12]


def test_a_flash_is_no_cut():
    frames = scene(3, 20)
    frames[9:11] = 255
    assert find_cuts(frames) == []


@pytest.mark.parametrize("pan", [0, 1, 5])
def test_movement_is_no_cut(pan):
    assert find_cuts(scene(4, 30, pan)) == []


def test_one_frame_has_no_cuts():
    assert find_cuts(thumbnail(Image.new("RGB", (300, 500)))[None]) == []
