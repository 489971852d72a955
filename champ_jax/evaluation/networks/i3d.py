"""I3D (Inception-v1 inflated, Carreira and Zisserman 2017), 400 Kinetics classes: clips -> logits."""

import jax
import jax.numpy as jnp
from flax import nnx

from champ_jax.evaluation.networks.layers import Conv3d, batch_norm, max_pool, same_padding

SIZE = 224  # pixels a side
FEATURES = 400

# Output channels of b0, b1a, b1b, b2a, b2b, b3b.
_MIXED = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}


class Unit3d(nnx.Module):
    """Convolution with SAME padding, batch normalization (epsilon 1e-3), ReLU."""

    def __init__(
        self, inputs: int, features: int, kernel: int, *, strides: tuple[int, int, int] = (1, 1, 1), rngs: nnx.Rngs
    ):
        self.conv3d = Conv3d(inputs, features, (kernel,) * 3, strides=strides, rngs=rngs)
        self.bn = batch_norm(features, 1e-3, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(self.bn(self.conv3d(x)))


class Mixed(nnx.Module):
    """Four branches side by side: 1x1x1; 1x1x1 then 3x3x3, twice; 3x3x3 pooling then 1x1x1."""

    def __init__(self, inputs: int, widths: tuple[int, ...], *, rngs: nnx.Rngs):
        b0, b1a, b1b, b2a, b2b, b3b = widths
        self.b0 = Unit3d(inputs, b0, 1, rngs=rngs)
        self.b1a = Unit3d(inputs, b1a, 1, rngs=rngs)
        self.b1b = Unit3d(b1a, b1b, 3, rngs=rngs)
        self.b2a = Unit3d(inputs, b2a, 1, rngs=rngs)
        self.b2b = Unit3d(b2a, b2b, 3, rngs=rngs)
        self.b3b = Unit3d(inputs, b3b, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        pooled = same_max_pool(x, (3, 3, 3), (1, 1, 1))
        return jnp.concatenate([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], -1)


class Logits(nnx.Module):
    """The last 1x1x1 convolution, with bias and nothing after it."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv3d = Conv3d(1024, FEATURES, (1, 1, 1), use_bias=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv3d(x)


class I3D(nnx.Module):
    """Clips (B, T, 224, 224, 3) in [-1, 1] -> logits (B, 400), the features of FVD."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv3d_1a_7x7 = Unit3d(3, 64, 7, strides=(2, 2, 2), rngs=rngs)
        self.conv3d_2b_1x1 = Unit3d(64, 64, 1, rngs=rngs)
        self.conv3d_2c_3x3 = Unit3d(64, 192, 3, rngs=rngs)
        inputs = 192
        for name, widths in _MIXED.items():
            setattr(self, name, Mixed(inputs, widths, rngs=rngs))
            inputs = widths[0] + widths[2] + widths[4] + widths[5]
        self.logits = Logits(rngs=rngs)

    def pooled(self, x: jax.Array) -> jax.Array:
        """What the logits layer reads: (B, T', 1, 1, 1024)."""
        x = same_max_pool(self.conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = same_max_pool(self.conv3d_2c_3x3(self.conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        x = same_max_pool(self.mixed_3c(self.mixed_3b(x)), (3, 3, 3), (2, 2, 2))
        x = self.mixed_4f(self.mixed_4e(self.mixed_4d(self.mixed_4c(self.mixed_4b(x)))))
        x = same_max_pool(x, (2, 2, 2), (2, 2, 2))
        x = self.mixed_5c(self.mixed_5b(x))
        return x.mean((2, 3), keepdims=True)  # 7x7 at this size

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.logits(self.pooled(x)).mean((1, 2, 3))


def same_max_pool(x: jax.Array, window: tuple[int, int, int], strides: tuple[int, int, int]) -> jax.Array:
    """Maximum over (T, H, W) windows with TensorFlow's SAME padding; the padding is zeros and takes part."""
    return max_pool(x, window, strides, same_padding(x.shape[1:4], window, strides), fill=0.0)
