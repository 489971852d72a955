"""A small detector of body points, trained on synthetic people: does a result show the pose that was asked for?

It reads a picture at 64 x 64 pixels, which makes little of blur, and gives a heat map of 32 x 32 for each of 24 points:
DWPose's order, 18 points of the body and 6 of the feet. A point's place is the mean of its heat map (Sun et al.,
Integral Human Pose Regression, 2018).
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors.numpy
from flax import nnx
from PIL import Image
from tqdm import tqdm

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.models.functional import PureNetwork, fill
from champ_jax.weights.flat import dotted
from champ_jax.weights.names import unflatten
from champ_jax.weights.tensor_files import open_tensors

POINTS = 24
SIDE = 64  # px of the pictures that the network reads
MAP = 32  # px of its heat maps
MIRRORED = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16, 21, 22, 23, 18, 19, 20)
"""The same point of the other side."""

_CELL = 4  # px that become one position of the network's first map
_SPREAD = 1.2  # px of a heat map: the deviation of the target about a point
_BATCH = 32
_KIND = "a key point detector of champ_jax, version 1"


class KeypointDetector(nnx.Module):
    """Pictures (B, 64, 64, 3) in [0, 1] -> heat maps (B, 24, 32, 32), not normalized."""

    def __init__(self, rngs: nnx.Rngs, widths: Sequence[int] = (48, 96, 128)):
        fine, middle, coarse = widths
        conv = partial(nnx.Conv, kernel_size=(3, 3), rngs=rngs)
        self.stem = conv(3 * _CELL**2, fine)
        self.fine = nnx.List([_Block(fine, rngs), _Block(fine, rngs)])
        self.down = conv(fine, middle, strides=2)
        self.middle = nnx.List([_Block(middle, rngs), _Block(middle, rngs)])
        self.lower = conv(middle, coarse, strides=2)
        self.coarse = nnx.List([_Block(coarse, rngs), _Block(coarse, rngs)])
        self.lift = nnx.Linear(coarse, middle, rngs=rngs)
        self.merged = _Block(middle, rngs)
        self.rise = nnx.Linear(middle, fine, rngs=rngs)
        self.last = _Block(fine, rngs)
        self.heads = nnx.Linear(fine, POINTS * (MAP * _CELL // SIDE) ** 2, rngs=rngs)

    def __call__(self, pictures: jax.Array) -> jax.Array:
        x = self.stem(_patches(2 * pictures - 1))
        for block in self.fine:
            x = block(x)
        y = self.down(x)
        for block in self.middle:
            y = block(y)
        z = self.lower(y)
        for block in self.coarse:
            z = block(z)
        y = self.merged(y + _twice(self.lift(z)))
        x = self.last(x + _twice(self.rise(y)))
        batch, height, width, _ = x.shape
        finer = MAP // height
        maps = self.heads(x).reshape(batch, height, width, POINTS, finer, finer)
        return maps.transpose(0, 3, 1, 4, 2, 5).reshape(batch, POINTS, MAP, MAP)


class _Block(nnx.Module):
    """x + convolution(relu(norm(x)))."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.conv = nnx.Conv(width, width, (3, 3), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.conv(jax.nn.relu(self.norm(x)))


