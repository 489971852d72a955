"""Normal equations of a clip: blocks of frames coupled with the next two, and a border that all of them share.

    sum over frames of  D_t (t, t),  E_t (t, t+1),  F_t (t, t+2, diagonal),  B_t (t, border),   and  C (border, border)

Cholesky elimination frame after frame carries a fill-in over two frames and the border's Schur complement (the
information filter of a second-order chain); substitution runs backwards. Both work in pieces of a fixed number of
frames, so that one compiled program serves clips of any length, and the result is the same however a clip is cut.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Blocks:
    """A piece of P frames with N numbers each, and a border of B numbers.

    Attributes:
      diagonal: (P, N, N) symmetric and, with the fill-in of earlier frames, positive definite.
      next: (P, N, N) rows of the frame, columns of the next one.
      after_next: (P, N) the diagonal of the block with the frame after the next.
      border: (P, N, B).
      gradient: (P, N).
    """

    diagonal: jax.Array
    next: jax.Array
    after_next: jax.Array
    border: jax.Array
    gradient: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Carry:
    """What elimination hands from piece to piece.

    Attributes:
      fill: (2N, 2N) over the next two frames.
      right: (2N, 1 + B) what is added to their gradient and border.
      border: (B, B) the border's Schur complement so far.
      gradient: (B,) the border's gradient so far.
    """

    fill: jax.Array
    right: jax.Array
    border: jax.Array
    gradient: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Factors:
    """The factors of a piece, for substitution: lower (P, N, N), upper (P, N, 2N), right (P, N, 1 + B)."""

    lower: jax.Array
    upper: jax.Array
    right: jax.Array


def start(size: int, border: jax.Array, gradient: jax.Array) -> Carry:
    """Before the first frame of N = `size` numbers: the border's own block (B, B) and gradient (B,)."""
    zeros = jnp.zeros((2 * size, 2 * size), border.dtype)
    return Carry(zeros, jnp.zeros((2 * size, 1 + len(gradient)), border.dtype), border, gradient)


def eliminate(carry: Carry, blocks: Blocks) -> tuple[Carry, Factors]:
    """Eliminates the frames of a piece, from first to last."""
    size = blocks.gradient.shape[1]

    def step(carry: Carry, frame: Blocks) -> tuple[Carry, Factors]:
        lower = jnp.linalg.cholesky(carry.fill[:size, :size] + frame.diagonal)
        right = jnp.concatenate([frame.gradient[:, None], frame.border], axis=1) + carry.right[:size]
        coupling = [carry.fill[:size, size:] + frame.next, jnp.diag(frame.after_next), right]
        solved = solve_triangular(lower, jnp.concatenate(coupling, axis=1), lower=True)
        upper, right = solved[:, : 2 * size], solved[:, 2 * size :]
        fill = jnp.zeros_like(carry.fill).at[:size, :size].set(carry.fill[size:, size:]) - upper.T @ upper
        handed = jnp.zeros_like(carry.right).at[:size].set(carry.right[size:]) - upper.T @ right
        border = carry.border - right[:, 1:].T @ right[:, 1:]
        gradient = carry.gradient - right[:, 1:].T @ right[:, 0]
        return Carry(fill, handed, border, gradient), Factors(lower, upper, right)

    return jax.lax.scan(step, carry, blocks)


def substitute(following: jax.Array, border: jax.Array, factors: Factors) -> tuple[jax.Array, jax.Array]:
    """The solution of a piece, H x = -gradient, from its last frame to the first.

    Args:
      following: (2N,) the solution of the two frames after the piece; 0 after the last piece.
      border: (B,) the border's solution.

    Returns:
      What the piece before needs as `following`, and (P, N).
    """
    size = factors.lower.shape[-1]

    def step(following: jax.Array, frame: Factors) -> tuple[jax.Array, jax.Array]:
        right = -(frame.right[:, 0] + frame.right[:, 1:] @ border + frame.upper @ following)
        solution = solve_triangular(frame.lower, right, lower=True, trans=1)
        return jnp.concatenate([solution, following[:size]]), solution

    return jax.lax.scan(step, following, factors, reverse=True)


def solve_border(carry: Carry, damping: jax.Array | float = 0.0) -> jax.Array:
    """(B,) the border's solution, once all frames are eliminated."""
    border = carry.border + damping * jnp.diag(jnp.diag(carry.border))
    lower = jnp.linalg.cholesky(border)
    return -solve_triangular(lower, solve_triangular(lower, carry.gradient, lower=True), lower=True, trans=1)
