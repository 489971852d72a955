"""Every attention kernel at the shapes of the networks, forward and with its backward pass."""

import jax
import jax.numpy as jnp

from benchmarks.sizes import model_config
from benchmarks.timing import Row, measure
from champ_jax.common.errors import InputError
from champ_jax.models.attention import KERNELS, attention, check_kernel

TRAINED = 4  # sequences in a backward pass at most, as stage 1 has on one device
BACKWARD = 3.5  # a forward and a backward pass, in forward passes: five products where the forward one has two


def shapes(model: str, size: int, frames: int) -> dict[str, tuple[tuple[int, ...], int]]:
    """{place: ((sequences, queries, heads, head size), keys)} of every attention of a clip at `size` x `size`."""
    config = model_config(model)
    found: dict[str, tuple[tuple[int, ...], int]] = {}
    latent = size // config.vae.downscale
    for level, (channels, heads) in enumerate(zip(config.unet.block_out_channels, config.unet.heads)):
        tokens = max(1, latent >> level) ** 2
        found[f"level {level}, with the bank"] = (frames, tokens, heads, channels // heads), 2 * tokens
    finest = config.unet.block_out_channels[0]
    heads = config.motion.heads
    found["motion module, finest level"] = (latent**2, frames, heads, finest // heads), frames
    width = config.vae.block_out_channels[-1]
    found["VAE"] = (1, latent**2, 1, width), latent**2
    return found


def run(model: str, size: int, frames: int, dtype: str, repeats: int) -> tuple[list[Row], list[str]]:
    """Times the kernels that this device has at every shape.

    Args:
      model: 'full' or 'toy'.
      size: side of the pictures.
      frames: length of the clip.
      dtype: 'bfloat16' or 'float32'.
      repeats: counted runs of each.

    Returns:
      The rows, and why kernels cannot run.
    """
    rows, refused = [], []
    for place, (shape, keys) in shapes(model, size, frames).items():
        for kernel in KERNELS:
            key_shape = (shape[0], keys, *shape[2:])
            try:
                check_kernel(kernel, shape, key_shape, dtype)
            except InputError as error:
                refused.append(f"{place}: {error}")
                continue
            rows += _measure(place, kernel, shape, keys, dtype, repeats)
    return rows, refused


def _measure(place: str, kernel: str, shape: tuple[int, ...], keys: int, dtype: str, repeats: int) -> list[Row]:
    def draw(seed: int, count: int, length: int) -> jax.Array:
        return jax.random.normal(jax.random.key(seed), (count, length, *shape[2:]), jnp.float32).astype(dtype)

    def forward(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        return attention(query, key, value, kernel=kernel)

    def both(query: jax.Array, key: jax.Array, value: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, ...]:
        return jax.vjp(forward, query, key, value)[1](cotangent)

    rows = []
    fewer = shape[0] if shape[0] > shape[1] else min(shape[0], TRAINED)  # a motion module's sequences are pixels
    for words, count, function, share in (("", shape[0], forward, 1.0), (", backward too", fewer, both, BACKWARD)):
        arrays = [draw(0, count, shape[1]), draw(1, count, keys), draw(2, count, keys)]
        if function is both:
            arrays.append(draw(3, count, shape[1]))
        compiled = jax.jit(function)
        flop = share * 4 * count * shape[1] * keys * shape[2] * shape[3]
        per = f"{count} x {shape[1]} queries, {keys} keys, {shape[2]} heads of {shape[3]}"
        name = f"{place}, {kernel}{words}"
        rows.append(measure(name, lambda c=compiled, a=arrays: c(*a), repeats=repeats, per=per, flop=flop))
    return rows
