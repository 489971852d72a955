"""Semantic maps that are not Champ's are distinguished from those that are."""

import io
import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from champ_jax.common.pictures import read_image
from champ_jax.conditions.colors import PART_COLORS
from champ_jax.conditions.motion_folder import MotionFolder
from champ_jax.conditions.semantic_colors import semantic_complaint

MOTION = Path(__file__).parent.parent / "golden" / "model" / "pictures" / "motion"


@pytest.fixture(scope="module")
def champ():
    return read_image(MOTION / "semantic_map/0003.png"), read_image(MOTION / "mask/0003.png", "L") > 0


@pytest.fixture(scope="module")
def parts(champ):
    """Part index of every pixel."""
    image, _ = champ
    return np.abs(image[:, :, None].astype(int) - PART_COLORS.astype(int)).max(axis=-1).argmin(axis=-1)


def densepose(parts, mask, color_map, background):
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], color_map)[:, 0, ::-1]
    image = table[((parts + 1) * 255 / 24).astype(int)]
    return np.where(mask[..., None], image, np.array(background, np.uint8))


def test_champs_maps_pass_as_drawn_resized_and_compressed(champ):
    image, mask = champ
    masked = image * mask[..., None]
    assert semantic_complaint(image, mask) is None
    assert semantic_complaint(masked) is None
    small = np.asarray(Image.fromarray(masked).resize((48, 56), Image.Resampling.BICUBIC))
    assert semantic_complaint(small) is None
    buffer = io.BytesIO()
    Image.fromarray(masked).save(buffer, "JPEG", quality=85)
    assert semantic_complaint(np.asarray(Image.open(buffer)), mask) is None


def test_blends_of_neighboring_parts_pass():
    """Elbow to hand in linear light, as a renderer interpolates inside a triangle."""
    stops = (PART_COLORS[[16, 18, 20, 22]] / 255.0) ** 2.2
    ramp = np.concatenate([np.linspace(a, b, 40) for a, b in itertools.pairwise(stops)])
    image = np.broadcast_to(np.round(255 * ramp ** (1 / 2.2)).astype(np.uint8)[None], (30, len(ramp), 3))
    assert semantic_complaint(image) is None


@pytest.mark.parametrize(
    ("color_map", "background", "cause"),
    [
        (cv2.COLORMAP_VIRIDIS, (68, 1, 84), "purple background"),
        (cv2.COLORMAP_VIRIDIS, (0, 0, 0), "DensePose's 24 parts"),
        (cv2.COLORMAP_PARULA, (0, 0, 0), "PARULA"),
        (cv2.COLORMAP_JET, (0, 0, 0), "another renderer or palette"),
    ],
)
def test_other_palettes_are_reported_with_their_cause(champ, parts, color_map, background, cause):
    image = densepose(parts, champ[1], color_map, background)
    assert cause in semantic_complaint(image, champ[1])


def test_other_conditions_in_its_place_are_reported(champ):
    assert "not Champ's" in semantic_complaint(read_image(MOTION / "normal/0003.png"), champ[1])


def test_an_empty_frame_draws_no_complaint():
    assert semantic_complaint(np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), bool)) is None


def test_a_folder_warns_and_continues(tmp_path, champ, parts):
    for kind, image in (
        ("semantic_map", densepose(parts, champ[1], cv2.COLORMAP_VIRIDIS, (68, 1, 84))),
        ("mask", 255 * champ[1].astype(np.uint8)),
    ):
        (tmp_path / kind).mkdir()
        Image.fromarray(image).save(tmp_path / kind / "0001.png")
    motion = MotionFolder(tmp_path, ["semantic_map"])
    with pytest.warns(UserWarning, match=r"0001\.png has a purple background.*DensePose.*champ render"):
        motion.check()
    assert len(motion.read(0, 1)) == 1
