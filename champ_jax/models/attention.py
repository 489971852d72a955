"""Attention by kernel name.

Kernels are chosen explicitly for every level (`champ_jax.models.options.AttentionKernels`), never replaced silently:

- 'xla': anywhere. Queries are taken in blocks, so no (tokens x tokens) matrix is ever held.
- 'cudnn': NVIDIA's fused attention, float16 or bfloat16.
- 'splash': the Pallas flash attention for TPU, token counts that are multiples of 128.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from champ_jax.common.errors import InputError
from champ_jax.models.options import AttentionKernels

KERNELS = ("xla", "cudnn", "splash")
SPLASH_BLOCK = 128
SPLASH_BLOCKS = (512, 384, 256, SPLASH_BLOCK)
# The XLA kernel holds at most this many scores at once, or MIN_QUERIES rows of them where that is more: memory grows
# with the number of keys, not with queries x keys.
MAX_SCORES = 2**22
MIN_QUERIES = 64


def recommended_kernels(
    platform: str | None = None, compute_capability: str | None = None, tokens: Sequence[int] | None = None
) -> AttentionKernels:
    """The kernels recommended for a platform at SD 1.5 size (head sizes 40, 80, 160, 160).

    Args:
      platform: 'cpu', 'gpu' or 'tpu'; None for JAX's default backend.
      compute_capability: The capability of an NVIDIA GPU, as '9.0'; None asks the first device.
      tokens: Token counts of the UNet's levels, finest first, where they are known: on a TPU splash is taken wherever
        its blocks divide them. None takes it for the two finest, which they divide at most sizes.
    """
    asked = platform
    platform = platform or jax.default_backend()
    if platform in ("gpu", "cuda"):
        capability = compute_capability or getattr(jax.devices()[0], "compute_capability", "8.0")
        # Before Hopper cuDNN stops at head size 128; the coarsest levels have 160.
        coarse = "cudnn" if float(capability) >= 9.0 else "xla"
        return AttentionKernels(("cudnn", "cudnn", coarse, coarse), guidance="cudnn", platform=asked)
    if platform == "tpu":
        if tokens is not None:
            spatial = tuple("xla" if count % SPLASH_BLOCK else "splash" for count in tokens)
            return AttentionKernels(spatial, guidance=spatial[0], platform=asked)
        # The coarse levels have few tokens, often no multiple of splash's 128.
        return AttentionKernels(("splash", "splash", "xla", "xla"), guidance="splash", platform=asked)
    return AttentionKernels(platform=asked)


def attention(
    query: Float[Array, "batch queries heads head_size"],
    key: Float[Array, "batch keys heads head_size"],
    value: Float[Array, "batch keys heads head_size"],
    *,
    kernel: str = "xla",
    key_lengths: Int[Array, " batch"] | None = None,
    platform: str | None = None,
) -> Float[Array, "batch queries heads head_size"]:
    """softmax(query key^T / sqrt(head_size)) value in query's dtype, softmax in float32.

    Args:
      query: one row a token.
      key: may be more or fewer than the queries.
      value: one for each key.
      kernel: 'xla', 'cudnn' or 'splash'.
      key_lengths: how many of the first keys each sequence sees; None: all.
      platform: 'cpu', 'gpu' or 'tpu' to compile for; None takes JAX's default backend.

    Raises:
      InputError: the kernel cannot run there; says why.
    """
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
    """The 'xla' kernel: blocks of queries against all keys; the backward pass recomputes each block."""
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
    query: Float[Array, "batch queries heads head_size"],
    key: Float[Array, "batch keys heads head_size"],
    value: Float[Array, "batch keys heads head_size"],
    key_lengths: Int[Array, " batch"] | None = None,
    *,
    interpret: bool = False,
) -> Float[Array, "batch queries heads head_size"]:
    """The 'splash' kernel, arguments as in `attention`. `interpret` runs it on any backend, slowly.

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
