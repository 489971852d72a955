"""Inception v3 as the Frechet inception distance uses it (weights of 2015-12-05): pictures -> 2048 features."""

import jax
import jax.numpy as jnp
from flax import nnx

from champ_jax.evaluation.networks.layers import average_pool_3x3, batch_norm, conv2d, max_pool

SIZE = 299  # pixels a side, resized inside the network


class ConvBN(nnx.Module):
    """Convolution without bias, batch normalization (epsilon 1e-3), ReLU."""

    def __init__(
        self,
        inputs: int,
        features: int,
        kernel: tuple[int, int],
        *,
        strides: int = 1,
        padding: tuple[int, int] = (0, 0),
        rngs: nnx.Rngs,
    ):
        self.conv = conv2d(inputs, features, kernel, strides=strides, padding=padding, rngs=rngs)
        self.bn = batch_norm(features, 1e-3, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(self.bn(self.conv(x)))


class BlockA(nnx.Module):
    """35x35: 1x1, 5x5, double 3x3 and pooled branches."""

    def __init__(self, inputs: int, pool: int, *, rngs: nnx.Rngs):
        self.branch1x1 = ConvBN(inputs, 64, (1, 1), rngs=rngs)
        self.branch5x5_1 = ConvBN(inputs, 48, (1, 1), rngs=rngs)
        self.branch5x5_2 = ConvBN(48, 64, (5, 5), padding=(2, 2), rngs=rngs)
        self.branch3x3dbl_1 = ConvBN(inputs, 64, (1, 1), rngs=rngs)
        self.branch3x3dbl_2 = ConvBN(64, 96, (3, 3), padding=(1, 1), rngs=rngs)
        self.branch3x3dbl_3 = ConvBN(96, 96, (3, 3), padding=(1, 1), rngs=rngs)
        self.branch_pool = ConvBN(inputs, pool, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        pooled = self.branch_pool(average_pool_3x3(x))
        return jnp.concatenate([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, pooled], -1)


class BlockB(nnx.Module):
    """35x35 -> 17x17."""

    def __init__(self, inputs: int, *, rngs: nnx.Rngs):
        self.branch3x3 = ConvBN(inputs, 384, (3, 3), strides=2, rngs=rngs)
        self.branch3x3dbl_1 = ConvBN(inputs, 64, (1, 1), rngs=rngs)
        self.branch3x3dbl_2 = ConvBN(64, 96, (3, 3), padding=(1, 1), rngs=rngs)
        self.branch3x3dbl_3 = ConvBN(96, 96, (3, 3), strides=2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return jnp.concatenate([self.branch3x3(x), double, max_pool(x, (3, 3), (2, 2))], -1)


class BlockC(nnx.Module):
    """17x17: 7x7 split into rows and columns, `width` channels inside."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        row, column = ((1, 7), (0, 3)), ((7, 1), (3, 0))

        def conv(inputs: int, features: int, shape: tuple[tuple[int, int], tuple[int, int]]) -> ConvBN:
            return ConvBN(inputs, features, shape[0], padding=shape[1], rngs=rngs)

        self.branch1x1 = ConvBN(768, 192, (1, 1), rngs=rngs)
        self.branch7x7_1 = ConvBN(768, width, (1, 1), rngs=rngs)
        self.branch7x7_2 = conv(width, width, row)
        self.branch7x7_3 = conv(width, 192, column)
        self.branch7x7dbl_1 = ConvBN(768, width, (1, 1), rngs=rngs)
        self.branch7x7dbl_2 = conv(width, width, column)
        self.branch7x7dbl_3 = conv(width, width, row)
        self.branch7x7dbl_4 = conv(width, width, column)
        self.branch7x7dbl_5 = conv(width, 192, row)
        self.branch_pool = ConvBN(768, 192, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return jnp.concatenate([self.branch1x1(x), single, double, self.branch_pool(average_pool_3x3(x))], -1)


class BlockD(nnx.Module):
    """17x17 -> 8x8."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.branch3x3_1 = ConvBN(768, 192, (1, 1), rngs=rngs)
        self.branch3x3_2 = ConvBN(192, 320, (3, 3), strides=2, rngs=rngs)
        self.branch7x7x3_1 = ConvBN(768, 192, (1, 1), rngs=rngs)
        self.branch7x7x3_2 = ConvBN(192, 192, (1, 7), padding=(0, 3), rngs=rngs)
        self.branch7x7x3_3 = ConvBN(192, 192, (7, 1), padding=(3, 0), rngs=rngs)
        self.branch7x7x3_4 = ConvBN(192, 192, (3, 3), strides=2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return jnp.concatenate([self.branch3x3_2(self.branch3x3_1(x)), seven, max_pool(x, (3, 3), (2, 2))], -1)


class BlockE(nnx.Module):
    """8x8: 3x3 split into a row and a column side by side; the last block pools by maximum (`max_pooled`)."""

    def __init__(self, inputs: int, max_pooled: bool, *, rngs: nnx.Rngs):
        self.max_pooled = max_pooled
        self.branch1x1 = ConvBN(inputs, 320, (1, 1), rngs=rngs)
        self.branch3x3_1 = ConvBN(inputs, 384, (1, 1), rngs=rngs)
        self.branch3x3_2a = ConvBN(384, 384, (1, 3), padding=(0, 1), rngs=rngs)
        self.branch3x3_2b = ConvBN(384, 384, (3, 1), padding=(1, 0), rngs=rngs)
        self.branch3x3dbl_1 = ConvBN(inputs, 448, (1, 1), rngs=rngs)
        self.branch3x3dbl_2 = ConvBN(448, 384, (3, 3), padding=(1, 1), rngs=rngs)
        self.branch3x3dbl_3a = ConvBN(384, 384, (1, 3), padding=(0, 1), rngs=rngs)
        self.branch3x3dbl_3b = ConvBN(384, 384, (3, 1), padding=(1, 0), rngs=rngs)
        self.branch_pool = ConvBN(inputs, 192, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = max_pool(x, (3, 3), (1, 1), [(1, 1), (1, 1)]) if self.max_pooled else average_pool_3x3(x)
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        ]
        return jnp.concatenate(branches, -1)


class FIDInception(nnx.Module):
    """Pictures -> the 2048 globally averaged features before the classifier."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv2d_1a_3x3 = ConvBN(3, 32, (3, 3), strides=2, rngs=rngs)
        self.conv2d_2a_3x3 = ConvBN(32, 32, (3, 3), rngs=rngs)
        self.conv2d_2b_3x3 = ConvBN(32, 64, (3, 3), padding=(1, 1), rngs=rngs)
        self.conv2d_3b_1x1 = ConvBN(64, 80, (1, 1), rngs=rngs)
        self.conv2d_4a_3x3 = ConvBN(80, 192, (3, 3), rngs=rngs)
        self.mixed_5b = BlockA(192, 32, rngs=rngs)
        self.mixed_5c = BlockA(256, 64, rngs=rngs)
        self.mixed_5d = BlockA(288, 64, rngs=rngs)
        self.mixed_6a = BlockB(288, rngs=rngs)
        self.mixed_6b = BlockC(128, rngs=rngs)
        self.mixed_6c = BlockC(160, rngs=rngs)
        self.mixed_6d = BlockC(160, rngs=rngs)
        self.mixed_6e = BlockC(192, rngs=rngs)
        self.mixed_7a = BlockD(rngs=rngs)
        self.mixed_7b = BlockE(1280, False, rngs=rngs)
        self.mixed_7c = BlockE(2048, True, rngs=rngs)

    def first_block(self, x: jax.Array) -> jax.Array:
        """(B, 299, 299, 3) in [-1, 1] -> (B, 73, 73, 64), the features FID of 64 dimensions averages."""
        x = self.conv2d_2b_3x3(self.conv2d_2a_3x3(self.conv2d_1a_3x3(x)))
        return max_pool(x, (3, 3), (2, 2))

    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, 299, 299, 3) in [-1, 1] -> (B, 2048)."""
        x = self.conv2d_4a_3x3(self.conv2d_3b_1x1(self.first_block(x)))
        x = self.mixed_5d(self.mixed_5c(self.mixed_5b(max_pool(x, (3, 3), (2, 2)))))
        x = self.mixed_6e(self.mixed_6d(self.mixed_6c(self.mixed_6b(self.mixed_6a(x)))))
        return self.mixed_7c(self.mixed_7b(self.mixed_7a(x))).mean((1, 2))
