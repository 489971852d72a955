"""The frozen networks as one jitted function over pictures, for the latent cache."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from champ_jax.data.latents import Encoder
from champ_jax.models.attention import recommended_kernels
from champ_jax.models.champ import ChampConfig, build_component
from champ_jax.models.clip import CLIPVisionTower, normalise
from champ_jax.models.vae import VAE
from champ_jax.weights.checkpoint import load_checkpoint

NETWORKS = ("vae", "image_encoder")


def load_encoder(weights: str | os.PathLike, dtype: Any = jnp.float32) -> Encoder:
    """Reads the VAE and the image encoder of a checkpoint.

    Args:
      weights: a checkpoint directory (tools/convert_weights.py).
      dtype: of the computation.

    Raises:
      InputError: no checkpoint, or a damaged one.
    """
    fields, trees = load_checkpoint(weights, NETWORKS, dtype)
    return encoder_of(ChampConfig.from_json(fields["model"]), trees, fields["components"], dtype)


def encoder_of(
    config: ChampConfig, trees: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]], dtype: Any = jnp.float32
) -> Encoder:
    """The encoder of networks that are in memory.

    Args:
      config: of the model.
      trees: {'vae', 'image_encoder': pure nested dict of arrays in `dtype`}.
      components: what `champ_jax.weights.checkpoint.describe` says of them as they were stored.
      dtype: of the computation.
    """
    described = "".join(components[name]["sha256"] for name in NETWORKS)
    networks = hashlib.sha256(f"{described} {jnp.dtype(dtype).name}".encode()).hexdigest()
    # The recommended kernels may be fused ones, which take half precision only.
    kernels = recommended_kernels() if jnp.dtype(dtype).itemsize == 2 else None
    modules = {}
    for name in NETWORKS:
        abstract = nnx.eval_shape(
            lambda name=name: build_component(
                name, config, kernels=kernels, dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0)
            )
        )
        graph, state = nnx.split(abstract)
        nnx.replace_by_pure_dict(state, trees[name])
        modules[name] = nnx.merge(graph, state)
    return make_encoder(modules["vae"], modules["image_encoder"], networks)


def make_encoder(vae: VAE, image_encoder: CLIPVisionTower, networks: str) -> Encoder:
    """The networks, known as `networks`, as a function that is spread over all devices of this process."""
    mesh = Mesh(np.array(jax.local_devices()), ("data",))
    graph, state = nnx.split((vae, image_encoder))
    state = jax.device_put(state, NamedSharding(mesh, P()))

    @jax.jit
    def run(state: nnx.State, pictures: jax.Array, small: jax.Array) -> dict[str, jax.Array]:
        vae, image_encoder = nnx.merge(graph, state)
        posterior = vae.encode(pictures / jnp.float32(127.5) - 1)
        embedding = image_encoder(normalise(small))
        outputs = {"mean": posterior.mean, "std": jnp.exp(0.5 * posterior.logvar), "embedding": embedding}
        return jax.tree.map(lambda x: x.astype(jnp.float32), outputs)

    def encode(pictures: np.ndarray, small: np.ndarray) -> dict[str, np.ndarray]:
        rows = NamedSharding(mesh, P("data"))
        return jax.device_get(run(state, *(jax.device_put(x, rows) for x in (pictures, small))))

    return Encoder(encode, networks, vae.config.downscale, len(jax.local_devices()))
