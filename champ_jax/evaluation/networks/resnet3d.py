"""3D ResNet-50 with projection shortcuts (Hara et al. 2018), 400 Kinetics classes: clips -> 2048 features."""

import jax
import jax.numpy as jnp
from flax import nnx

from champ_jax.evaluation.networks.layers import PRECISION, Conv3d, batch_norm, max_pool

SIZE = 112  # pixels a side
FEATURES = 2048
LENGTH = 16  # frames of a clip

_TAPS = 7  # taps of the first convolution in time


class Bottleneck(nnx.Module):
    """1x1x1, 3x3x3 (with the stride), 1x1x1 to four times the width; a projected shortcut where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int, *, rngs: nnx.Rngs):
        outputs = 4 * width
        strides = (stride,) * 3
        self.conv1 = Conv3d(inputs, width, (1, 1, 1), rngs=rngs)
        self.bn1 = batch_norm(width, 1e-5, rngs)
        self.conv2 = Conv3d(width, width, (3, 3, 3), strides=strides, padding=[(1, 1)] * 3, rngs=rngs)
        self.bn2 = batch_norm(width, 1e-5, rngs)
        self.conv3 = Conv3d(width, outputs, (1, 1, 1), rngs=rngs)
        self.bn3 = batch_norm(outputs, 1e-5, rngs)
        if inputs != outputs or stride != 1:
            projection = Conv3d(inputs, outputs, (1, 1, 1), strides=strides, padding=[(0, 0)] * 3, rngs=rngs)
            self.downsample = nnx.List([projection, batch_norm(outputs, 1e-5, rngs)])
        else:
            self.downsample = nnx.List([])

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = jax.nn.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        for layer in self.downsample:
            x = layer(x)
        return jax.nn.relu(x + y)


class ResNet3D(nnx.Module):
    """16-frame clips -> features before the classifier, the features of FID-VID."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv1 = Conv3d(3, 64, (_TAPS, 7, 7), strides=(1, 2, 2), padding=[(3, 3)] * 3, rngs=rngs)
        self.bn1 = batch_norm(64, 1e-5, rngs)
        inputs = 64
        for number, (blocks, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)], start=1):
            layer = []
            for block in range(blocks):
                layer.append(Bottleneck(inputs, width, 2 if block == 0 and number > 1 else 1, rngs=rngs))
                inputs = 4 * width
            setattr(self, f"layer{number}", nnx.List(layer))

    def stem(self, clips: jax.Array) -> jax.Array:
        """(B, 16, 112, 112, 3) -> (B, 8, 28, 28, 64)."""
        x = jax.nn.relu(self.bn1(self.conv1(clips)))
        return max_pool(x, (3, 3, 3), (2, 2, 2), [(1, 1)] * 3)

    def stem_of_windows(self, frames: jax.Array) -> jax.Array:
        """`stem` of every 16-frame window: (K + 15, 112, 112, 3) -> (K, 8, 28, 28, 64).

        Windows share all but the two ends of the first convolution, where a window sees zeros instead of its
        neighbors. So each tap of it runs once a frame, and the windows differ in which taps they add up. That makes
        the stem, a third of the network's work, nearly free at stride 1.
        """
        count = frames.shape[0] - LENGTH + 1
        kernel = self.conv1.kernel[...]  # (7, 7, 7, 3, 64): time, row, column
        spread = jnp.moveaxis(kernel, 0, 3).reshape(*kernel.shape[1:4], -1)
        dimensions = jax.lax.conv_dimension_numbers(frames.shape, spread.shape, ("NHWC", "HWIO", "NHWC"))
        taps = jax.lax.conv_general_dilated(
            frames, spread, (2, 2), [(3, 3)] * 2, dimension_numbers=dimensions, precision=PRECISION
        )
        taps = jnp.split(taps, _TAPS, axis=-1)

        def finish(summed: jax.Array) -> jax.Array:
            return max_pool(jax.nn.relu(self.bn1(summed)), (3, 3), (2, 2), [(1, 1)] * 2)

        reach = _TAPS // 2
        inner = LENGTH - 2 * reach  # times at which a window's end is out of reach: the same for all windows
        whole = finish(sum(taps[k][k : k + count + inner - 1] for k in range(_TAPS)))

        def at(t: int) -> jax.Array:
            """Time t of every window, (K, 28, 28, 64)."""
            if reach <= t < LENGTH - reach:
                return whole[t - reach : t - reach + count]
            seen = [(k, t + k - reach) for k in range(_TAPS) if 0 <= t + k - reach < LENGTH]
            return finish(sum(taps[k][first : first + count] for k, first in seen))

        times = [at(t) for t in range(LENGTH)]
        return max_pool(jnp.stack(times, axis=1), (3, 1, 1), (2, 1, 1), [(1, 1), (0, 0), (0, 0)])

    def trunk(self, x: jax.Array) -> jax.Array:
        """(B, 8, 28, 28, 64) -> (B, 2048)."""
        for block in (*self.layer1, *self.layer2, *self.layer3, *self.layer4):
            x = block(x)
        return x.mean((1, 2, 3))

    def of_windows(self, frames: jax.Array) -> jax.Array:
        """Features of every 16-frame window at stride 1: (K + 15, 112, 112, 3) -> (K, 2048)."""
        return self.trunk(self.stem_of_windows(frames))

    def __call__(self, clips: jax.Array) -> jax.Array:
        """(B, 16, 112, 112, 3), mean color subtracted -> (B, 2048)."""
        return self.trunk(self.stem(clips))
