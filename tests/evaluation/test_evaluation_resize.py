"""Resampling against Pillow, PyTorch and OpenCV."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from champ_jax.evaluation.resize import antialiased, bicubic, bilinear, opencv_bilinear

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(30, 44), (160, 130), (112, 60)])
def test_bicubic_is_pillows_on_float_images(size):
    frames = RNG.integers(0, 256, (2, *size, 3), np.uint8)
    expected = np.stack(
        [
            np.stack(
                [
                    Image.fromarray(frame[..., c].astype(np.float32)).resize((112, 112), Image.Resampling.BICUBIC)
                    for c in range(3)
                ],
                -1,
            )
            for frame in frames
        ]
    )
    found = np.asarray(bicubic(frames, 112, 112))
    np.testing.assert_allclose(found, expected, atol=1e-4 * 2.55)
    assert found.min() < 0  # neither clipped nor rounded


@pytest.mark.parametrize("size", [(64, 64), (31, 500)])
def test_bilinear_is_pytorchs(size):
    frames = RNG.random((1, *size, 3)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(frames).permute(0, 3, 1, 2), (299, 299), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(
        np.asarray(bilinear(frames, 299, 299)), expected.permute(0, 2, 3, 1), atol=1e-4
    )  # float32 positions there


@pytest.mark.parametrize(
    ("size", "target"), [((60, 48), (80, 64)), ((500, 300), (256, 256)), ((1080, 604), (256, 256)), ((9, 7), (31, 8))]
)
def test_opencv_bilinear_is_opencvs_to_a_level(size, target):
    image = RNG.integers(0, 256, (*size, 3), np.uint8)
    expected = cv2.resize(image, target[::-1], interpolation=cv2.INTER_LINEAR)
    difference = np.abs(opencv_bilinear(image, *target).astype(int) - expected)
    assert difference.max() <= 1  # OpenCV's vector code rounds now and then otherwise than its own definition
    assert (difference != 0).mean() < 0.02


def test_a_frame_of_the_right_size_is_left_alone():
    image = RNG.integers(0, 256, (8, 9, 3), np.uint8)
    assert opencv_bilinear(image, 8, 9) is image
    assert antialiased(image, 8, 9) is image
    assert antialiased(image, 4, 3).shape == (4, 3, 3)
