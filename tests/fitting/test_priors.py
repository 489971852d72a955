"""The shipped prior: made by its tool's code, a proper density, and the landmarks of the body's anatomy."""

import numpy as np

import champ_jax.data.synthetic.pose_statistics as statistics
from champ_jax.data.synthetic.anatomy import load_anatomy
from champ_jax.data.synthetic.choreography import choreograph
from champ_jax.data.synthetic.pose_statistics import pose_statistics
from champ_jax.fitting.priors import PosePrior, load_prior, read_shipped


def test_landmarks_are_those_of_the_anatomy():
    shipped, anatomy = read_shipped(), load_anatomy()
    np.testing.assert_array_equal(shipped["landmarks"], anatomy.landmarks)
    np.testing.assert_allclose(shipped["landmark_weights"], anatomy.landmark_weights, rtol=1e-6)


def test_other_motions_have_about_the_shipped_statistics():
    shipped, few = read_shipped(), pose_statistics(5, 40)
    spread = np.sqrt(np.diag(shipped["covariance"]))
    assert (np.abs(few["mean"] - shipped["mean"]) < 0.5 * spread + 0.02).all()
    np.testing.assert_array_equal(few["low"], shipped["low"].astype(np.float32))
    moving = shipped["acceleration"] > 1
    ratio = few["acceleration"][moving] / shipped["acceleration"][moving]
    assert ((ratio > 0.3) & (ratio < 3)).all()


def test_actions_that_are_held_out_are_in_none_of_the_motions(monkeypatch):
    seen = []

    def record(motif, frames):
        seen.append(motif)
        return choreograph(motif, frames)

    monkeypatch.setattr(statistics, "choreograph", record)
    without = pose_statistics(5, 12, without=("walk", "run"))
    assert len(seen) == 12
    assert not {"walk", "run"} & {action for motif in seen for action in motif.actions}
    assert not np.allclose(without["mean"], pose_statistics(5, 12)["mean"])


def test_whitened_poses_are_no_larger_than_normal_ones():
    """The factor whitens: poses of the motions have at most unit variance in every direction, for it is widened."""
    prior = load_prior()
    some = pose_statistics(6, 30)
    white = prior.factor @ some["covariance"] @ prior.factor.T
    assert np.linalg.eigvalsh(white).max() < 2.0
    assert np.trace(white) / len(white) < 1
    assert (prior.low < prior.high).all()
    other = PosePrior.of(some)
    np.testing.assert_allclose(other.factor, np.triu(other.factor))
