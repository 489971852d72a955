"""What the device reaches at best, to hold other figures against: a large matrix product and a large copy."""

import functools

import jax
import jax.numpy as jnp

from benchmarks.timing import Row, measure

# (side of the matrices, products in a row, bytes of the copied array)
_SIZES = {"full": (8192, 8, 2**31), "toy": (256, 2, 2**24)}


def run(model: str, dtype: str, repeats: int) -> list[Row]:
    """Times random matrices of `dtype` multiplied in a chain, and reading and writing an array once.

    Random numbers, for products of zeros run faster.

    Args:
      model: 'full', sizes that fill an accelerator, or 'toy'.
      dtype: 'bfloat16' or 'float32'.
      repeats: counted runs.
    """
    side, products, size = _SIZES[model]
    left, right = (
        jax.random.normal(key, (side, side), jnp.float32).astype(dtype) for key in jax.random.split(jax.random.key(0))
    )
    right = (right.astype(jnp.float32) * side**-0.5).astype(dtype)  # a chain of products keeps its size

    @jax.jit
    def multiply(left: jax.Array, right: jax.Array) -> jax.Array:
        return functools.reduce(lambda x, _: x @ right, range(products), left)

    flop = 2 * products * side**3
    rows = [measure(f"matrix product, {dtype}", lambda: multiply(left, right), repeats=repeats, flop=flop)]
    array = jax.random.normal(jax.random.key(1), (size // 4,), jnp.float32)
    add = jax.jit(lambda x: x + 1)
    rows.append(measure("copy, float32", lambda: add(array), repeats=repeats, moved=2 * size))
    return rows
