"""The likeliest path against all paths, planted feet, and what is said about a fit."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from champ_jax.body.motion import Motion
from champ_jax.fitting import starts
from champ_jax.fitting.advice import advise, stretches
from champ_jax.fitting.contact import ground_height, planted_feet, standing_feet
from champ_jax.fitting.fit import Fit


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), frames=st.integers(1, 4))
def test_the_likeliest_path_is_the_best_of_all(seed, frames):
    rng = np.random.default_rng(seed)
    costs, joints = rng.uniform(0, 300, (frames, 3)), rng.uniform(-0.4, 0.4, (frames, 3, 5, 3))

    def total(path):
        jumps = [
            min(np.linalg.norm(joints[t][path[t]] - joints[t + 1][path[t + 1]], axis=-1).mean(), starts._LARGEST_JUMP)
            for t in range(frames - 1)
        ]
        return costs[np.arange(frames), list(path)].sum() + starts._JUMP * sum(jumps)

    best = min(itertools.product(range(3), repeat=frames), key=total)
    assert np.isclose(total(starts.likeliest_path(costs, joints)), total(best))


def test_interpolation_passes_through_its_frames():
    rng = np.random.default_rng(1)
    frames = np.array([0, 4, 8, 9])
    vectors = rng.normal(size=(4, 75))
    roots = np.stack([starts.rotation_about("y", angle) for angle in (0.0, 0.4, 0.8, 1.0)])
    state = starts.interpolate(frames, vectors, roots, 10)
    np.testing.assert_allclose(state.vector[frames], vectors, rtol=1e-6)
    np.testing.assert_allclose(state.root[frames], roots, atol=1e-6)
    np.testing.assert_allclose(state.root[2], starts.rotation_about("y", 0.2), atol=1e-6)


def test_feet_that_stand_are_planted_and_feet_that_move_are_not():
    frames, fps = 20, 25.0
    feet = np.zeros((frames, 6, 3)) + np.array([0, 1.2, 4])
    feet[:, 3:, 0] = np.linspace(0, 2, frames)[:, None]  # 2.6 m/s
    feet[:, 3:, 1] -= 0.3
    planted = planted_feet(feet, fps, 0.2, np.ones(frames, bool))
    assert (planted[:-1, :3] > 0.99).all()
    assert (planted[:, 3:] < 0.01).all()
    assert not planted[-1].any()
    up = np.array([0.0, -1, 0])
    height = ground_height(feet, standing_feet(planted), up)
    np.testing.assert_allclose(height, 1.2)
    heights = feet @ up + height
    np.testing.assert_allclose(heights[:, 3:], 0.3)
    standing = standing_feet(np.ones_like(planted), heights)
    assert (standing[:, :3] > 0.99).all()
    assert (standing[:, 3:] < 0.01).all()
    unseen = planted_feet(feet, fps, 0.2, np.arange(frames) != 5)
    assert not unseen[4:6].any()
    assert ground_height(feet, np.zeros((frames, 6)), up) is None


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 4))
def test_stretches_are_the_runs(chosen, shortest):
    chosen = np.array(chosen, bool)
    found = stretches(chosen, shortest)
    again = np.zeros_like(chosen)
    for first, last in found:
        assert last - first >= shortest
        assert chosen[first:last].all()
        assert first == 0 or not chosen[first - 1]
        again[first:last] = True
    assert (again <= chosen).all()
    if shortest == 1:
        np.testing.assert_array_equal(again, chosen)


def test_advice_names_frames():
    frames = 30
    valid = np.ones(frames, bool)
    valid[10:13] = False
    errors = np.full(frames, 2.0, np.float32)
    errors[20:26] = 9
    rotations = np.tile(np.eye(3), (frames, 24, 1, 1))
    motion = Motion.create(rotations, np.zeros(10), np.ones((frames, 3)), 500.0, (64, 48), 24, "open", valid=valid)
    lines = advise(Fit(motion, errors, np.zeros((frames, 6)), 500.0, np.zeros((frames, 24, 3))))
    assert "3 of 30 frames, first in 10" in lines[0]
    assert "frames 20 to 25" in lines[1]
    assert len(lines) == 2
