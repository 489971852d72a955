"""The temporal motion module (AnimateDiff, Guo et al. 2023): attention over the frames at every pixel.

Everything stays (B, F, N, C) with N pixels: the linears act on the last axis, and the attention contracts over F in
place, so that no pass over memory goes into transposing pixels and frames.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Integer
from champ_jax.models.attention import attention
from champ_jax.models.functional import Buffer
from champ_jax.models.layers import FeedForward, group_norm, layer_norm, linear
from champ_jax.models.options import NetworkOptions
from champ_jax.models.schema import FLAG, HEADS, LAYERS, check_fields, from_own_json
from champ_jax.models.transformer import Rows

_RULES = {
    "heads": HEADS,
    "attention_blocks": LAYERS,
    "max_length": Integer(minimum=1, maximum=2**16),
    "in_middle": FLAG,
}


@dataclasses.dataclass(frozen=True)
class MotionConfig:
    """Sizes of the motion modules.

    Attributes:
      heads: attention heads.
      attention_blocks: temporal self-attentions a module.
      max_length: frames the position table covers (32; AnimateDiff v1 has 24).
      in_middle: whether the UNet's middle block has one (AnimateDiff v1 has none).

    Raises:
      InputError: a field has the wrong type or is out of range; names the field.
    """

    heads: int = 8
    attention_blocks: int = 2
    max_length: int = 32
    in_middle: bool = True

    def __post_init__(self) -> None:
        check_fields(self, "motion", _RULES)

    @classmethod
    def from_json(cls, fields: Any) -> "MotionConfig":
        """Reads what `dataclasses.asdict` gave; raises InputError on unknown fields."""
        return from_own_json(cls, "motion", fields)


def position_table(length: int, channels: int) -> np.ndarray:
    """Sinusoidal position encoding (1, length, channels) float32, sine and cosine interleaved (Vaswani et al. 2017)."""
    angle = np.arange(length)[:, None] * np.exp(np.arange(0, channels, 2) * (-np.log(10000.0) / channels))
    table = np.zeros((1, length, channels), np.float32)
    table[0, :, 0::2], table[0, :, 1::2] = np.sin(angle), np.cos(angle)[:, : channels // 2]
    return table


class PositionEncoder(nnx.Module):
    """Adds the position table (`position_table`), which restarts at 0 in every window."""

    def __init__(self, length: int, channels: int, options: NetworkOptions):
        self.pe = Buffer(jax.ShapeDtypeStruct((1, length, channels), options.param_dtype))

    def __call__(self, x: Float[Array, "batch frames pixels channels"]) -> Float[Array, "batch frames pixels channels"]:
        frames, table = x.shape[1], self.pe.get_value()
        if frames > table.shape[1]:
            raise InputError(f"{frames} frames in a window, the motion modules know {table.shape[1]}: use fewer")
        return x + table[:, :frames, None].astype(x.dtype)


class TemporalAttention(nnx.Module):
    """Self-attention over the frames of every pixel, with positions added to its input."""

    def __init__(self, channels: int, config: MotionConfig, options: NetworkOptions):
        if channels % config.heads:
            raise InputError(f"{channels} channels do not divide into {config.heads} temporal attention heads")
        self.to_q = linear(channels, channels, options, use_bias=False)
        self.to_k = linear(channels, channels, options, use_bias=False)
        self.to_v = linear(channels, channels, options, use_bias=False)
        self.to_out = linear(channels, channels, options)
        self.pos_encoder = PositionEncoder(config.max_length, channels, options)
        self.heads = config.heads
        self.kernel, self.platform = options.kernels.temporal, options.kernels.platform

    def __call__(self, x: Float[Array, "batch frames pixels channels"]) -> Float[Array, "batch frames pixels channels"]:
        x = self.pos_encoder(x)
        split = [layer(x).reshape(*x.shape[:3], self.heads, -1) for layer in (self.to_q, self.to_k, self.to_v)]
        if self.kernel == "xla":
            out = _attend_over_frames(*split)
        else:
            out = self._attend_by_kernel(*split)
        return self.to_out(out.reshape(x.shape))

    def _attend_by_kernel(self, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        batch, frames, pixels, heads, size = query.shape
        sequences = (x.swapaxes(1, 2).reshape(batch * pixels, frames, heads, size) for x in (query, key, value))
        out = attention(*sequences, kernel=self.kernel, platform=self.platform)
        return out.reshape(batch, pixels, frames, heads, size).swapaxes(1, 2)


def _attend_over_frames(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Attention along axis 1 of (B, F, N, heads, D); the F x F scores of N pixels grow with N only."""
    scale = query.shape[-1] ** -0.5
    scores = jnp.einsum("bfnhd,bgnhd->bnhfg", query, key, preferred_element_type=jnp.float32) * scale
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("bnhfg,bgnhd->bfnhd", weights, value)


class TemporalTransformerBlock(nnx.Module):
    """Temporal self-attentions and a GEGLU feed-forward, each after its LayerNorm, residual."""

    def __init__(self, channels: int, config: MotionConfig, options: NetworkOptions):
        count = config.attention_blocks
        self.attention_blocks = nnx.List([TemporalAttention(channels, config, options) for _ in range(count)])
        self.norms = nnx.List([layer_norm(channels, options) for _ in range(count)])
        self.ff = FeedForward(channels, options)
        self.ff_norm = layer_norm(channels, options)

    def __call__(self, x: Float[Array, "batch frames pixels channels"]) -> Float[Array, "batch frames pixels channels"]:
        for attend, norm in zip(self.attention_blocks, self.norms):
            x = x + attend(norm(x))
        return x + self.ff(self.ff_norm(x))


class TemporalTransformer(nnx.Module):
    """GroupNorm per frame, linear in, one temporal transformer block, linear out (initially zero), residual."""

    def __init__(self, channels: int, config: MotionConfig, options: NetworkOptions, *, groups: int = 32):
        self.norm = group_norm(channels, options, groups=groups, epsilon=1e-6)
        self.proj_in = linear(channels, channels, options)
        self.transformer_blocks = nnx.List([TemporalTransformerBlock(channels, config, options)])
        self.proj_out = linear(channels, channels, options)

    def __call__(
        self, x: Float[Array, "pictures height width channels"], rows: Rows
    ) -> Float[Array, "pictures height width channels"]:
        pictures, height, width, channels = x.shape
        hidden = self.norm(x).reshape(pictures // rows.frames, rows.frames, height * width, channels)
        hidden = self.transformer_blocks[0](self.proj_in(hidden))
        return x + self.proj_out(hidden).reshape(x.shape)


class MotionModule(nnx.Module):
    """One motion module: mixes the frames of each clip at every pixel."""

    def __init__(self, channels: int, config: MotionConfig, options: NetworkOptions, *, groups: int = 32):
        self.temporal_transformer = TemporalTransformer(channels, config, options, groups=groups)

    def __call__(
        self, x: Float[Array, "pictures height width channels"], rows: Rows
    ) -> Float[Array, "pictures height width channels"]:
        return self.temporal_transformer(x, rows)