def _patches(x: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // _CELL, _CELL, width // _CELL, _CELL, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // _CELL, width // _CELL, -1)


def _twice(x: jax.Array) -> jax.Array:
    return x.repeat(2, axis=1).repeat(2, axis=2)


def places(maps: jax.Array) -> jax.Array:
    """The points (B, 24, 2), x and y in shares of the picture's sides, that heat maps (B, 24, h, w) show."""
    batch, points, height, width = maps.shape
    share = jax.nn.softmax(maps.reshape(batch, points, -1).astype(jnp.float32)).reshape(maps.shape)
    x = (share.sum(2) * ((jnp.arange(width) + 0.5) / width)).sum(-1)
    y = (share.sum(3) * ((jnp.arange(height) + 0.5) / height)).sum(-1)
    return jnp.stack([x, y], axis=-1)


def small_pictures(frames: Sequence[np.ndarray]) -> np.ndarray:
    """(T, 64, 64, 3) uint8 of frames of any sizes: means of their pixels' areas; sides need not keep their ratio."""
    sides = (SIDE, SIDE)
    return np.stack([np.asarray(Image.fromarray(x).resize(sides, Image.Resampling.BOX)) for x in frames])


@dataclasses.dataclass(frozen=True)
class Detector:
    """A trained detector.

    Attributes:
      training: a digest of what it was trained on.
      detect: small pictures (B, 64, 64, 3) uint8, any number -> points (B, 24, 2) in shares of the sides.
    """

    training: str
    detect: Callable[[np.ndarray], np.ndarray]

    def points(self, frames: np.ndarray) -> np.ndarray:
        """(T, 24, 2) x and y in px of frames (T, H, W, 3) uint8."""
        height, width = frames.shape[1:3]
        return self.detect(small_pictures(frames)) * np.array([width, height])


def train(
    pictures: np.ndarray, points: np.ndarray, training: str, path: Path, *, steps: int, seed: int = 0
) -> Detector:
    """Trains a detector and writes it.

    Args:
      pictures: (N, 64, 64, 3) uint8.
      points: (N, 24, 3) x and y in shares of the picture's sides, and a score; points with score 0, and those outside
        of the picture, are not learned.
      training: a digest of these.
      path: the .safetensors file.
      steps: The number of steps, of 32 pictures each.
      seed: The seed of initial values and draws.
    """
    network, parameters = PureNetwork.split(KeypointDetector(nnx.Rngs(seed)))
    # Flat: one update of all parameters compiles faster than one of each.
    optimizer = optax.flatten(optax.adamw(optax.cosine_onecycle_schedule(steps, 3e-3), weight_decay=1e-4))

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters, state, pictures, points, key):
        pictures, points = _disturbed(pictures, points, key)
        gradients = jax.grad(lambda values: _loss(network.bind(values)(pictures), points))(parameters)
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state

    rng, state = np.random.default_rng(seed), optimizer.init(parameters)
    for number in tqdm(range(steps), unit="step", desc="key point detector", disable=None):
        drawn = rng.integers(len(pictures), size=_BATCH)
        key = jax.random.fold_in(jax.random.key(seed), number)
        parameters, state = step(parameters, state, pictures[drawn], points[drawn], key)
    write(path, parameters, training)
    return Detector(training, _detect(network, parameters))


def write(path: Path, parameters: nnx.State, training: str) -> None:
    """Writes a detector's parameters, with a digest of what they were trained on, for `load`."""
    arrays = {dotted(name): np.asarray(leaf[...]) for name, leaf in nnx.to_flat_state(parameters)}
    with atomic_path(path) as temporary:
        safetensors.numpy.save_file(arrays, temporary, metadata={"kind": _KIND, "training": training})


def load(path: Path) -> Detector:
    """Reads what `train` wrote.

    Raises:
      InputError: it is no such file, or damaged.
    """
    training = trained_on(path)
    if training is None:
        raise InputError(f"{path}: is not {_KIND}; name another file")
    network, parameters = PureNetwork.split(nnx.eval_shape(lambda: KeypointDetector(nnx.Rngs(0))))
    wanted = {dotted(name): (name, leaf.shape) for name, leaf in nnx.to_flat_state(parameters)}
    with open_tensors(path) as file:
        arrays = {key: file.read(key) for key, info in file.tensors.items() if key in wanted}
    for key, (_, shape) in wanted.items():
        if key not in arrays or arrays[key].shape != shape or not np.isfinite(arrays[key]).all():
            raise InputError(f"{path}: is damaged ({key}); remove it, and it is trained again")
    tree = unflatten((name, arrays[key].astype(np.float32)) for key, (name, _) in wanted.items())
    return Detector(training, _detect(network, fill(parameters, tree)))


