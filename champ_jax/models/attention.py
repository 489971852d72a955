"""Attention by kernel name, and the transformer block that gives or reads the reference bank.

Kernels, chosen explicitly for every level (`AttentionKernels`) and never replaced silently:

- 'xla': anywhere. Queries are taken in blocks, so no (tokens x tokens) matrix is ever held.
- 'cudnn': NVIDIA's fused attention, float16 or bfloat16.
- 'splash': the Pallas flash attention for TPU, token counts that are multiples of 128.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from champ_jax.common.errors import InputError
from champ_jax.models.layers import Conv1x1, FeedForward, group_norm, layer_norm, mark_unused

KERNELS = ("xla", "cudnn", "splash")
SPLASH_BLOCK = 128
SPLASH_BLOCKS = (512, 384, 256, SPLASH_BLOCK)
# The XLA kernel holds at most this many scores at once, or MIN_QUERIES rows of them where that is more: memory grows
# with the number of keys, not with queries x keys.
MAX_SCORES = 2**22
MIN_QUERIES = 64


@dataclasses.dataclass(frozen=True)
class AttentionKernels:
    """The kernel of every attention in the model.

    Attributes:
      spatial: for the UNet's levels, finest first; the middle block takes the last one's.
      temporal: for the motion modules.
      guidance: for the guidance encoders.
      vae: for the VAE's middle block (one head as wide as the block: 512 in SD's, too wide for cuDNN).
      image_encoder: for the CLIP tower.
      platform: 'cpu', 'gpu' or 'tpu' to compile for; None takes JAX's default backend.
    """

    spatial: tuple[str, ...] = ("xla", "xla", "xla", "xla")
    temporal: str = "xla"
    guidance: str = "xla"
    vae: str = "xla"
    image_encoder: str = "xla"
    platform: str | None = None

    def at_level(self, level: int) -> str:
        """The kernel of UNet level `level`; a level past the end takes the last one's."""
        return self.spatial[min(level, len(self.spatial) - 1)]


def recommended_kernels(
    platform: str | None = None, compute_capability: str | None = None, tokens: Sequence[int] | None = None
) -> AttentionKernels:
    """The kernels DESIGN recommends for a platform at SD 1.5 size (head sizes 40, 80, 160, 160).

    Args:
      platform: 'cpu', 'gpu' or 'tpu'; None for JAX's default backend.
      compute_capability: of an NVIDIA GPU, as '9.0'; None asks the first device.
      tokens: of the UNet's levels, finest first, where they are known: on a TPU splash is taken wherever its blocks
        divide them. None takes it for the two finest, which they divide at most sizes.
    """
    asked = platform
    platform = platform or jax.default_backend()
    if platform in ("gpu", "cuda"):
        if compute_capability is None:
            compute_capability = getattr(jax.devices()[0], "compute_capability", "8.0")
        # Before Hopper cuDNN stops at head size 128; the coarsest levels have 160.
        coarse = "cudnn" if float(compute_capability) >= 9.0 else "xla"
        return AttentionKernels(("cudnn", "cudnn", coarse, coarse), guidance="cudnn", platform=asked)
    if platform == "tpu":
        if tokens is not None:
            spatial = tuple("xla" if count % SPLASH_BLOCK else "splash" for count in tokens)
            return AttentionKernels(spatial, guidance=spatial[0], platform=asked)
        # The coarse levels have few tokens, often no multiple of splash's 128.
        return AttentionKernels(("splash", "splash", "xla", "xla"), guidance="splash", platform=asked)
    return AttentionKernels(platform=asked)


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    kernel: str = "xla",
    key_lengths: jax.Array | None = None,
    platform: str | None = None,
) -> jax.Array:
    """softmax(query key^T / sqrt(D)) value, softmax in float32.

    Args:
      query: (N, Lq, heads, D).
      key: (N, Lk, heads, D).
      value: (N, Lk, heads, D).
      kernel: 'xla', 'cudnn' or 'splash'.
      key_lengths: (N,) int32, how many of the first keys each sequence sees; None: all.
      platform: what is compiled for; None takes JAX's default backend.

    Returns:
      (N, Lq, heads, D) in query's dtype.

    Raises:
      InputError: the kernel cannot run there; says why.
    """
    chex.assert_rank([query, key, value], 4)
    chex.assert_equal_shape([key, value])
    chex.assert_equal_shape([query, key], dims=(0, 2, 3))
    check_kernel(kernel, query.shape, key.shape, query.dtype, platform)
    if kernel == "cudnn":
        return jax.nn.dot_product_attention(
            query, key, value, key_value_seq_lengths=key_lengths, implementation="cudnn"
        )
    if kernel == "splash":
        return splash_attention(query, key, value, key_lengths)
    return _attention_in_blocks(query, key, value, key_lengths)


