"""The bordered banded solver against NumPy's dense one, in one piece and in several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from champ_jax.fitting.banded import Blocks, eliminate, solve_border, start, substitute

FRAMES, SIZE, BORDER = 12, 4, 3


@pytest.fixture(scope="module")
def system():
    """A random positive definite system with the fit's structure: blocks, their dense matrix, right side."""
    rng = np.random.default_rng(5)
    count = FRAMES * SIZE
    dense = np.zeros((count + BORDER, count + BORDER))
    for frame in range(FRAMES):  # residuals of one frame and the border, of two frames, of accelerations
        rows = rng.normal(size=(SIZE + 1, count + BORDER)) * 0
        own = slice(frame * SIZE, (frame + 1) * SIZE)
        rows[:, own], rows[:, count:] = rng.normal(size=(SIZE + 1, SIZE)), rng.normal(size=(SIZE + 1, BORDER))
        dense += rows.T @ rows
        if frame + 1 < FRAMES:
            rows = np.zeros((2, count + BORDER))
            rows[:, frame * SIZE : (frame + 2) * SIZE] = rng.normal(size=(2, 2 * SIZE))
            dense += rows.T @ rows
        if frame + 2 < FRAMES:
            rows = np.zeros((SIZE, count + BORDER))
            for place, factor in enumerate((1, -2, 1)):
                rows[:, (frame + place) * SIZE : (frame + place + 1) * SIZE] = factor * np.diag([1.0, 2, 0.5, 3])
            dense += rows.T @ rows
    dense += 0.1 * np.eye(len(dense))
    gradient = rng.normal(size=len(dense))
    return dense, gradient


def blocks_of(dense: np.ndarray, gradient: np.ndarray, first: int, last: int) -> Blocks:
    count = FRAMES * SIZE
    padded = np.zeros((count + 2 * SIZE, count + 2 * SIZE))
    padded[:count, :count] = dense[:count, :count]
    at = [slice(frame * SIZE, (frame + 1) * SIZE) for frame in range(FRAMES + 2)]
    frames = range(first, last)
    values = (
        np.stack([padded[at[t], at[t]] for t in frames]),
        np.stack([padded[at[t], at[t + 1]] for t in frames]),
        np.stack([np.diag(padded[at[t], at[t + 2]]) for t in frames]),
        np.stack([dense[at[t], count:] for t in frames]),
        np.stack([gradient[at[t]] for t in frames]),
    )
    return Blocks(*(jnp.asarray(value, jnp.float32) for value in values))


@pytest.mark.parametrize("piece", [12, 4])
def test_equals_the_dense_solution(system, piece):
    dense, gradient = system
    count = FRAMES * SIZE
    run, back = jax.jit(eliminate), jax.jit(substitute)
    carry = start(SIZE, jnp.asarray(dense[count:, count:], jnp.float32), jnp.asarray(gradient[count:], jnp.float32))
    factors = []
    for first in range(0, FRAMES, piece):
        carry, some = run(carry, blocks_of(dense, gradient, first, first + piece))
        factors.append(some)
    border = solve_border(carry)
    following, parts = jnp.zeros(2 * SIZE), []
    for some in reversed(factors):
        following, solution = back(following, border, some)
        parts.append(np.asarray(solution))
    found = np.concatenate([np.concatenate(parts[::-1]).ravel(), border])
    expected = scipy.linalg.solve(dense, -gradient, assume_a="pos")
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
