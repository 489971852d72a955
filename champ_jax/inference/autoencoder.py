"""The autoencoder alone: what is left of pictures that go through it and back, the ceiling of everything it decodes."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from champ_jax.common.errors import InputError
from champ_jax.inference.stages import decode_latents, picture_latents, to_bytes
from champ_jax.models.champ import build_component
from champ_jax.models.functional import PureNetwork, fill
from champ_jax.models.options import NetworkOptions
from champ_jax.weights.opening import Weights

_AT_ONCE = 4  # frames; fewer leave a CPU's caches less to move


class Autoencoder:
    """The VAE of some weights, compiled for frames of each size that comes up.

    Attributes:
      downscale: factor between the sizes of a picture and its latents.
    """

    def __init__(self, weights: Weights):
        """Reads the VAE.

        Raises:
          InputError: the weights have none, or it is damaged.
        """
        network, parameters = PureNetwork.split(build_component("vae", weights.model, NetworkOptions()))
        self._path = weights.path
        self._parameters = jax.device_put(fill(parameters, weights.load(["vae"], jnp.float32)["vae"]))
        self.downscale = weights.model.vae.downscale

        @jax.jit
        def encode(parameters: nnx.State, pictures: jax.Array) -> jax.Array:
            return picture_latents(network.bind(parameters), pictures)

        @jax.jit
        def decode(parameters: nnx.State, latents: jax.Array) -> jax.Array:
            return to_bytes(decode_latents(network.bind(parameters), latents))

        self._encode, self._decode = encode, decode

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """Scaled latents (T, h, w, C) float32 of frames (T, H, W, 3) uint8, the posterior's mean.

        Raises:
          InputError: the frames' sides are no multiples of `downscale`.
        """
        height, width = frames.shape[1:3]
        if height % self.downscale or width % self.downscale:
            raise InputError(
                f"{self._path}: its autoencoder takes sides that are multiples of {self.downscale}; the frames are "
                f"{width}x{height}"
            )
        return self._in_batches(self._encode, frames)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Frames (T, H, W, 3) uint8 of scaled latents (T, h, w, C)."""
        return self._in_batches(self._decode, latents)

    def _in_batches(self, function, items: np.ndarray) -> np.ndarray:
        made = []
        for start in range(0, len(items), _AT_ONCE):
            batch = items[start : start + _AT_ONCE]
            padded = np.concatenate([batch, np.repeat(batch[-1:], _AT_ONCE - len(batch), axis=0)])
            made.append(np.asarray(function(self._parameters, padded))[: len(batch)])
        return np.concatenate(made)