def check_kernel(
    kernel: str,
    query_shape: tuple[int, ...],
    key_shape: tuple[int, ...],
    dtype: DTypeLike,
    platform: str | None = None,
) -> None:
    """Raises InputError, saying why, if `kernel` cannot compute this attention on `platform`."""
    if kernel not in KERNELS:
        raise InputError(f"attention kernel {kernel!r}: unknown; choose {', '.join(KERNELS)}")
    platform = platform or jax.default_backend()
    head_size = query_shape[-1]
    if kernel == "cudnn":
        if platform not in ("gpu", "cuda"):
            raise InputError(f"attention kernel 'cudnn' needs an NVIDIA GPU, this runs on {platform}: choose 'xla'")
        if jnp.dtype(dtype) not in (jnp.dtype(jnp.float16), jnp.dtype(jnp.bfloat16)):
            raise InputError(
                f"attention kernel 'cudnn' computes in float16 or bfloat16, not {jnp.dtype(dtype).name}: choose 'xla'"
            )
        if head_size % 8 or head_size > 256:
            raise InputError(
                f"attention kernel 'cudnn' takes head sizes that are multiples of 8 up to 256, not {head_size}: "
                "choose 'xla'"
            )
    if kernel == "splash":
        if platform != "tpu":
            raise InputError(f"attention kernel 'splash' needs a TPU, this runs on {platform}: choose 'xla'")
        for name, length in (("queries", query_shape[1]), ("keys", key_shape[1])):
            if length % SPLASH_BLOCK:
                raise InputError(
                    f"attention kernel 'splash' needs a multiple of {SPLASH_BLOCK} {name}, not {length}: choose 'xla'"
                )


