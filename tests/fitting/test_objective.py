"""Gradients of the fit's terms against JAX's, and the same sum however a clip is cut."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from champ_jax.body.smpl import load_body
from champ_jax.fitting.kinematics import ROOT, TRANSLATION, rotation
from champ_jax.fitting.objective import HALO, NUM_BORDER, Observed, State, Weights, moved, piece_blocks, piece_cost
from champ_jax.fitting.points import feet_of, padded, point_model, whole_body_places
from champ_jax.fitting.predicted import PoseTarget
from champ_jax.fitting.priors import load_prior

FRAMES = 6


def make_weights(collision: float = 0.0) -> Weights:
    prior = load_prior()
    values = {
        "mean": prior.mean,
        "factor": prior.factor,
        "low": prior.low * 0.2,
        "high": prior.high * 0.2,
        "limit": 3.0,
        "acceleration": np.linspace(1, 4, 75),
        "border": np.zeros(NUM_BORDER),
        "border_precision": np.ones(NUM_BORDER),
        "skating": 20.0,
        "height": 5.0,
        "collision": collision,
        "torso": [0.2, 0.15],
    }
    return Weights(**{name: jnp.asarray(value, jnp.float32) for name, value in values.items()})


@pytest.fixture(scope="module")
def problem():
    model = point_model(load_body(), padded(whole_body_places(load_body())[1], feet_of(load_body())))
    rng = np.random.default_rng(2)
    total = FRAMES + 2 * HALO
    vector = rng.normal(0, 0.3, (total, 75))
    vector[:, ROOT] = 0
    vector[:, TRANSLATION] += [0, 0, 4]
    root = rotation(jnp.asarray(np.array([3, 0, 0]) + rng.normal(0, 0.2, (total, 3)), jnp.float32))
    known = np.ones(total)
    known[:HALO] = known[-HALO:] = 0
    focal = np.full(total, 600.0)
    focal[3] = 0  # a frame whose points are given in meters
    points = rng.normal(0, 60, (total, len(model), 3)) * [1, 1, 0]
    points[3] = np.array([0, 0, 4]) + rng.normal(0, 1, (len(model), 3))
    precision = rng.uniform(0, 1, (total, len(model))) / 100
    precision[3] *= 1e4
    observed = Observed(
        *(jnp.asarray(value, jnp.float32) for value in (points, precision, focal)),
        camera=rotation(jnp.asarray(rng.normal(0, 0.3, (total, 3)), jnp.float32)),
        planted=jnp.asarray(rng.uniform(0, 1, (total, 6)), jnp.float32),
        standing=jnp.asarray(rng.uniform(0, 1, (total, 6)), jnp.float32),
        known=jnp.asarray(known, jnp.float32),
        free=jnp.asarray(known, jnp.float32),
        predicted=PoseTarget(
            rotation(jnp.asarray(np.array([3, 0, 0]) + rng.normal(0, 0.4, (total, 3)), jnp.float32)),
            jnp.asarray(rng.normal(0, 0.3, (total, 69)), jnp.float32),
            jnp.asarray(np.where(np.arange(total) == 4, 0, 9.0), jnp.float32),
        ),
    )
    return (
        model,
        observed,
        State(jnp.asarray(vector, jnp.float32), root),
        jnp.asarray(rng.normal(0, 0.1, NUM_BORDER), jnp.float32),
    )


def test_gradients_are_those_of_jax(problem):
    model, observed, state, border = problem
    weights = make_weights()

    def cost(step, change):
        return piece_cost(model, observed, moved(state, step), border + change, weights).sum()

    step, change = jnp.zeros_like(state.vector), jnp.zeros(NUM_BORDER)
    by_state, by_border = jax.jit(jax.grad(cost, argnums=(0, 1)))(step, change)
    blocks, _, border_gradient = jax.jit(piece_blocks)(model, observed, state, border, weights)
    expected = by_state[HALO:-HALO] / 2
    np.testing.assert_allclose(blocks.gradient, expected, atol=2e-3 * float(jnp.abs(expected).max()))
    np.testing.assert_allclose(border_gradient, by_border / 2, atol=2e-3 * float(jnp.abs(by_border).max()))
    assert (np.abs(by_border) > 0).all()


def test_steps_along_the_blocks_go_down(problem):
    """The blocks are the terms' own: solved as a dense system they give a step that lowers the cost, torso too."""
    model, observed, state, border = problem
    weights = make_weights(collision=5.0)
    run = jax.jit(piece_cost)
    blocks, block, gradient = jax.jit(piece_blocks)(model, observed, state, border, weights)
    size = 75
    dense = np.zeros((FRAMES * size + NUM_BORDER,) * 2)
    for frame in range(FRAMES):
        own = slice(frame * size, (frame + 1) * size)
        dense[own, own] = blocks.diagonal[frame]
        dense[own, FRAMES * size :] = blocks.border[frame]
        dense[FRAMES * size :, own] = blocks.border[frame].T
        if frame + 1 < FRAMES:
            after = slice((frame + 1) * size, (frame + 2) * size)
            dense[own, after], dense[after, own] = blocks.next[frame], blocks.next[frame].T
        if frame + 2 < FRAMES:
            after = slice((frame + 2) * size, (frame + 3) * size)
            dense[own, after] = dense[after, own] = np.diag(blocks.after_next[frame])
    dense[FRAMES * size :, FRAMES * size :] = block + np.eye(NUM_BORDER)
    assert np.linalg.eigvalsh(dense).min() > 0
    right = np.concatenate([np.ravel(blocks.gradient), gradient])
    solution = -np.linalg.solve(dense + 0.05 * np.diag(np.diag(dense)), right)
    step = jnp.zeros_like(state.vector).at[HALO:-HALO].set(solution[:-NUM_BORDER].reshape(FRAMES, size))
    before = float(run(model, observed, state, border, weights).sum())
    after = run(model, observed, moved(state, 0.3 * step), border + 0.3 * solution[-NUM_BORDER:], weights).sum()
    assert float(after) < 0.95 * before


def test_a_clip_in_pieces_is_the_same_clip(problem):
    model, observed, state, border = problem
    weights = make_weights(collision=5.0)
    run = jax.jit(piece_blocks)
    whole, block, gradient = run(model, observed, state, border, weights)
    parts, blocks, gradients = [], 0, 0
    for first in (0, 3):
        frames = slice(first, first + 3 + 2 * HALO)
        some, one, two = run(
            model, *jax.tree.map(lambda array, frames=frames: array[frames], (observed, state)), border, weights
        )
        parts.append(some)
        blocks, gradients = blocks + one, gradients + two
    joined = jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *parts)
    for field in dataclasses.fields(whole):
        one, other = getattr(whole, field.name), getattr(joined, field.name)
        np.testing.assert_allclose(one, other, atol=1e-4 * float(jnp.abs(one).max()), err_msg=field.name)
    np.testing.assert_allclose(blocks, block, atol=1e-4 * float(jnp.abs(block).max()))
    np.testing.assert_allclose(gradients, gradient, atol=1e-4 * float(jnp.abs(gradient).max()))
