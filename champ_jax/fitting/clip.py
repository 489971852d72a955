"""Gauss-Newton over a whole clip: all frames and the shared border in one step, damped until it goes down.

A clip goes through compiled programs of `PIECE` frames each, which hand the elimination's state on, so that the step is
the same as if it were solved at once. Clips beyond `STRETCH` frames are solved stretch after stretch: each one overlaps
the one before, whose last frames that count are held, and the border comes from the stretch that shows most.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from champ_jax.fitting.banded import Carry, Factors, eliminate, solve_border, substitute
from champ_jax.fitting.banded import start as start_elimination
from champ_jax.fitting.kinematics import NUM_STATE, TRANSLATION
from champ_jax.fitting.objective import (
    FOCAL,
    HALO,
    NUM_BORDER,
    Observed,
    State,
    Weights,
    moved,
    piece_blocks,
    piece_cost,
)
from champ_jax.fitting.points import PointModel

PIECE = 32
STRETCH = 1536
OVERLAP = 64
_HELD = 2  # frames before a stretch that its accelerations reach

_TRIES = 6  # of one step, each with more damping
_ENOUGH = 1e-4  # share of the cost by which a step must lower it
_NEAREST = 0.2  # meters


@jax.jit
def _forward(
    model: PointModel,
    observed: Observed,
    state: State,
    border: jax.Array,
    weights: Weights,
    carry: Carry,
    damping: jax.Array,
) -> tuple[Carry, Factors]:
    with jax.default_matmul_precision("highest"):
        blocks, block, gradient = piece_blocks(model, observed, state, border, weights)
        places = jnp.arange(NUM_STATE)
        own = blocks.diagonal[:, places, places]
        blocks = dataclasses.replace(
            blocks, diagonal=blocks.diagonal.at[:, places, places].set(own * (1 + damping) + 1e-6)
        )
        block = block + damping * jnp.diag(jnp.diag(block))
        carry = dataclasses.replace(carry, border=carry.border + block, gradient=carry.gradient + gradient)
        return eliminate(carry, blocks)


@jax.jit
def _backward(
    following: jax.Array, border: jax.Array, factors: Factors, state: State, free: jax.Array
) -> tuple[jax.Array, State]:
    with jax.default_matmul_precision("highest"):
        following, step = substitute(following, border, factors)
        return following, moved(state, step * free[:, None])


@jax.jit
def _cost(model: PointModel, observed: Observed, state: State, border: jax.Array, weights: Weights) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        return piece_cost(model, observed, state, border, weights)


@jax.jit
def _border_step(carry: Carry) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        return solve_border(carry)


@dataclasses.dataclass
class Clip:
    """A clip that is being solved; arrays are NumPy.

    Attributes:
      model: the points.
      observed: all frames.
      state: all frames.
      border: (14,).
      focal_range: what the border's logarithm of the focal length may be.
    """

    model: PointModel
    observed: Observed
    state: State
    border: np.ndarray
    focal_range: tuple[float, float]

    def __len__(self) -> int:
        return len(self.state.vector)

    def solve(self, weights: Weights, iterations: int, progress: Callable[[str], None] = lambda line: None) -> None:
        """Takes up to `iterations` steps, stretch by stretch."""
        frames = len(self)
        if frames <= STRETCH:
            self._solve_stretch(weights, iterations, 0, frames, np.ones(frames, bool), progress)
            return
        starts = list(range(0, frames - OVERLAP, STRETCH - OVERLAP))
        seen = np.asarray(self.observed.precision).sum(axis=1)
        best = max(starts, key=lambda first: seen[first : first + STRETCH].sum())
        kept = self.state
        last = min(best + STRETCH, frames)
        self._solve_stretch(weights, iterations, best, last, np.ones(last - best, bool), progress)
        self.state = kept
        held = dataclasses.replace(
            weights,
            border=jnp.asarray(self.border, jnp.float32),
            border_precision=jnp.full(NUM_BORDER, 1e12, jnp.float32),
        )
        for first in starts:
            begin = max(first - _HELD, 0)
            last = min(first + STRETCH, frames)
            free = np.arange(begin, last) >= first
            before = self.state
            self._solve_stretch(held, iterations, begin, last, free, progress)
            if last < frames:  # what overlaps with the next stretch is solved again there
                ours = slice(begin, last - OVERLAP // 2)
                self.state = _replaced(before, ours, jax.tree.map(lambda array, at=ours: array[at], self.state))

    def _solve_stretch(
        self,
        weights: Weights,
        iterations: int,
        first: int,
        last: int,
        free: np.ndarray,
        progress: Callable[[str], None],
    ) -> None:
        pieces = _Pieces(self.model, self.observed, weights, first, last, free)
        ahead = np.asarray(self.observed.camera)[first:last, 2]
        state = jax.tree.map(lambda array: array[first:last], self.state)
        border, damping = np.array(self.border, np.float64), 1e-3
        cost = pieces.cost(state, border)
        for _ in range(iterations):
            for _ in range(_TRIES):
                tried, changed = pieces.step(state, border, damping)
                wanted = changed[FOCAL] - border[FOCAL]
                changed[FOCAL] = np.clip(changed[FOCAL], *self.focal_range)
                tried = _zoomed(state, tried, wanted, changed[FOCAL] - border[FOCAL])
                good = np.isfinite(tried.vector).all() and (_depths(ahead, tried) > _NEAREST).all()
                new = pieces.cost(tried, changed) if good and np.isfinite(changed).all() else np.inf
                if new < cost:
                    break
                damping = min(damping * 8, 1e6)
            else:
                break
            gained = (cost - new) / cost
            state, border, cost, damping = tried, changed, new, max(damping * 0.3, 1e-6)
            progress(f"cost {cost / max(last - first, 1):.1f} a frame")
            if gained < _ENOUGH:
                break
        self.state = _replaced(self.state, slice(first, last), state)
        self.border = border


class _Pieces:
    """A stretch cut into pieces of `PIECE` frames, the last one padded."""

    def __init__(
        self, model: PointModel, observed: Observed, weights: Weights, first: int, last: int, free: np.ndarray
    ):
        self.model, self.weights = model, weights
        self.frames = last - first
        self.count = -(-self.frames // PIECE)
        cut = jax.tree.map(lambda array: self._padded(np.asarray(array)[first:last]), observed)
        cut = dataclasses.replace(
            cut,
            known=self._padded(np.ones(self.frames, np.float32)),
            free=self._padded(free.astype(np.float32)),
        )
        # Frames that are held pull at nothing but through accelerations and planted feet.
        self.observed = [jax.tree.map(lambda array, at=at: jnp.asarray(array[at]), cut) for at in self._places()]

    def _places(self) -> list[slice]:
        return [slice(piece * PIECE, (piece + 1) * PIECE + 2 * HALO) for piece in range(self.count)]

    def _padded(self, array: np.ndarray) -> np.ndarray:
        after = self.count * PIECE - self.frames + HALO
        return np.concatenate(
            [np.repeat(array[:1] * 0, HALO, axis=0), array, np.repeat(array[:1] * 0, after, axis=0)]
        ).astype(np.float32)

    def _states(self, state: State) -> list[State]:
        vector, root = self._padded(np.asarray(state.vector)), self._padded(np.asarray(state.root))
        empty = ~root.any(axis=(1, 2))
        root[empty] = np.eye(3)
        vector[empty, TRANSLATION.stop - 1] = 1
        return [State(jnp.asarray(vector[at]), jnp.asarray(root[at])) for at in self._places()]

    def cost(self, state: State, border: np.ndarray) -> float:
        shared = jnp.asarray(border, jnp.float32)
        values = [
            _cost(self.model, seen, some, shared, self.weights)
            for seen, some in zip(self.observed, self._states(state))
        ]
        known = sum(float(np.asarray(value, np.float64).sum()) for value in values)
        away = (np.asarray(border) - np.asarray(self.weights.border, np.float64)) ** 2
        return known + float((away * np.asarray(self.weights.border_precision, np.float64)).sum())

    def step(self, state: State, border: np.ndarray, damping: float) -> tuple[State, np.ndarray]:
        shared = jnp.asarray(border, jnp.float32)
        precision = np.asarray(self.weights.border_precision, np.float64)
        pulled = precision * (np.asarray(border) - np.asarray(self.weights.border, np.float64))
        carry = start_elimination(
            NUM_STATE, jnp.asarray(np.diag(precision), jnp.float32), jnp.asarray(pulled, jnp.float32)
        )
        factors, states = [], self._states(state)
        strength = jnp.asarray(damping, jnp.float32)
        for seen, some in zip(self.observed, states):
            carry, kept = _forward(self.model, seen, some, shared, self.weights, carry, strength)
            factors.append(kept)
        change = _border_step(carry)
        following, parts = jnp.zeros(2 * NUM_STATE), []
        for seen, some, kept in zip(reversed(self.observed), reversed(states), reversed(factors)):
            own = jax.tree.map(lambda array: array[HALO:-HALO], some)
            following, tried = _backward(following, change, kept, own, seen.free[HALO:-HALO])
            parts.append(tried)
        joined = jax.tree.map(lambda *arrays: np.concatenate(arrays)[: self.frames], *parts[::-1])
        return joined, border + np.asarray(change, np.float64)


def _depths(ahead: np.ndarray, state: State) -> np.ndarray:
    """(T,) how far before each frame's camera, which looks along `ahead` (T, 3), the body is, meters."""
    return np.sum(ahead * np.asarray(state.vector)[:, TRANSLATION], axis=1)


def _zoomed(before: State, after: State, wanted: float, taken: float) -> State:
    """The step `after` with distances that follow the focal length as they do in a picture, in proportion.

    A step is linear: for a logarithm `wanted` of a factor on the focal length it moves a person at distance z by about
    z * wanted. Along that line the person would change size in the picture, and long steps fail.

    Args:
      before: the state before the step.
      after: the state after it.
      wanted: the logarithm of the factor in the linear step.
      taken: the one that is taken, which the range of focal lengths may have cut.
    """
    if wanted == 0:
        return after
    depth = TRANSLATION.stop - 1
    vector = np.array(after.vector)
    vector[:, depth] = (vector[:, depth] - wanted * np.asarray(before.vector)[:, depth]) * np.exp(taken)
    return dataclasses.replace(after, vector=vector)


def _replaced(state: State, at: slice, part: State) -> State:
    def put(array: np.ndarray, values: np.ndarray) -> np.ndarray:
        array = np.array(array)
        array[at] = values
        return array

    return jax.tree.map(put, state, part)
