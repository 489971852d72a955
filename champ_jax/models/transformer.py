"""The transformer block that gives or reads the reference bank, and the spatial transformer around it.

The bank (Hu et al. 2023, Animate Anyone) is the input of every self-attention of the ReferenceNet; the denoiser's
self-attentions see it as further keys and values.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from champ_jax.common.errors import InputError
from champ_jax.models.attention import attention
from champ_jax.models.functional import mark_unused
from champ_jax.models.layers import Conv1x1, FeedForward, group_norm, layer_norm, linear
from champ_jax.models.options import NetworkOptions


class BlockReference(NamedTuple):
    """What one transformer block of the denoiser reads of the picture; made once per video.

    There is one picture for all rows, or one for each row that reads it.

    Attributes:
      key: to_k of the bank entry; None without a bank.
      value: to_v of the bank entry; None without a bank.
      cross: the cross-attention's output for the image token.
    """

    key: Float[Array, "pictures tokens channels"] | None
    value: Float[Array, "pictures tokens channels"] | None
    cross: Float[Array, "pictures channels"]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["mask"], meta_fields=["frames", "first"])
@dataclasses.dataclass(frozen=True)
class Rows:
    """How the N = B * F pictures of a batch are made up, and which of the B rows are unconditional.

    Unconditional rows (classifier-free guidance) see no bank and the zero image token.

    Attributes:
      frames: frames of each row.
      first: the number of leading rows that are unconditional; known when tracing, so they pay for no bank.
      mask: marks unconditional rows that are known only when running (the drop in training), (B,); excludes `first`.
    """

    frames: int
    first: int = 0
    mask: jax.Array | None = None

    @classmethod
    def of(cls, frames: int, unconditional: int | Bool[Array, " batch"]) -> "Rows":
        """From a count of leading rows or a mask."""
        if isinstance(unconditional, int):
            return cls(frames, first=unconditional)
        return cls(frames, mask=unconditional)


class Attention(nnx.Module):
    """Multi-head self-attention; of its linears only the output has a bias, as in Stable Diffusion."""

    def __init__(self, channels: int, heads: int, options: NetworkOptions, *, kernel: str):
        if channels % heads:
            raise InputError(f"{channels} channels do not divide into {heads} attention heads")
        self.to_q = linear(channels, channels, options, use_bias=False)
        self.to_k = linear(channels, channels, options, use_bias=False)
        self.to_v = linear(channels, channels, options, use_bias=False)
        self.to_out = linear(channels, channels, options)
        self.heads = heads
        self.kernel, self.platform = kernel, options.kernels.platform

    def __call__(
        self,
        x: Float[Array, "pictures tokens channels"],
        reference: BlockReference | None = None,
        rows: Rows = Rows(1),
    ) -> Float[Array, "pictures tokens channels"]:
        """Queries from x, keys and values from [x ; bank] along the tokens."""
        query, key, value = self.to_q(x), self.to_k(x), self.to_v(x)
        if reference is None or reference.key is None or reference.value is None:
            return self.to_out(self._attend(query, key, value))
        if rows.mask is None:
            first = rows.first * rows.frames  # these pictures see themselves only
            keys = _with_bank(key[first:], reference.key, rows.frames)
            values = _with_bank(value[first:], reference.value, rows.frames)
            seen = [self._attend(query[first:], keys, values)]
            if first:
                seen.insert(0, self._attend(query[:first], key[:first], value[:first]))
            return self.to_out(jnp.concatenate(seen))
        tokens = x.shape[1]
        lengths = jnp.where(rows.mask, tokens, tokens + reference.key.shape[1])
        keys = _with_bank(key, reference.key, rows.frames)
        values = _with_bank(value, reference.value, rows.frames)
        return self.to_out(self._attend(query, keys, values, jnp.repeat(lengths, rows.frames)))

    def _attend(
        self, query: jax.Array, key: jax.Array, value: jax.Array, key_lengths: jax.Array | None = None
    ) -> jax.Array:
        split = (x.reshape(*x.shape[:2], self.heads, -1) for x in (query, key, value))
        out = attention(*split, kernel=self.kernel, key_lengths=key_lengths, platform=self.platform)
        return out.reshape(query.shape)


def _with_bank(own: jax.Array, bank: jax.Array, frames: int) -> jax.Array:
    """[own ; bank] along the tokens; the bank's rows are spread over the pictures, `frames` for each row."""
    rows, tokens, channels = bank.shape
    readers = own.shape[0] // frames
    if rows not in (1, readers):
        raise ValueError(f"a bank of {rows} rows cannot serve {readers} rows; give one or {readers}")
    spread = jnp.broadcast_to(bank[:, None], (rows, own.shape[0] // rows, tokens, channels))
    return jnp.concatenate([own, spread.reshape(-1, tokens, channels).astype(own.dtype)], axis=1)


class CrossAttention(nnx.Module):
    """Cross-attention to one token, exactly: a softmax over one key is 1, so the output is to_out(to_v(token)).

    to_q and to_k (and the block's norm2) cannot matter; they are carried for the files' sake.
    """

    def __init__(self, channels: int, context_width: int, options: NetworkOptions):
        self.to_q = mark_unused(linear(channels, channels, options, use_bias=False))
        self.to_k = mark_unused(linear(context_width, channels, options, use_bias=False))
        self.to_v = linear(context_width, channels, options, use_bias=False)
        self.to_out = linear(channels, channels, options)

    def __call__(self, token: Float[Array, "pictures context_width"]) -> Float[Array, "pictures channels"]:
        """The output, which is the same for every query."""
        return self.to_out(self.to_v(token))

    def without_token(self) -> Float[Array, " channels"]:
        """The output for the zero token."""
        return self.to_out.bias.get_value().astype(self.to_out.dtype)


class TransformerBlock(nnx.Module):
    """Self-attention (with the bank, if any), the image token, feed-forward; each after its LayerNorm, residual.

    `context_width=None` (the guidance encoders) leaves the cross-attention out.
    """

    def __init__(self, channels: int, heads: int, options: NetworkOptions, *, context_width: int | None, kernel: str):
        self.norm1 = layer_norm(channels, options)
        self.attn1 = Attention(channels, heads, options, kernel=kernel)
        if context_width is not None:
            self.norm2 = mark_unused(layer_norm(channels, options))
            self.attn2 = CrossAttention(channels, context_width, options)
        self.norm3 = layer_norm(channels, options)
        self.ff = FeedForward(channels, options)

    def prepare(
        self,
        bank: Float[Array, "pictures tokens channels"] | None,
        token: Float[Array, "pictures context_width"],
    ) -> BlockReference:
        """What this block needs of a picture: its bank entry and its image token, projected."""
        cross = self.attn2(token)
        if bank is None:
            return BlockReference(None, None, cross)
        bank = bank.astype(self.attn1.to_k.dtype)
        return BlockReference(self.attn1.to_k(bank), self.attn1.to_v(bank), cross)

    def __call__(
        self,
        x: Float[Array, "pictures tokens channels"],
        reference: BlockReference | None = None,
        rows: Rows = Rows(1),
    ) -> tuple[Float[Array, "pictures tokens channels"], Float[Array, "pictures tokens channels"]]:
        """The block's output, and norm1's output: the bank entry when this is the ReferenceNet."""
        entry = self.norm1(x)
        x = x + self.attn1(entry, reference, rows)
        if reference is not None:
            cross = self._cross(reference, rows, x.shape[0] // rows.frames)  # (B or 1, C)
            x = x + jnp.repeat(cross, x.shape[0] // cross.shape[0], axis=0)[:, None]
        return x + self.ff(self.norm3(x)), entry

    def _cross(self, reference: BlockReference, rows: Rows, count: int) -> jax.Array:
        blank = self.attn2.without_token()
        if rows.mask is not None:
            return jnp.where(rows.mask[:, None], blank, reference.cross)
        if not rows.first:
            return reference.cross
        first = jnp.broadcast_to(blank, (rows.first, *blank.shape))
        rest = jnp.broadcast_to(reference.cross, (count - rows.first, *blank.shape))
        return jnp.concatenate([first, rest])


class SpatialTransformer(nnx.Module):
    """GroupNorm, 1x1 in, one transformer block over the pixels of a picture, 1x1 out, residual."""

    def __init__(
        self,
        channels: int,
        heads: int,
        options: NetworkOptions,
        *,
        context_width: int | None,
        groups: int = 32,
        kernel: str,
    ):
        self.norm = group_norm(channels, options, groups=groups, epsilon=1e-6)
        self.proj_in = Conv1x1(channels, channels, options)
        block = TransformerBlock(channels, heads, options, context_width=context_width, kernel=kernel)
        self.transformer_blocks = nnx.List([block])
        self.proj_out = Conv1x1(channels, channels, options)

    def __call__(
        self,
        x: Float[Array, "pictures height width channels"],
        reference: BlockReference | None = None,
        rows: Rows = Rows(1),
    ) -> tuple[Float[Array, "pictures height width channels"], Float[Array, "pictures height*width channels"]]:
        """The transformer's output, and its block's bank entry."""
        batch, height, width, channels = x.shape
        hidden = self.proj_in(self.norm(x)).reshape(batch, height * width, channels)
        hidden, entry = self.transformer_blocks[0](hidden, reference, rows)
        return x + self.proj_out(hidden).reshape(x.shape), entry
