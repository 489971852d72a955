"""Parts every network is made of: linears, convolutions, norms, time embedding, ResNet block, sampling.

All of it is channels last. Norms reduce in float32 whatever the dtype of the computation is. Layers are built without
values: their variables hold shapes and dtypes (`champ_jax.models.functional`).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Num

from champ_jax.common.errors import InputError
from champ_jax.models.options import NetworkOptions

RESNET_EPSILON = 1e-5


def shape_only(key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """An initializer for flax's layers that makes no values."""
    del key
    return jax.ShapeDtypeStruct(shape, dtype)


class _NoKeys:
    """What flax's layers draw from in place of nnx.Rngs: `shape_only` needs no random keys."""

    def params(self) -> None:
        return None


def dtypes_of(options: NetworkOptions) -> dict[str, Any]:
    """The arguments that all of flax's layers take."""
    return {"dtype": options.dtype, "param_dtype": options.param_dtype, "rngs": _NoKeys()}


def linear(in_features: int, out_features: int, options: NetworkOptions, *, use_bias: bool = True) -> nnx.Linear:
    """(..., in_features) -> (..., out_features)."""
    return nnx.Linear(
        in_features,
        out_features,
        use_bias=use_bias,
        kernel_init=shape_only,
        bias_init=shape_only,
        **dtypes_of(options),
    )


class Conv1x1(nnx.Linear):
    """A 1x1 convolution as what it is on channels-last data: one matrix product. (..., in) -> (..., out).

    PyTorch's files store its weight as (out, in, 1, 1).
    """

    def __init__(self, in_channels: int, out_channels: int, options: NetworkOptions):
        super().__init__(in_channels, out_channels, kernel_init=shape_only, bias_init=shape_only, **dtypes_of(options))


def conv(
    in_channels: int,
    out_channels: int,
    options: NetworkOptions,
    *,
    size: int = 3,
    stride: int = 1,
    padding: Any = ((1, 1), (1, 1)),
    use_bias: bool = True,
) -> nnx.Conv:
    """A convolution, 3x3 and padded by one pixel on every side unless said otherwise.

    (N, H, W, in_channels) -> (N, ceil(H / stride), ceil(W / stride), out_channels).
    """
    return nnx.Conv(
        in_channels,
        out_channels,
        (size, size),
        strides=stride,
        padding=padding,
        use_bias=use_bias,
        kernel_init=shape_only,
        bias_init=shape_only,
        **dtypes_of(options),
    )


def group_norm(channels: int, options: NetworkOptions, *, groups: int = 32, epsilon: float) -> nnx.GroupNorm:
    """GroupNorm over one picture (N, H, W, C), moments in float32 by the two-pass formula."""
    if channels % groups:
        raise InputError(f"{channels} channels cannot be normalized in {groups} groups; make the width a multiple")
    return nnx.GroupNorm(
        channels,
        num_groups=groups,
        epsilon=epsilon,
        use_fast_variance=False,
        scale_init=shape_only,
        bias_init=shape_only,
        **dtypes_of(options),
    )


def layer_norm(channels: int, options: NetworkOptions, *, epsilon: float = 1e-5) -> nnx.LayerNorm:
    """LayerNorm over the last axis, moments in float32 by the two-pass formula."""
    return nnx.LayerNorm(
        channels,
        epsilon=epsilon,
        use_fast_variance=False,
        scale_init=shape_only,
        bias_init=shape_only,
        **dtypes_of(options),
    )


class FeedForward(nnx.Module):
    """Linear to twice 4C, gated by the exact GELU (GEGLU, Shazeer 2020), linear back."""

    def __init__(self, channels: int, options: NetworkOptions):
        self.proj = linear(channels, 8 * channels, options)
        self.out = linear(4 * channels, channels, options)

    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        hidden, gate = jnp.split(self.proj(x), 2, axis=-1)
        return self.out(hidden * jax.nn.gelu(gate, approximate=False))


