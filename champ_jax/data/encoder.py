"""The frozen networks as one jitted function over pictures, for the latent cache."""

import hashlib
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from champ_jax.data.latents import Encoder
from champ_jax.inference.stages import embed_pictures, encode_pictures
from champ_jax.models.attention import recommended_kernels
from champ_jax.models.champ import build_component
from champ_jax.models.clip import CLIPVisionTower
from champ_jax.models.functional import PureNetwork, fill
from champ_jax.models.options import AttentionKernels, NetworkOptions
from champ_jax.models.vae import VAE
from champ_jax.weights.opening import open_weights

NETWORKS = ("vae", "image_encoder")


def load_encoder(path: str | os.PathLike, dtype: Any = jnp.float32) -> Encoder:
    """Reads the VAE and the image encoder.

    Args:
      path: a converted checkpoint, a training work folder or a packed model.
      dtype: The dtype of the computation.

    Raises:
      InputError: there are no such weights, or they are damaged.
    """
    weights = open_weights(path)
    trees = weights.load(NETWORKS)
    digests = "".join(weights.digest(name, trees[name]) for name in NETWORKS)
    networks = hashlib.sha256(f"{digests} {jnp.dtype(dtype).name}".encode()).hexdigest()
    # The recommended kernels may be fused ones, which take half precision only.
    kernels = recommended_kernels() if jnp.dtype(dtype).itemsize == 2 else AttentionKernels()
    options = NetworkOptions(dtype, dtype, kernels)
    modules = {}
    for name in NETWORKS:
        network, parameters = PureNetwork.split(build_component(name, weights.model, options))
        modules[name] = network.bind(fill(parameters, trees[name]))
    return make_encoder(modules["vae"], modules["image_encoder"], networks)


def make_encoder(vae: VAE, image_encoder: CLIPVisionTower, networks: str) -> Encoder:
    """The networks as a function that is spread over all devices of this process.

    Args:
      vae: The autoencoder, with bound arrays.
      image_encoder: The image encoder, with bound arrays.
      networks: sha256 that identifies them.
    """
    mesh = Mesh(np.array(jax.local_devices()), ("data",))
    network, parameters = PureNetwork.split((vae, image_encoder))
    parameters = jax.device_put(parameters, NamedSharding(mesh, P()))

    @jax.jit
    def run(parameters: nnx.State, pictures: jax.Array, small: jax.Array) -> dict[str, jax.Array]:
        vae, image_encoder = network.bind(parameters)
        mean, deviation = encode_pictures(vae, pictures)
        embedding = embed_pictures(image_encoder, small).astype(jnp.float32)
        return {"mean": mean, "std": deviation, "embedding": embedding}

    def encode(pictures: np.ndarray, small: np.ndarray) -> dict[str, np.ndarray]:
        rows = NamedSharding(mesh, P("data"))
        return jax.device_get(run(parameters, *(jax.device_put(x, rows) for x in (pictures, small))))

    return Encoder(encode, networks, vae.config.downscale, len(jax.local_devices()))