def _attention_in_blocks(
    query: jax.Array, key: jax.Array, value: jax.Array, key_lengths: jax.Array | None
) -> jax.Array:
    """The 'xla' kernel: blocks of queries against all keys, each block recomputed in the backward pass."""
    batch, queries, heads, head_size = query.shape
    scores_per_query = batch * heads * key.shape[1]
    block = max(MIN_QUERIES, MAX_SCORES // scores_per_query)
    if queries <= block:
        return _attention_block(query, key, value, key_lengths)
    count = -(-queries // block)
    block = -(-queries // count)  # even blocks, least padding
    padded = jnp.pad(query, ((0, 0), (0, count * block - queries), (0, 0), (0, 0)))
    blocks = jnp.moveaxis(padded.reshape(batch, count, block, heads, head_size), 1, 0)
    one = jax.checkpoint(lambda rows: _attention_block(rows, key, value, key_lengths))
    out = jnp.moveaxis(jax.lax.map(one, blocks), 0, 1)
    return out.reshape(batch, count * block, heads, head_size)[:, :queries]


def _attention_block(query: jax.Array, key: jax.Array, value: jax.Array, key_lengths: jax.Array | None) -> jax.Array:
    scale = query.shape[-1] ** -0.5
    scores = jnp.einsum("nqhd,nkhd->nhqk", query, key, preferred_element_type=jnp.float32) * scale
    if key_lengths is not None:
        seen = jnp.arange(key.shape[1])[None] < key_lengths[:, None]
        scores = jnp.where(seen[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("nhqk,nkhd->nqhd", weights, value)


def splash_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    key_lengths: jax.Array | None = None,
    *,
    interpret: bool = False,
) -> jax.Array:
    """The 'splash' kernel; shapes as in `attention`. `interpret` runs it on any backend, slowly.

    Pallas kernels are opaque to the partitioner: under a mesh the batch is split over all its axes by shard_map.
    """
    mesh = jax.sharding.get_abstract_mesh()
    run = functools.partial(_splash_local, interpret=interpret)
    axes = tuple(name for name in mesh.axis_names if name not in mesh.manual_axes)
    if not axes:  # no mesh, or inside a shard_map that has split the batch already
        return run(query, key, value, key_lengths)
    rows = PartitionSpec(axes)
    specs = (rows, rows, rows, None if key_lengths is None else rows)
    # check_vma: pallas_call does not say along which axes its outputs vary.
    return jax.shard_map(run, in_specs=specs, out_specs=rows, check_vma=False)(query, key, value, key_lengths)


def _splash_local(
    query: jax.Array, key: jax.Array, value: jax.Array, key_lengths: jax.Array | None, *, interpret: bool
) -> jax.Array:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

    _, queries, heads, head_size = query.shape
    keys = key.shape[1]
    mask = splash_attention_mask.MultiHeadMask([splash_attention_mask.FullMask((queries, keys))] * heads)
    # The larger the blocks of queries, the fewer times the keys are read.
    rows, columns = (next(size for size in SPLASH_BLOCKS if length % size == 0) for length in (queries, keys))
    blocks = splash_attention_kernel.BlockSizes(rows, columns, columns, rows, columns, columns, rows, columns)
    kernel = splash_attention_kernel.make_splash_mha(
        mask, block_sizes=blocks, head_shards=1, q_seq_shards=1, interpret=interpret
    )

    def one(query: jax.Array, key: jax.Array, value: jax.Array, length: jax.Array) -> jax.Array:
        segments = splash_attention_kernel.SegmentIds(
            q=jnp.zeros(queries, jnp.int32), kv=(jnp.arange(keys) >= length).astype(jnp.int32)
        )
        return kernel(query, key, value, segments)

    if key_lengths is None:
        key_lengths = jnp.full(query.shape[0], keys, jnp.int32)
    query = query * jnp.asarray(head_size**-0.5, query.dtype)
    heads_first = (x.swapaxes(1, 2) for x in (query, key, value))
    return jax.vmap(one)(*heads_first, key_lengths).swapaxes(1, 2).astype(query.dtype)


class BlockReference(NamedTuple):
    """What one transformer block of the denoiser reads of the picture; made once per video.

    R is 1 (one picture for all rows) or the number of rows that read it.

    Attributes:
      key: (R, L, C), to_k of the bank entry; None without a bank.
      value: (R, L, C), to_v of the bank entry; None without a bank.
      cross: (R, C), the cross-attention's output for the image token.
    """

    key: jax.Array | None
    value: jax.Array | None
    cross: jax.Array


@functools.partial(jax.tree_util.register_dataclass, data_fields=["mask"], meta_fields=["frames", "first"])
@dataclasses.dataclass(frozen=True)
class Rows:
    """How the N = B * F pictures of a batch are made up, and which of the B rows are unconditional.

    Unconditional rows (classifier-free guidance) see no bank and the zero image token.

    Attributes:
      frames: F, frames a row.
      first: the first `first` rows are unconditional; known when tracing, so they pay for no bank.
      mask: (B,) bool, marks unconditional rows known only when running (the drop in training); excludes `first`.
    """

    frames: int
    first: int = 0
    mask: jax.Array | None = None

    @classmethod
    def of(cls, frames: int, unconditional: int | jax.Array) -> "Rows":
        """From a count of leading rows or a (B,) bool array."""
        if isinstance(unconditional, int):
            return cls(frames, first=unconditional)
        return cls(frames, mask=unconditional)


class Attention(nnx.Module):
    """Multi-head attention with biased output only, as in Stable Diffusion. Width C, `heads` heads of C / heads."""

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        kernel: str,
        platform: str | None,
        dtype: DTypeLike,
        param_dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        if channels % heads:
            raise InputError(f"{channels} channels do not divide into {heads} attention heads")
        policy = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.to_q = nnx.Linear(channels, channels, use_bias=False, **policy)
        self.to_k = nnx.Linear(channels, channels, use_bias=False, **policy)
        self.to_v = nnx.Linear(channels, channels, use_bias=False, **policy)
        self.to_out = nnx.Linear(channels, channels, **policy)
        self.heads = heads
        self.kernel = kernel
        self.platform = platform

    def __call__(self, x: jax.Array, reference: BlockReference | None = None, rows: Rows | None = None) -> jax.Array:
        """(N, L, C) -> (N, L, C): queries from x, keys and values from [x ; bank] along the tokens."""
        query, key, value = self.to_q(x), self.to_k(x), self.to_v(x)
        if reference is None or reference.key is None:
            return self.to_out(self._attend(query, key, value))
        if rows.mask is None:
            first = rows.first * rows.frames  # these pictures see themselves only
            seen = [self._attend(query[first:], *_with_bank(key[first:], value[first:], reference, rows.frames))]
            if first:
                seen.insert(0, self._attend(query[:first], key[:first], value[:first]))
            return self.to_out(jnp.concatenate(seen))
        tokens = x.shape[1]
        lengths = jnp.where(rows.mask, tokens, tokens + reference.key.shape[1])
        keys, values = _with_bank(key, value, reference, rows.frames)
        return self.to_out(self._attend(query, keys, values, jnp.repeat(lengths, rows.frames)))

    def _attend(
        self, query: jax.Array, key: jax.Array, value: jax.Array, key_lengths: jax.Array | None = None
    ) -> jax.Array:
        split = (x.reshape(*x.shape[:2], self.heads, -1) for x in (query, key, value))
        out = attention(*split, kernel=self.kernel, key_lengths=key_lengths, platform=self.platform)
        return out.reshape(query.shape)


def _with_bank(key: jax.Array, value: jax.Array, reference: BlockReference, frames: int) -> tuple[jax.Array, jax.Array]:
    """[own ; bank] along the tokens; the bank's R rows are spread over the N pictures."""

    def join(own: jax.Array, bank: jax.Array) -> jax.Array:
        rows, tokens, channels = bank.shape
        readers = own.shape[0] // frames
        if rows not in (1, readers):
            raise ValueError(f"a bank of {rows} rows cannot serve {readers} rows; give one or {readers}")
        spread = jnp.broadcast_to(bank[:, None], (rows, own.shape[0] // rows, tokens, channels))
        return jnp.concatenate([own, spread.reshape(-1, tokens, channels).astype(own.dtype)], axis=1)

    return join(key, reference.key), join(value, reference.value)


class CrossAttention(nnx.Module):
    """Cross-attention to one token, exactly: a softmax over one key is 1, so the output is to_out(to_v(token)).

    to_q and to_k (and the block's norm2) cannot matter; they are carried for the files' sake.
    """

    def __init__(self, channels: int, context_width: int, *, dtype: DTypeLike, param_dtype: DTypeLike, rngs: nnx.Rngs):
        policy = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.to_q = mark_unused(nnx.Linear(channels, channels, use_bias=False, **policy))
        self.to_k = mark_unused(nnx.Linear(context_width, channels, use_bias=False, **policy))
        self.to_v = nnx.Linear(context_width, channels, use_bias=False, **policy)
        self.to_out = nnx.Linear(channels, channels, **policy)

    def __call__(self, token: jax.Array) -> jax.Array:
        """(R, context_width) -> (R, C), the same for every query."""
        return self.to_out(self.to_v(token))

    def without_token(self) -> jax.Array:
        """(C,): the output for the zero token."""
        return self.to_out.bias.get_value().astype(self.to_out.dtype)


class TransformerBlock(nnx.Module):
    """Self-attention (with the bank, if any), the image token, feed-forward; each after its LayerNorm, residual.

    `context_width=None` (the guidance encoders) leaves the cross-attention out.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        context_width: int | None,
        kernel: str,
        platform: str | None,
        dtype: DTypeLike,
        param_dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        policy = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.norm1 = layer_norm(channels, **policy)
        self.attn1 = Attention(channels, heads, kernel=kernel, platform=platform, **policy)
        if context_width is not None:
            self.norm2 = mark_unused(layer_norm(channels, **policy))
            self.attn2 = CrossAttention(channels, context_width, **policy)
        self.norm3 = layer_norm(channels, **policy)
        self.ff = FeedForward(channels, **policy)

    def prepare(self, bank: jax.Array | None, token: jax.Array) -> BlockReference:
        """What this block needs of a picture: its bank entry (R, L, C) projected, its token (R, width) projected."""
        cross = self.attn2(token)
        if bank is None:
            return BlockReference(None, None, cross)
        bank = bank.astype(self.attn1.to_k.dtype)
        return BlockReference(self.attn1.to_k(bank), self.attn1.to_v(bank), cross)

    def __call__(
        self, x: jax.Array, reference: BlockReference | None = None, rows: Rows | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """(N, L, C) -> the same, and norm1's output (N, L, C): the bank entry when this is the ReferenceNet."""
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
        *,
        context_width: int | None,
        groups: int = 32,
        kernel: str,
        platform: str | None,
        dtype: DTypeLike,
        param_dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        policy = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.norm = group_norm(channels, groups=groups, epsilon=1e-6, **policy)
        self.proj_in = Conv1x1(channels, channels, **policy)
        self.transformer_blocks = nnx.List(
            [TransformerBlock(channels, heads, context_width=context_width, kernel=kernel, platform=platform, **policy)]
        )
        self.proj_out = Conv1x1(channels, channels, **policy)

    def __call__(
        self, x: jax.Array, reference: BlockReference | None = None, rows: Rows | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """(N, H, W, C) -> the same, and the block's bank entry (N, H * W, C)."""
        batch, height, width, channels = x.shape
        hidden = self.proj_in(self.norm(x)).reshape(batch, height * width, channels)
        hidden, entry = self.transformer_blocks[0](hidden, reference, rows)
        return x + self.proj_out(hidden).reshape(x.shape), entry
