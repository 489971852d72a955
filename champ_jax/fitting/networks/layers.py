"""What the networks are made of: convolutions that are fast on processors, and the blocks they share.

Weights are nested dictionaries of arrays; the shapes of the kernels say what a layer does, so that a network's function
names its layers and nothing else. Pictures and features are (batch, height, width, channels).

A convolution of 1x1 is a matrix product, and a depthwise convolution a sum of shifted and scaled copies: XLA's own
convolutions of these kinds take five times as long on a processor.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Weights = Mapping[str, Any]
"""{name: array or Weights}."""

PRECISION = lax.Precision.HIGHEST  # bfloat16 or TensorFloat-32 would move the points by pixels


def relu6(x: jax.Array) -> jax.Array:
    """Clips to 0 .. 6."""
    return jnp.clip(x, 0, 6)


def prelu(w: Weights, x: jax.Array) -> jax.Array:
    """Scales what is negative by a slope a channel, `w["slope"]` (C,)."""
    return jnp.where(x >= 0, x, x * w["slope"])


def dense(w: Weights, x: jax.Array) -> jax.Array:
    """A matrix product over the last axis, as a convolution of 1x1 is: kernel (in, out), bias (out,)."""
    return jnp.einsum("...i,io->...o", x, w["kernel"], precision=PRECISION) + w["bias"]


def scale(w: Weights, x: jax.Array) -> jax.Array:
    """A scale and a bias a channel, (C,) each."""
    return x * w["kernel"] + w["bias"]


def conv(w: Weights, x: jax.Array, stride: int = 1, padding: str = "valid") -> jax.Array:
    """A convolution: kernel (kh, kw, in, out), bias (out,); `padding` as in `depthwise`."""
    kernel = w["kernel"]
    pads = _pads(x.shape[1:3], kernel.shape[:2], stride, padding)
    y = lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=PRECISION
    )
    return y + w["bias"]


def depthwise(w: Weights, x: jax.Array, stride: int = 1, padding: str = "same") -> jax.Array:
    """A convolution of every channel with its own kernel: kernel (kh, kw, C), bias (C,).

    Args:
      w: the weights.
      x: (B, H, W, C).
      stride: of both axes.
      padding: 'same' as TensorFlow pads (the odd zero comes after), 'symmetric' (half a kernel on every side) or
        'valid' (none). They differ where the stride is 2.
    """
    kernel = w["kernel"]
    rows, columns = _pads(x.shape[1:3], kernel.shape[:2], stride, padding)
    x = jnp.pad(x, ((0, 0), rows, columns, (0, 0)))
    height, width = ((side - size) // stride + 1 for side, size in zip(x.shape[1:3], kernel.shape[:2]))
    y = w["bias"]
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            shifted = x[:, i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride]
            y = y + shifted * kernel[i, j]
    return y


def max_pool(x: jax.Array) -> jax.Array:
    """The largest of every 2x2 pixels."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


def fit_channels(x: jax.Array, channels: int) -> jax.Array:
    """Drops the last channels, or adds channels of zeros."""
    return jnp.pad(x[..., :channels], ((0, 0), (0, 0), (0, 0), (0, max(channels - x.shape[-1], 0))))


def depth_to_space(x: jax.Array) -> jax.Array:
    """Four channels become 2x2 pixels."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * 2, width * 2, channels // 4)


def upsample(x: jax.Array) -> jax.Array:
    """Doubles height and width: linear between the centers of the pixels, the outermost values repeated."""
    for axis in (1, 2):
        before, after = (_shift(x, step, axis) for step in (-1, 1))
        pairs = jnp.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis=axis + 1)
        x = pairs.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return x


def inverted_residual(w: Weights, x: jax.Array, stride: int, padding: str) -> jax.Array:
    """MobileNetV2's block: expand, depthwise, project; added to its input where the shapes agree."""
    y = relu6(dense(w["expand"], x)) if "expand" in w else x
    y = dense(w["project"], relu6(depthwise(w["depthwise"], y, stride, padding)))
    return x + y if y.shape == x.shape and "expand" in w else y


def backbone(w: Weights, x: jax.Array, strides: tuple[int, ...], padding: str) -> tuple[list[jax.Array], jax.Array]:
    """EfficientNet-Lite's body: a strided convolution, inverted residuals, and a last expansion.

    Args:
      w: "stem", "block00" and following, "top".
      x: (B, H, W, 3).
      strides: of the blocks.
      padding: 'same' or 'symmetric'.

    Returns:
      The outputs of the blocks, and the features of the top.
    """
    x = relu6(conv(w["stem"], x, 2, padding))
    outputs = []
    for index, stride in enumerate(strides):
        x = inverted_residual(w[f"block{index:02}"], x, stride, padding)
        outputs.append(x)
    top = relu6(dense(w["top"]["expand"], x))
    return outputs, relu6(depthwise(w["top"]["depthwise"], top))


def separable(w: Weights, x: jax.Array, stride: int = 1, padding: str = "same") -> jax.Array:
    """A depthwise convolution and a dense one, nothing between."""
    return dense(w["project"], depthwise(w["depthwise"], x, stride, padding))


def separable_relu6(w: Weights, x: jax.Array, stride: int = 1) -> jax.Array:
    """A depthwise convolution clipped to 0 .. 6, and a dense one."""
    return dense(w["project"], relu6(depthwise(w["depthwise"], x, stride)))


def nested(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """{"a/b": array} as {"a": {"b": array}}."""
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        *path, leaf = name.split("/")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[leaf] = array
    return tree


def _pads(sides: tuple[int, ...], sizes: tuple[int, ...], stride: int, padding: str) -> list[tuple[int, int]]:
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if padding == "symmetric":
        return [(size // 2, size // 2) for size in sizes]
    if padding != "same":
        raise ValueError(f"padding {padding!r}")
    missing = [max((-(-side // stride) - 1) * stride + size - side, 0) for side, size in zip(sides, sizes)]
    return [(total // 2, total - total // 2) for total in missing]


def _shift(x: jax.Array, step: int, axis: int) -> jax.Array:
    """x[i + step] at i, the outermost values repeated."""
    first, last = (lax.slice_in_dim(x, at, at + 1, axis=axis) for at in (0, x.shape[axis] - 1))
    if step > 0:
        return jnp.concatenate([lax.slice_in_dim(x, 1, None, axis=axis), last], axis=axis)
    return jnp.concatenate([first, lax.slice_in_dim(x, 0, -1, axis=axis)], axis=axis)
