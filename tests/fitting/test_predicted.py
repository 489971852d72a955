"""Poses that a network saw, as one more start and a weak term of the fit."""

import dataclasses

import numpy as np
import pytest
from synthetic_clips import clip
from test_fit import error

from champ_jax.body.motion import Motion
from champ_jax.body.rotations import axis_angle_to_matrix
from champ_jax.body.smpl import load_body
from champ_jax.fitting.fit import Evidence, FitSettings, fit_keypoints, make_weights
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.objective import BETAS
from champ_jax.fitting.predicted import PredictedPoses
from champ_jax.fitting.priors import load_prior

FRAMES = 12


def predictions(truth: Motion, noise: float, seed: int = 0) -> PredictedPoses:
    """The true poses, turned by some rad about every axis of every joint."""
    turns = axis_angle_to_matrix(np.random.default_rng(seed).normal(0, noise, (len(truth), 24, 3)))
    return PredictedPoses(turns @ truth.rotations, truth.translation + np.array([0, 0, 0.2]), np.ones(len(truth), bool))


def nothing(truth: Motion) -> PredictedPoses:
    """What a network gives that saw nobody; compiles the same programs as the others."""
    return dataclasses.replace(predictions(truth, 0.1), known=np.zeros(len(truth), bool))


@pytest.fixture(scope="module")
def case() -> tuple[Motion, Keypoints]:
    """A clip of which shoulders, hips and the left limbs alone are seen."""
    truth, keypoints = clip(frames=FRAMES, noise=2.0)
    seen = keypoints.keypoints.copy()
    seen[:, np.setdiff1d(np.arange(134), [2, 5, 6, 7, 8, 11, 12, 13]), 2] = 0
    return truth, dataclasses.replace(keypoints, keypoints=seen)


def test_what_is_not_seen_comes_from_the_network(case):
    """True poses plus 10 degrees make the fit better; the focal length that is asked for is the fit's own."""
    truth, keypoints = case
    asked = []

    def predict(focal: np.ndarray) -> PredictedPoses:
        asked.append(focal)
        return predictions(truth, 0.17)

    alone = error(fit_keypoints(keypoints, load_body(), predict=lambda focal: nothing(truth)).motion, truth)
    helped = error(fit_keypoints(keypoints, load_body(), predict=predict).motion, truth)
    assert helped < min(0.8 * alone, 45)
    np.testing.assert_array_equal(asked[0], truth.focal)


def test_a_clip_that_is_seen_well_is_not_made_worse(case):
    truth, _ = case
    _, keypoints = clip(frames=FRAMES, noise=2.0)
    alone = error(fit_keypoints(keypoints, load_body(), predict=lambda focal: nothing(truth)).motion, truth)
    helped = error(fit_keypoints(keypoints, load_body(), predict=lambda focal: predictions(truth, 0.17)).motion, truth)
    # Nonsense: somebody else's pose, in frames half of which say that they know nothing.
    wrong = dataclasses.replace(predictions(truth, 1.5), known=np.arange(FRAMES) % 2 == 0)
    misled = error(fit_keypoints(keypoints, load_body(), predict=lambda focal: wrong).motion, truth)
    assert helped < alone + 1
    assert misled < alone + 18  # 29 mm; without the network 15


def test_what_a_network_cannot_have_seen_is_not_used():
    truth, _ = clip(frames=4)
    seen = predictions(truth, 0.0)
    seen.translation[1] = np.nan
    seen.translation[2, 2] = -3
    seen.rotations[3, 5, 0, 0] = np.inf
    assert seen.usable().tolist() == [True, False, False, False]
    target = seen.target()
    assert (target.precision > 0).tolist() == [True, False, False, False]
    assert all(np.isfinite(array).all() for array in (*vars(target).values(), seen.starts(), seen.roots()))
    assert seen.shape()[1] == 0
    assert dataclasses.replace(seen, betas=np.full(10, np.nan)).shape()[1] == 0
    betas, precision = dataclasses.replace(seen, betas=np.arange(10.0)).shape()
    assert precision > 0
    np.testing.assert_array_equal(betas, np.arange(10))


def test_betas_of_the_same_body_count_a_little(case):
    """Between the mean shape and what the network saw, nearer to the mean: that is what its precision says."""
    truth, _ = case
    evidence = Evidence(np.zeros((4, 30, 3)), np.ones((4, 30)), np.ones(4, bool), np.ones(4), (0, 0), 24, 100)
    seen = dataclasses.replace(predictions(truth[:4], 0.1), betas=np.full(10, 2.0))
    without, other, helped = (
        make_weights(load_prior(), dataclasses.replace(evidence, predicted=one), FitSettings())
        for one in (None, predictions(truth[:4], 0.1), seen)
    )
    np.testing.assert_array_equal(other.border, without.border)
    np.testing.assert_array_equal(other.border_precision, without.border_precision)
    expected = 2 / (1 + float(without.border_precision[0]))
    np.testing.assert_allclose(helped.border[BETAS], expected, rtol=1e-5)
    np.testing.assert_allclose(helped.border_precision[BETAS], without.border_precision[BETAS] + 1, rtol=1e-5)