def timestep_embedding(
    timesteps: Num[Array, " batch"], width: int, *, flip_sin_to_cos: bool, freq_shift: float
) -> Float[Array, "batch width"]:
    """Sinusoidal embedding of timesteps, float32 (Ho et al. 2020, with diffusers' two switches)."""
    half = width // 2
    exponents = -jnp.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / (half - freq_shift)
    angles = timesteps.astype(jnp.float32)[:, None] * jnp.exp(exponents)[None]
    sine, cosine = jnp.sin(angles), jnp.cos(angles)
    return jnp.concatenate([cosine, sine] if flip_sin_to_cos else [sine, cosine], axis=-1)


class TimeEmbedding(nnx.Module):
    """Two linears with SiLU between."""

    def __init__(self, width: int, time_width: int, options: NetworkOptions):
        self.linear_1 = linear(width, time_width, options)
        self.linear_2 = linear(time_width, time_width, options)

    def __call__(self, x: Float[Array, "batch width"]) -> Float[Array, "batch time_width"]:
        return self.linear_2(jax.nn.silu(self.linear_1(x)))


class ResNetBlock(nnx.Module):
    """norm, SiLU, conv, + time, norm, SiLU, conv, + shortcut.

    `time_width=None` (the VAE) leaves the time projection out.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        options: NetworkOptions,
        *,
        time_width: int | None,
        groups: int = 32,
        epsilon: float = RESNET_EPSILON,
    ):
        self.norm1 = group_norm(in_channels, options, groups=groups, epsilon=epsilon)
        self.conv1 = conv(in_channels, out_channels, options)
        if time_width is not None:
            self.time_emb_proj = linear(time_width, out_channels, options)
        self.norm2 = group_norm(out_channels, options, groups=groups, epsilon=epsilon)
        self.conv2 = conv(out_channels, out_channels, options)
        self.conv_shortcut = None if in_channels == out_channels else Conv1x1(in_channels, out_channels, options)

    def __call__(
        self,
        x: Float[Array, "pictures height width in_channels"],
        time: Float[Array, "batch time_width"] | None = None,
    ) -> Float[Array, "pictures height width out_channels"]:
        """`time` is SiLU of the time embedding; the pictures are `batch` clips of equally many frames."""
        hidden = self.conv1(jax.nn.silu(self.norm1(x)))
        if time is not None:
            shift = self.time_emb_proj(time)
            clips = hidden.reshape(shift.shape[0], -1, *hidden.shape[1:])
            hidden = (clips + shift[:, None, None, None, :]).reshape(hidden.shape)
        hidden = self.conv2(jax.nn.silu(self.norm2(hidden)))
        return hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample(nnx.Module):
    """3x3 convolution with stride 2: half the height and width, rounded up."""

    def __init__(self, channels: int, options: NetworkOptions):
        self.conv = conv(channels, channels, options, stride=2)

    def __call__(
        self, x: Float[Array, "pictures height width channels"]
    ) -> Float[Array, "pictures half_height half_width channels"]:
        return self.conv(x)


class Upsample(nnx.Module):
    """Nearest neighbor, then a 3x3 convolution."""

    def __init__(self, channels: int, options: NetworkOptions):
        self.conv = conv(channels, channels, options)

    def __call__(
        self, x: Float[Array, "pictures height width channels"], size: tuple[int, int] | None = None
    ) -> Float[Array, "pictures new_height new_width channels"]:
        """`size` is (height, width) of the skip connection; None: twice the input's (they differ at odd sizes)."""
        height, width = x.shape[1:3]
        target = size or (2 * height, 2 * width)
        if target == (2 * height, 2 * width):
            return self.conv(x.repeat(2, axis=1).repeat(2, axis=2))
        # PyTorch's 'nearest': floor(i * in / out). jax.image.resize takes half-pixel centers, other rows at odd sizes.
        rows = jnp.arange(target[0]) * height // target[0]
        columns = jnp.arange(target[1]) * width // target[1]
        return self.conv(x[:, rows][:, :, columns])