def trained_on(path: Path) -> str | None:
    """The digest of what the detector in a file was trained on; None if the file holds no detector of this version.

    Raises:
      InputError: the file is no weights file.
    """
    with open_tensors(path) as file:
        if file.metadata.get("kind") != _KIND:
            return None
        return file.metadata.get("training", "")


def _detect(network: PureNetwork, parameters: nnx.State) -> Callable[[np.ndarray], np.ndarray]:
    run = jax.jit(lambda parameters, pictures: places(network.bind(parameters)(pictures / jnp.float32(255))))

    def detect(pictures: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(pictures), _BATCH):
            batch = pictures[start : start + _BATCH]
            padded = np.concatenate([batch, np.repeat(batch[-1:], _BATCH - len(batch), axis=0)])
            found.append(np.asarray(run(parameters, padded))[: len(batch)])
        return np.concatenate(found)

    return detect


def _loss(maps: jax.Array, points: jax.Array) -> jax.Array:
    """Cross entropy of the heat maps with Gaussians about the points, and the points' distance."""
    wanted, score = points[..., :2], points[..., 2]
    inside = (score > 0) & (wanted > 0).all(-1) & (wanted < 1).all(-1)
    centers = (jnp.arange(MAP) + 0.5) / MAP
    along = jnp.exp(-(((centers - wanted[..., None]) * MAP / _SPREAD) ** 2) / 2)  # (B, 24, 2, MAP)
    target = along[..., 1, :, None] * along[..., 0, None, :]
    target = target / jnp.maximum(target.sum((-2, -1), keepdims=True), 1e-9)
    logs = jax.nn.log_softmax(maps.reshape(*maps.shape[:2], -1)).reshape(maps.shape)
    entropy = -(target * logs).sum((-2, -1))
    distance = jnp.abs(places(maps) - wanted).sum(-1) * MAP
    return (jnp.where(inside, entropy + distance, 0)).sum() / jnp.maximum(inside.sum(), 1)


def _disturbed(pictures: jax.Array, points: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pictures in [0, 1], mirrored, moved, scaled, recolored and blurred at random, with their points."""
    keys = jax.random.split(key, 6)
    batch = len(pictures)
    pictures = pictures / jnp.float32(255)
    mirrored = jax.random.bernoulli(keys[0], 0.5, (batch,))
    pictures = jnp.where(mirrored[:, None, None, None], pictures[:, :, ::-1], pictures)
    other = points[:, jnp.array(MIRRORED)]
    other = other.at[..., 0].set(1 - other[..., 0])
    points = jnp.where(mirrored[:, None, None], other, points)
    scale = jax.random.uniform(keys[1], (batch, 1), minval=0.8, maxval=1.2)
    shift = jax.random.uniform(keys[2], (batch, 2), minval=-0.12, maxval=0.12)
    points = points.at[..., :2].set(0.5 + scale[:, None] * (points[..., :2] - 0.5) + shift[:, None])
    # Where each pixel of the new picture comes from, along x and along y; beyond the borders these repeat.
    centers = (jnp.arange(SIDE) + 0.5) / SIDE
    source = (0.5 + (centers[:, None] - 0.5 - shift[:, None]) / scale[:, None]) * SIDE - 0.5  # (B, SIDE, 2)
    source = jnp.clip(source, 0, SIDE - 1)
    taps = jnp.maximum(1 - jnp.abs(source[:, None] - jnp.arange(SIDE)[:, None, None]), 0)  # (B, from, to, 2)
    pictures = jnp.einsum("bhwc,bwv->bhvc", pictures, taps[..., 0])
    pictures = jnp.einsum("bhwc,bhv->bvwc", pictures, taps[..., 1])
    gain = jax.random.uniform(keys[3], (batch, 1, 1, 3), minval=0.7, maxval=1.3)
    pictures = jnp.clip(pictures * gain, 0, 1)
    padded = jnp.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    blurred = sum(padded[:, i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3)) / 9
    share = jax.random.uniform(keys[4], (batch, 1, 1, 1))
    pictures = pictures + share * (blurred - pictures)
    return pictures + 0.02 * jax.random.normal(keys[5], pictures.shape), points
