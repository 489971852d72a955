"""Parts every network is made of: stored variables, 1x1 convolutions, time embedding, ResNet block, sampling.

All of it is channels last. `dtype` is the dtype of the computation, `param_dtype` that of the parameters; norms reduce
in float32 whatever `dtype` is.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from champ_jax.common.errors import InputError

RESNET_EPSILON = 1e-5


class Buffer(nnx.Variable):
    """A tensor the forward pass reads and training leaves alone (the motion modules' position table)."""


class Unused(nnx.Variable):
    """A tensor that users' files hold and that takes no part in the forward pass.

    It is carried through loading and saving so that a checkpoint can be handed back to PyTorch whole; gradients,
    optimizers and compute never see it.
    """


def mark_unused(module: nnx.Module) -> nnx.Module:
    """Turns every nnx.Param inside `module` into an Unused variable, in place; returns `module`."""
    for _, node in nnx.iter_modules(module):
        for name, value in list(vars(node).items()):
            if isinstance(value, nnx.Param):
                setattr(node, name, Unused(value.get_value()))
    return module


class Conv1x1(nnx.Linear):
    """A 1x1 convolution as what it is on channels-last data: one matrix product. (..., in) -> (..., out).

    PyTorch's files store its weight as (out, in, 1, 1).
    """


def conv3x3(
    in_channels: int,
    out_channels: int,
    *,
    stride: int = 1,
    dtype: DTypeLike,
    param_dtype: DTypeLike,
    rngs: nnx.Rngs,
    kernel_init: jax.nn.initializers.Initializer | None = None,
) -> nnx.Conv:
    """A 3x3 convolution padded by one pixel on every side, (N,H,W,in) -> (N,ceil(H/stride),ceil(W/stride),out)."""
    extra: dict[str, Any] = {} if kernel_init is None else {"kernel_init": kernel_init}
    return nnx.Conv(
        in_channels,
        out_channels,
        (3, 3),
        strides=stride,
        padding=((1, 1), (1, 1)),
        dtype=dtype,
        param_dtype=param_dtype,
        rngs=rngs,
        **extra,
    )


def group_norm(
    channels: int,
    *,
    groups: int = 32,
    epsilon: float,
    dtype: DTypeLike,
    param_dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> nnx.GroupNorm:
    """GroupNorm over one picture (N,H,W,C), moments in float32 by the two-pass formula."""
    if channels % groups:
        raise InputError(f"{channels} channels cannot be normalised in {groups} groups; make the width a multiple")
    return nnx.GroupNorm(
        channels,
        num_groups=groups,
        epsilon=epsilon,
        use_fast_variance=False,
        dtype=dtype,
        param_dtype=param_dtype,
        rngs=rngs,
    )


def layer_norm(channels: int, *, dtype: DTypeLike, param_dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm over the last axis, epsilon 1e-5, moments in float32 by the two-pass formula."""
    return nnx.LayerNorm(
        channels, epsilon=1e-5, use_fast_variance=False, dtype=dtype, param_dtype=param_dtype, rngs=rngs
    )


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU (erf, not tanh)."""
    return jax.nn.gelu(x, approximate=False)


class FeedForward(nnx.Module):
    """Linear to twice 4C, gated by GELU (GEGLU, Shazeer 2020), linear back. (..., C) -> (..., C)."""

    def __init__(self, channels: int, *, dtype: DTypeLike, param_dtype: DTypeLike, rngs: nnx.Rngs):
        policy = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.proj = nnx.Linear(channels, 8 * channels, **policy)
        self.out = nnx.Linear(4 * channels, channels, **policy)

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden, gate = jnp.split(self.proj(x), 2, axis=-1)
        return self.out(hidden * gelu(gate))


def timestep_embedding(timesteps: jax.Array, width: int, *, flip_sin_to_cos: bool, freq_shift: float) -> jax.Array:
    """Sinusoidal embedding of timesteps (B,) -> (B, width) float32 (Ho et al. 2020, with diffusers' two switches)."""
    half = width // 2
    exponents = -jnp.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / (half - freq_shift)
    angles = timesteps.astype(jnp.float32)[:, None] * jnp.exp(exponents)[None]
    sine, cosine = jnp.sin(angles), jnp.cos(angles)
    return jnp.concatenate([cosine, sine] if flip_sin_to_cos else [sine, cosine], axis=-1)


class TimeEmbedding(nnx.Module):
    """Two linears with SiLU between: (B, width) -> (B, time_width)."""

    def __init__(self, width: int, time_width: int, *, dtype: DTypeLike, param_dtype: DTypeLike, rngs: nnx.Rngs):
        policy = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.linear_1 = nnx.Linear(width, time_width, **policy)
        self.linear_2 = nnx.Linear(time_width, time_width, **policy)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.linear_2(jax.nn.silu(self.linear_1(x)))


class ResNetBlock(nnx.Module):
    """norm, SiLU, conv, + time, norm, SiLU, conv, + shortcut. (N,H,W,in) -> (N,H,W,out).

    `time_width=None` (the VAE) leaves the time projection out.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        time_width: int | None,
        groups: int = 32,
        epsilon: float = RESNET_EPSILON,
        dtype: DTypeLike,
        param_dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        policy = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.norm1 = group_norm(in_channels, groups=groups, epsilon=epsilon, **policy)
        self.conv1 = conv3x3(in_channels, out_channels, **policy)
        if time_width is not None:
            self.time_emb_proj = nnx.Linear(time_width, out_channels, **policy)
        self.norm2 = group_norm(out_channels, groups=groups, epsilon=epsilon, **policy)
        self.conv2 = conv3x3(out_channels, out_channels, **policy)
        if in_channels != out_channels:
            self.conv_shortcut = Conv1x1(in_channels, out_channels, **policy)

    def __call__(self, x: jax.Array, time: jax.Array | None = None) -> jax.Array:
        """`time` is SiLU of the time embedding, (B, time_width); the N = B * F pictures are B runs of F frames."""
        hidden = self.conv1(jax.nn.silu(self.norm1(x)))
        if time is not None:
            shift = self.time_emb_proj(time)
            clips = hidden.reshape(shift.shape[0], -1, *hidden.shape[1:])
            hidden = (clips + shift[:, None, None, None, :]).reshape(hidden.shape)
        hidden = self.conv2(jax.nn.silu(self.norm2(hidden)))
        if hasattr(self, "conv_shortcut"):
            x = self.conv_shortcut(x)
        return x + hidden


class Downsample(nnx.Module):
    """3x3 convolution with stride 2: (N,H,W,C) -> (N,ceil(H/2),ceil(W/2),C)."""

    def __init__(self, channels: int, *, dtype: DTypeLike, param_dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv = conv3x3(channels, channels, stride=2, dtype=dtype, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(x)


class Upsample(nnx.Module):
    """Nearest neighbour to `size`, then a 3x3 convolution: (N,H,W,C) -> (N,*size,C)."""

    def __init__(self, channels: int, *, dtype: DTypeLike, param_dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv = conv3x3(channels, channels, dtype=dtype, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, x: jax.Array, size: tuple[int, int] | None = None) -> jax.Array:
        """`size` is (H, W) of the skip connection; left out, twice the input's (they differ at odd sizes)."""
        height, width = x.shape[1:3]
        target = size or (2 * height, 2 * width)
        if target == (2 * height, 2 * width):
            return self.conv(x.repeat(2, axis=1).repeat(2, axis=2))
        rows = jnp.arange(target[0]) * height // target[0]
        columns = jnp.arange(target[1]) * width // target[1]
        return self.conv(x[:, rows][:, :, columns])


REMAT_POLICIES: dict[str, Callable[..., bool] | None] = {
    # Recompute everything inside a block: least memory, a third more compute.
    "full": jax.checkpoint_policies.nothing_saveable,
    # Keep the results of matrix products without batch dimensions (linears), recompute norms, activations, attention.
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    # Keep all matrix products, recompute only what is elementwise.
    "all_dots": jax.checkpoint_policies.dots_saveable,
}


def check_remat(policy: str) -> str:
    """Returns `policy` if it is 'none' or a name in REMAT_POLICIES; raises InputError otherwise."""
    if policy != "none" and policy not in REMAT_POLICIES:
        raise InputError(f"remat={policy}: unknown policy; choose none, {', '.join(REMAT_POLICIES)}")
    return policy


def remat_call(policy: str, module: nnx.Module, *inputs: Any) -> Any:
    """`module(*inputs)`, whose intermediates the backward pass recomputes as `policy` says.

    Args:
      policy: 'none' or a name in REMAT_POLICIES.
      inputs: pytrees of arrays (or None).
    """
    if policy == "none":
        return module(*inputs)
    graph, state = nnx.split(module)

    def apply(state: nnx.State, *inputs: Any) -> Any:
        return nnx.merge(graph, state)(*inputs)

    return jax.checkpoint(apply, policy=REMAT_POLICIES[policy])(state, *inputs)
