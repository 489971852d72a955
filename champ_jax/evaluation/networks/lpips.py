"""LPIPS: distance between two pictures in the features of VGG16 or AlexNet (Zhang et al. 2018, version 0.1)."""

import jax
import jax.numpy as jnp
from flax import nnx

from champ_jax.evaluation.networks.layers import conv2d, max_pool

# (features, kernel, stride, padding) of a convolution with its ReLU, 'pool', 'tap' (features taken here).
# Numbers in torchvision's nn.Sequential count convolutions, ReLUs and pools; the published keys carry them.
_Layer = tuple[int, int, int, int] | str


def _vgg16() -> list[_Layer]:
    layers: list[_Layer] = []
    for features, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers += [(features, 3, 1, 1)] * count + ["tap", "pool"]
    return layers[:-1]


_ALEXNET: list[_Layer] = [
    (64, 11, 4, 2), "tap", "pool", (192, 5, 1, 2), "tap", "pool",
    (384, 3, 1, 1), "tap", (256, 3, 1, 1), "tap", (256, 3, 1, 1), "tap",
]  # fmt: skip

BACKBONES = {"vgg": (_vgg16(), 2), "alex": (_ALEXNET, 3)}  # layers, width of the pools (all at stride 2)

# Smallest side at which every pool still has a window.
SMALLEST = {"vgg": 16, "alex": 31}

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class LPIPS(nnx.Module):
    """The learned distance.

    Args:
      backbone: 'vgg' or 'alex'.
    """

    def __init__(self, backbone: str, *, rngs: nnx.Rngs):
        self.layers, self.pool = BACKBONES[backbone]
        self.features = nnx.Dict()
        self.lin = nnx.List()
        inputs, index = 3, 0
        for layer in self.layers:
            if layer == "tap":
                self.lin.append(nnx.Param(jnp.ones(inputs)))
            elif layer == "pool":
                index += 1
            else:
                features, kernel, stride, padding = layer
                self.features[str(index)] = conv2d(
                    inputs,
                    features,
                    (kernel, kernel),
                    strides=stride,
                    padding=(padding, padding),
                    use_bias=True,
                    rngs=rngs,
                )
                inputs, index = features, index + 2

    def backbone(self, x: jax.Array) -> list[jax.Array]:
        """Features (B, h, w, C) at the five taps of pictures (B, H, W, 3) in [-1, 1]."""
        x = (x - jnp.array(_SHIFT)) / jnp.array(_SCALE)
        taps, index = [], 0
        for layer in self.layers:
            if layer == "tap":
                taps.append(x)
            elif layer == "pool":
                x = max_pool(x, (self.pool, self.pool), (2, 2))
                index += 1
            else:
                x = jax.nn.relu(self.features[str(index)](x))
                index += 2
        return taps

    def per_layer(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """The five summands of the distance, (B, 5); see `__call__`."""
        taps = zip(self.backbone(a), self.backbone(b), self.lin, strict=True)
        return jnp.stack([_distance(fa, fb, weight[...]) for fa, fb, weight in taps], axis=-1)

    def __call__(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """Distances (B,) of pictures (B, H, W, 3) in [-1, 1]."""
        return self.per_layer(a, b).sum(-1)


def _distance(a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
    difference = _unit(a) - _unit(b)
    return (difference**2 * weight).sum(-1).mean((1, 2))


def _unit(x: jax.Array) -> jax.Array:
    return x / (jnp.sqrt((x**2).sum(-1, keepdims=True)) + 1e-10)


def to_range(frames: jax.Array, signed: bool = True) -> jax.Array:
    """uint8 frames as float32 in [-1, 1], or in [0, 1] (what the published figures fed)."""
    unit = frames.astype(jnp.float32) / 255
    return 2 * unit - 1 if signed else unit
