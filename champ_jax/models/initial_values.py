"""Initial values of parameters that no file gives: one rule for each kind of variable, by its name.

They are made on the host and cost nothing to compile: a jitted initialization of a tiny model's 1,400 variables takes
XLA minutes on a CPU. A value depends on the seed and the name alone, so it is the same on every mesh and in every
process, whether training or the conversion of weights asks for it.
"""

import re
import zlib
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from champ_jax.models.motion_module import position_table

Module = TypeVar("Module", bound=nnx.Module)

# Last layers of branches that begin as the identity: guidance (Champ section 3.3) and the attention in its encoders,
# motion (AnimateDiff), and the residuals of an autoencoder, which first has to learn the linear part of its work.
_ZERO = re.compile(
    r"^guidance\.encoders\.\w+\.(conv_out|.*proj_out)\.kernel$|(^|\.)temporal_transformer\.proj_out\.kernel$"
    r"|^vae\..*\.(conv2|to_out)\.kernel$"
)

_LOG_VARIANCE = -6.0  # log-variance of the latents of an untrained autoencoder


def initialized(module: Module, seed: int = 0, prefix: str = "") -> Module:
    """A module that was built without values, with initial ones; `prefix` is its place in the whole model."""
    graph, state = nnx.split(module)
    values = []
    for path, variable in nnx.to_flat_state(state):
        like = variable.get_value()
        value = initial_value(".".join(map(str, (*filter(None, [prefix]), *path))), like.shape, seed)
        values.append((path, variable.replace(jnp.asarray(value, like.dtype))))
    return nnx.merge(graph, nnx.from_flat_state(values))


def initial_value(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The initial value of a variable, float32 (int32 for position_ids).

    Args:
      name: its dotted path in the whole model, 'guidance.encoders.depth.conv_in.kernel' for example.
      shape: its shape.
      seed: The seed of the run or conversion.

    Raises:
      ValueError: no rule covers the name.
    """
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "pe":
        return position_table(shape[1], shape[2])
    if leaf == "position_ids":
        return np.arange(shape[1], dtype=np.int32)[None]
    if name == "vae.quant_conv.bias":
        # Its second half are the latents' log variances. Zeros would make latents half noise, which a thousand
        # steps hardly lessen: what they say is too weak to learn from.
        return np.where(np.arange(shape[0]) < shape[0] // 2, 0, _LOG_VARIANCE).astype(np.float32)
    if leaf in ("bias", "lora_up") or _ZERO.search(name):  # an adapter begins as nothing
        return np.zeros(shape, np.float32)
    if leaf == "scale":
        return np.ones(shape, np.float32)
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    if leaf in ("kernel", "lora_down"):  # LeCun normal: variance 1 / fan-in, cut off at two standard deviations
        spread = 1 / np.sqrt(np.prod(shape[:-1])) / 0.87962566103423978
        return (spread * _truncated_normal(rng, shape)).astype(np.float32)
    if leaf == "embedding":
        return (rng.standard_normal(shape, np.float32) / np.sqrt(shape[-1])).astype(np.float32)
    if leaf == "class_embedding":
        return rng.standard_normal(shape, np.float32)
    raise ValueError(f"{name}: no rule for its initial value")


def _truncated_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers within -2 ... 2."""
    values = rng.standard_normal(shape, np.float32)
    while (outside := np.abs(values) > 2).any():
        values[outside] = rng.standard_normal(int(outside.sum()), np.float32)
    return values
