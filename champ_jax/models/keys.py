"""Random keys for initial parameters."""

import jax


class InitKeys:
    """What modules ask of `nnx.Rngs` when they are built, counting in Python.

    nnx.Rngs counts its draws in an array. Where that is traced (nnx.eval_shape, jax.jit of an initialisation) every
    draw costs time in proportion to the draws before it: over a minute for the denoiser, against three seconds here.
    """

    def __init__(self, seed: int | jax.Array):
        """`seed` is an int or a typed key (`jax.random.key`)."""
        self._key = jax.random.key(seed) if isinstance(seed, int) else seed
        self._count = 0

    def params(self) -> jax.Array:
        """The next key."""
        self._count += 1
        return jax.random.fold_in(self._key, self._count)
