"""What the evaluation networks share: convolutions in two and three dimensions, batch normalization, pooling.

Float32 at the highest precision everywhere: accelerators would otherwise round products to TF32 or bfloat16, which
moves distances by more than systems differ.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

PRECISION = jax.lax.Precision.HIGHEST

Padding = Sequence[tuple[int, int]]


def conv2d(
    inputs: int,
    features: int,
    kernel: tuple[int, int],
    *,
    strides: int = 1,
    padding: tuple[int, int] = (0, 0),
    use_bias: bool = False,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """A float32 convolution of (B, H, W, C); `padding` is rows and columns added on each side."""
    return nnx.Conv(
        inputs,
        features,
        kernel,
        strides=strides,
        padding=[(p, p) for p in padding],
        use_bias=use_bias,
        precision=PRECISION,
        rngs=rngs,
    )


def batch_norm(features: int, epsilon: float, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """Batch normalization by the stored statistics."""
    return nnx.BatchNorm(features, use_running_average=True, epsilon=epsilon, rngs=rngs)


class Conv3d(nnx.Module):
    """A convolution of clips (B, T, H, W, C) with zero padding; see `conv3d`."""

    def __init__(
        self,
        inputs: int,
        features: int,
        kernel: tuple[int, int, int],
        *,
        strides: tuple[int, int, int] = (1, 1, 1),
        padding: Padding | str = "SAME",
        use_bias: bool = False,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (*kernel, inputs, features)))
        self.bias = nnx.Param(jnp.zeros(features)) if use_bias else None
        self.strides = strides
        self.padding = padding

    def __call__(self, x: jax.Array) -> jax.Array:
        padding = self.padding
        if isinstance(padding, str):
            padding = same_padding(x.shape[1:4], self.kernel.shape[:3], self.strides)
        y = conv3d(x, self.kernel[...], self.strides, padding)
        return y if self.bias is None else y + self.bias[...]


def conv3d(x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding) -> jax.Array:
    """Convolves (B, T, H, W, C) with (KT, KH, KW, C, D), as a sum of two-dimensional convolutions over time taps.

    XLA's two-dimensional convolutions run at several times the speed of its three-dimensional ones on a CPU, and
    taps that fall on the zero padding, which are two thirds of the work for a single frame, are left out.
    """
    batch, frames = x.shape[:2]
    taps = kernel.shape[0]
    (before, after), *space = padding
    length = (frames + before + after - taps) // strides[0] + 1
    dimensions = jax.lax.conv_dimension_numbers((1, 1, 1, 1), (1, 1, 1, 1), ("NHWC", "HWIO", "NHWC"))
    # Time leads, so that the frames a tap reads are one block of memory.
    x = jnp.moveaxis(x, 1, 0)

    def tap(k: int) -> tuple[int, int, jax.Array] | None:
        """The outputs [first, last] that tap k reaches, and what it adds to them."""
        reach = [t for t in range(length) if 0 <= t * strides[0] + k - before < frames]
        if not reach:
            return None
        start = reach[0] * strides[0] + k - before
        stop = reach[-1] * strides[0] + k - before + 1
        seen = x[start : stop : strides[0]]
        y = jax.lax.conv_general_dilated(
            seen.reshape(-1, *seen.shape[2:]),
            kernel[k],
            tuple(strides[1:]),
            space,
            dimension_numbers=dimensions,
            precision=PRECISION,
        )
        return reach[0], reach[-1], y.reshape(len(reach), batch, *y.shape[1:])

    parts = [part for k in range(taps) if (part := tap(k)) is not None]
    total = 0.0
    for first, last, y in parts:
        total = total + jnp.pad(y, [(first, length - 1 - last)] + [(0, 0)] * (y.ndim - 1))
    return jnp.moveaxis(total, 0, 1)


def same_padding(sizes: Sequence[int], window: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """TensorFlow's SAME: ceil(size / stride) outputs; an odd rest is padded on the far side."""
    pads = []
    for size, w, s in zip(sizes, window, strides):
        total = max((-(-size // s) - 1) * s + w - size, 0)
        pads.append((total // 2, total - total // 2))
    return pads


def max_pool(
    x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: Padding | None = None, fill: float = -jnp.inf
) -> jax.Array:
    """Maximum over windows of the axes between the first and the last, one axis after the other.

    Args:
      x: (B, *sizes, C).
      window, strides: one number per size.
      padding: cells added before and after each size; none if left out.
      fill: their value. TensorFlow ports pad with zeros, PyTorch's own pooling with minus infinity.
    """
    for axis, (w, s, (before, after)) in enumerate(zip(window, strides, padding or [(0, 0)] * len(window)), start=1):
        if before or after:
            widths = [(0, 0)] * x.ndim
            widths[axis] = (before, after)
            x = jnp.pad(x, widths, constant_values=fill)
        count = (x.shape[axis] - w) // s + 1
        slices = [jax.lax.slice_in_dim(x, k, k + (count - 1) * s + 1, s, axis) for k in range(w)]
        x = slices[0]
        for other in slices[1:]:
            x = jnp.maximum(x, other)
    return x


def average_pool_3x3(x: jax.Array) -> jax.Array:
    """3x3 mean at stride 1 of (B, H, W, C); at the border only the cells inside the picture count."""
    height, width = x.shape[1:3]
    total = sum_3x3(x)
    count = sum_3x3(jnp.ones((1, height, width, 1), x.dtype))
    return total / count


def sum_3x3(x: jax.Array) -> jax.Array:
    """3x3 sum at stride 1 of (B, H, W, C), zeros around the picture."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = padded[:, :height] + padded[:, 1 : height + 1] + padded[:, 2:]
    return rows[:, :, :width] + rows[:, :, 1 : width + 1] + rows[:, :, 2:]
