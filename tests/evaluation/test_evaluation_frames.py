"""Frame measures against scikit-image, OpenCV and numpy's own uint8 arithmetic."""

import cv2
import numpy as np
import pytest
from evaluation_weights import GOLDEN
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from champ_jax.common.pictures import list_images, read_image
from champ_jax.evaluation.frames import flicker, opencv_gray, pairwise
from champ_jax.evaluation.warping import WarpingError


@pytest.fixture(scope="module")
def pictures():
    truth = np.stack([read_image(path) for path in list_images(GOLDEN / "legacy" / "gt")])
    prediction = np.stack([read_image(path) for path in list_images(GOLDEN / "legacy" / "gen")])
    assert (truth[3] == prediction[3]).all()  # the last pair is identical
    return truth, prediction


@pytest.fixture(scope="module")
def measured(pictures):
    return pairwise(*pictures)


def test_ssim_is_scikit_images(pictures, measured):
    expected = [structural_similarity(a, b, channel_axis=-1) for a, b in zip(*pictures)]
    np.testing.assert_allclose(measured["ssim"], expected, atol=1e-6)


def test_legacy_ssim_is_scikit_images_on_opencv_gray(pictures, measured):
    gray = [[cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in side] for side in pictures]
    np.testing.assert_array_equal(np.asarray(opencv_gray(pictures[0])), np.stack(gray[0]))
    expected = [structural_similarity(a, b) for a, b in zip(*gray)]
    np.testing.assert_allclose(measured["ssim_legacy"], expected, atol=1e-6)


def test_psnr_and_mae(pictures, measured):
    expected = [peak_signal_noise_ratio(a, b) for a, b in zip(pictures[0][:3], pictures[1][:3])]
    np.testing.assert_allclose(measured["psnr"][:3], expected, rtol=1e-12)
    mae = [np.abs(a.astype(float) - b).mean() for a, b in zip(*pictures)]
    np.testing.assert_allclose(measured["mae"], mae, rtol=1e-12)
    np.testing.assert_allclose(measured["l1_legacy"], np.array(mae) / (80 * 64), rtol=1e-12)


def test_legacy_psnr_overflows_as_published(pictures, measured):
    for index in range(3):
        difference = pictures[0][index] - pictures[1][index]  # uint8, wraps
        mse = np.mean(difference**2)  # uint8, wraps again
        assert measured["psnr_legacy"][index] == pytest.approx(20 * np.log10(255 / np.sqrt(mse)), rel=1e-12)
    assert (measured["psnr_legacy"][:3] > measured["psnr"][:3] + 3).all()


def test_identical_frames_score_100_decibels_and_nothing_scores_more(measured):
    assert measured["psnr"][3] == measured["psnr_legacy"][3] == 100
    assert measured["ssim"][3] == 1
    truth = np.zeros((1, 512, 512, 3), np.uint8)
    prediction = truth.copy()
    prediction[0, 0, 0, 0] = 1
    assert pairwise(truth, prediction)["psnr"][0] == 100


def test_extreme_contrast_stays_exact():
    """The integers inside SSIM reach their largest values."""
    rng = np.random.default_rng(0)
    truth = (rng.integers(0, 2, (1, 24, 20, 3)) * 255).astype(np.uint8)
    prediction = 255 - truth
    expected = structural_similarity(truth[0], prediction[0], channel_axis=-1)
    assert pairwise(truth, prediction)["ssim"][0] == pytest.approx(expected, abs=1e-6)
    white = np.full_like(truth, 255)
    assert pairwise(white, white)["ssim"][0] == 1


def test_flicker_ignores_what_stays_and_counts_what_comes_and_goes():
    rng = np.random.default_rng(1)
    truth = rng.integers(50, 200, (4, 9, 11, 3), np.uint8)
    assert flicker(truth, truth + 30).tolist() == [0, 0, 0]
    blinking = truth.copy()
    blinking[1] += 30
    assert flicker(truth, blinking).tolist() == [30, 30, 0]
    other = rng.integers(0, 256, truth.shape, np.uint8)
    expected = np.abs(np.diff(other.astype(float), axis=0) - np.diff(truth.astype(float), axis=0)).mean((1, 2, 3))
    np.testing.assert_allclose(flicker(truth, other), expected, rtol=1e-12)


def test_warping_error_follows_the_motion():
    """A texture that moves by whole pixels warps onto itself; frames held still do not follow it."""
    rng = np.random.default_rng(2)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (160, 160, 3)).astype(np.uint8), (0, 0), 3)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    moving = [texture[16 : 16 + 112, 10 + 3 * k : 10 + 3 * k + 112] for k in range(3)]
    errors, still_errors, noisy_errors = [], [], []
    for found, shown in ((errors, moving), (still_errors, [moving[0]] * 3), (noisy_errors, None)):
        measure = WarpingError()
        for index, frame in enumerate(moving):
            noise = rng.integers(-20, 21, frame.shape)
            picture = np.clip(frame + noise, 0, 255).astype(np.uint8) if shown is None else shown[index]
            found.append(measure(frame, picture))
        assert found[0] is None
    assert max(errors[1:]) < 2e-4
    assert min(still_errors[1:]) > 10 * max(errors[1:])
    # Independent noise of variance v in both frames leaves 2 v, less what interpolation smooths.
    variance = (41**2 - 1) / 12 / 255**2
    assert variance < noisy_errors[1] < 2.5 * variance
