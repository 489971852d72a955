"""Measures inside the person's region against scikit-image and NumPy; NLPD against a plain form of the paper's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, signal
from skimage.metrics import structural_similarity
from skimage.morphology import disk

from champ_jax.evaluation import frames, pyramid
from champ_jax.evaluation.regions import Values, dilated, measure_frames

SIZE = (37, 50)  # odd, so that the pyramid's levels are


@pytest.fixture(scope="module")
def pair():
    """Three true frames, a disturbed copy, and a region that is empty in the last frame."""
    rng = np.random.default_rng(0)
    truth = ndimage.gaussian_filter(rng.normal(128, 300, (3, *SIZE, 3)), (0, 2, 2, 0)).clip(0, 255).astype(np.uint8)
    prediction = (truth + rng.normal(0, 12, truth.shape)).clip(0, 255).astype(np.uint8)
    inside = np.zeros((3, *SIZE), bool)
    inside[0, 5:20, 8:30] = inside[1, 0:12, 40:50] = True
    return truth, prediction, inside


@pytest.fixture(scope="module")
def measured(pair):
    return measure_frames(*pair)


def test_whole_frames_are_measured_as_everywhere_else(pair, measured):
    truth, prediction, _ = pair
    expected = frames.pairwise(truth, prediction)
    for name in ("psnr", "ssim", "mae"):
        np.testing.assert_allclose(measured[name].totals, expected[name], rtol=1e-6)
    np.testing.assert_allclose(measured["flicker"].totals[1:], frames.flicker(truth, prediction), rtol=1e-12)


def test_a_region_is_measured_by_its_pixels_alone(pair, measured):
    truth, prediction, inside = (array.astype(float) for array in pair)
    for index in (0, 1):
        where = inside[index] > 0
        error = (prediction - truth)[index][where]
        assert measured["psnr_person"].totals[index] == pytest.approx(20 * np.log10(255 / np.sqrt((error**2).mean())))
        assert measured["mae_person"].totals[index] == pytest.approx(np.abs(error).mean())
        _, similarity = structural_similarity(
            truth[index], prediction[index], channel_axis=-1, data_range=255, full=True
        )
        middles = np.zeros(SIZE, bool)
        middles[3:-3, 3:-3] = where[3:-3, 3:-3]
        assert measured["ssim_person"].totals[index] == pytest.approx(similarity[middles].mean(), abs=1e-5)
    step = (prediction[1] - prediction[0]) - (truth[1] - truth[0])
    assert measured["flicker_person"].totals[1] == pytest.approx(np.abs(step)[(inside[0] + inside[1]) > 0].mean())


def test_frames_without_a_region_have_no_value(measured):
    for name in ("psnr_person", "ssim_person", "mae_person", "nlpd_person"):
        np.testing.assert_array_equal(measured[name].weights, [1, 1, 0])
        assert np.isfinite(measured[name].mean())
    np.testing.assert_array_equal(measured["psnr_later"].weights, [0, 1, 1])
    np.testing.assert_array_equal(measured["psnr_person_later"].weights, [0, 1, 0])


def test_the_flicker_of_a_still_picture_is_the_change_of_the_truth(pair):
    truth, _, inside = pair
    still = measure_frames(truth, np.repeat(truth[:1], 3, axis=0), inside)
    assert still["flicker_ratio"].mean() == pytest.approx(1)
    assert still["flicker"].mean() == pytest.approx(np.abs(np.diff(truth.astype(int), axis=0)).mean())


def test_a_region_of_everything_is_the_whole_frame(pair):
    truth, prediction, inside = pair
    measured = measure_frames(truth, prediction, np.ones_like(inside))
    for name in ("psnr", "ssim", "mae", "nlpd", "flicker"):
        np.testing.assert_allclose(measured[f"{name}_person"].totals, measured[name].totals, rtol=1e-12)


def test_dilation_is_by_a_disc(pair):
    inside = pair[2]
    expected = [ndimage.binary_dilation(mask, disk(8)) for mask in inside]
    np.testing.assert_array_equal(dilated(inside), expected)


@given(st.lists(st.one_of(st.floats(-100, 100), st.just(float("nan"))), min_size=1, max_size=9))
@settings(max_examples=50, deadline=None)
def test_values_add_up_to_the_mean_of_those_that_are_there(numbers):
    there = [number for number in numbers if number == number]
    mean = Values.of(np.array(numbers)).mean()
    assert mean is None if not there else mean == pytest.approx(np.mean(there), abs=1e-9)


def plain_nlpd(truth, prediction):
    """The paper's distance by whole two-dimensional filters, zeros put between samples and borders padded by hand."""
    kernel = np.outer([0.05, 0.25, 0.4, 0.25, 0.05], [0.05, 0.25, 0.4, 0.25, 0.05])
    sigmas = [0.0248, 0.0185, 0.0179, 0.0191, 0.0220, 0.2782]
    filters = [np.zeros((5, 5)) for _ in sigmas]
    filters[0][[1, 2, 2, 2, 3], [2, 1, 3, 4, 2]] = 0.1011, 0.1493, 0.1460, 0.0072, 0.1015
    filters[1][[1, 2, 2, 3], [2, 1, 3, 2]] = 0.0757, 0.1986, 0.1846, 0.0837
    filters[2][[1, 2, 2, 3], [2, 1, 3, 2]] = 0.0477, 0.2138, 0.2243, 0.0467
    for level, values in ((3, (0.2503, 0.2616)), (4, (0.2598, 0.2552)), (5, (0.2215, 0.0717))):
        filters[level][[2, 2], [1, 3]] = values

    def bands(picture):
        rest = picture / 255 @ [0.299, 0.587, 0.114]
        for level, sigma in enumerate(sigmas):
            band = rest
            if level < 5:
                lower = signal.convolve2d(np.pad(rest, 2, "symmetric"), kernel, "valid")[::2, ::2]
                padded = np.pad(lower, 1, "edge")
                spread = np.zeros((2 * padded.shape[0], 2 * padded.shape[1]))
                spread[::2, ::2] = 4 * padded
                upper = signal.convolve2d(spread, kernel, "same")[2:, 2:][: rest.shape[0], : rest.shape[1]]
                band, rest = rest - upper, lower
            yield band / (sigma + signal.convolve2d(np.abs(band), filters[level], "same"))

    pairs = zip(bands(truth.astype(float)), bands(prediction.astype(float)))
    return np.mean([np.sqrt(((a - b) ** 2).mean()) for a, b in pairs])


def test_nlpd_is_the_papers(pair, measured):
    truth, prediction, _ = pair
    expected = [plain_nlpd(*frame) for frame in zip(truth, prediction)]
    np.testing.assert_allclose(measured["nlpd"].totals, expected, rtol=2e-5)


def test_nlpd_sees_blur_and_shift_and_nothing_in_identical_frames(pair):
    truth = pair[0]
    blurred = ndimage.gaussian_filter(truth, (0, 1, 1, 0))
    shifted = np.roll(truth, 2, axis=2)
    same, blur, shift = (pyramid.distance(pyramid.difference_maps(truth, other)) for other in (truth, blurred, shifted))
    assert (same == 0).all()
    assert (blur > 0.02).all()
    assert (shift > blur).all()


def test_nlpd_of_a_region_leaves_out_what_is_far_from_it(pair):
    truth, _, inside = pair
    changed = truth.copy()
    changed[0, 30:, 44:] ^= 255  # farther from the region than the finest bands reach
    maps = [np.asarray(level) for level in pyramid.difference_maps(truth, changed)]
    region, whole = pyramid.distance(maps, inside)[0], pyramid.distance(maps)[0]
    assert region < 0.2 * whole
