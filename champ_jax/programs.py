"""The device programs around the denoiser: picture and conditions in, frames out.

Each is a pure function, lowered for one picture size. Frames are split over all devices of the mesh; what every device
needs (the clip's latents and guidance, the picture) is replicated.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from champ_jax.diffusion.denoise import EVERY
from champ_jax.diffusion.samplers import SAMPLERS, Memory, Path
from champ_jax.diffusion.schedules import Schedule
from champ_jax.models.functional import PureNetwork
from champ_jax.models.unet import Reference

CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)

Networks = Mapping[str, PureNetwork]
Parameters = Mapping[str, nnx.State]


def encode_picture(
    networks: Networks, scaling: float, parameters: Parameters, small: jax.Array, picture: jax.Array
) -> Reference:
    """What the denoiser reads of a picture.

    Args:
      networks: image_encoder, vae, reference_unet and denoising_unet.
      scaling: of the latents.
      parameters: of these.
      small: (1, S, S, 3) uint8, the picture at the image encoder's size.
      picture: (1, H, W, 3) uint8, at the video's size.
    """
    image_encoder, vae, reference_unet, denoiser = (
        networks[name].bind(parameters[name])
        for name in ("image_encoder", "vae", "reference_unet", "denoising_unet")
    )
    token = image_encoder((small.astype(jnp.float32) / 255 - CLIP_MEAN) / CLIP_STD)
    latents = scaling * vae.encode(picture.astype(jnp.float32) / 127.5 - 1).mean
    return denoiser.prepare_reference(reference_unet.bank(latents, token), token)


def encode_conditions(
    network: PureNetwork, mesh: Mesh, parameters: nnx.State, conditions: Mapping[str, jax.Array]
) -> jax.Array:
    """{condition: (n, H, W, 3) uint8} -> guidance (n, h, w, C0) on every device; each encodes its share of the frames."""

    def local(parameters: nnx.State, conditions: Mapping[str, jax.Array]) -> jax.Array:
        return network.bind(parameters)({name: x.astype(jnp.float32) / 255 for name, x in conditions.items()})

    # check_vma: as for the denoiser, Pallas kernels do not say how their outputs vary.
    split = jax.shard_map(local, mesh=mesh, in_specs=(P(), P(EVERY)), out_specs=P(EVERY), check_vma=False)
    return jax.lax.with_sharding_constraint(split(parameters, conditions), NamedSharding(mesh, P()))


@partial(jax.jit, donate_argnums=0)
def write_frames(clip: jax.Array, chunk: jax.Array, start: jax.Array) -> jax.Array:
    """Puts (n, ...) into (F, ...) at frame `start`, in place."""
    return jax.lax.dynamic_update_slice_in_dim(clip, chunk.astype(clip.dtype), start, axis=0)


def decode(network: PureNetwork, mesh: Mesh, scaling: float, parameters: nnx.State, latents: jax.Array) -> jax.Array:
    """Latents (n, h, w, 4) -> pictures (n, H, W, 3) float32 in [0, 1], split over the mesh's devices."""

    def local(parameters: nnx.State, latents: jax.Array) -> jax.Array:
        pictures = network.bind(parameters).decode(latents / scaling)
        return jnp.clip(pictures.astype(jnp.float32) / 2 + 0.5, 0, 1)

    run = jax.shard_map(local, mesh=mesh, in_specs=(P(), P(EVERY)), out_specs=P(EVERY), check_vma=False)
    return run(parameters, latents)


@partial(jax.jit, static_argnums=(0, 1))
def take_frames(mesh: Mesh, count: int, latents: jax.Array, start: jax.Array) -> jax.Array:
    """`count` frames of (F, h, w, 4) from `start` on, split over the devices; the last frame stands in past the end."""
    frames = jnp.minimum(start + jnp.arange(count), latents.shape[0] - 1)
    return jax.lax.with_sharding_constraint(latents[frames], NamedSharding(mesh, P(EVERY)))


def make_update(schedule: Schedule, sampler: str, path: Path, seed: int, everywhere: NamedSharding) -> Any:
    """The jitted sampler step (i, x, prediction, memory) -> (x, memory); its arrays are donated."""

    def update(i: jax.Array, x: jax.Array, prediction: jax.Array, memory: Memory) -> tuple[jax.Array, Memory]:
        denoised = schedule.denoised(prediction, x, jnp.asarray(path.timesteps)[i])
        noise = frame_noise(jax.random.fold_in(jax.random.key(seed), i + 1), x.shape) if path.eta else None
        return SAMPLERS[sampler].step(path, i, x, denoised, memory, noise)

    return jax.jit(update, donate_argnums=(1, 2, 3), out_shardings=everywhere)


def initial_noise(seed: int, shape: tuple[int, ...], everywhere: NamedSharding) -> jax.Array:
    """Normal noise (F, h, w, C) float32. A frame's depends on the seed and its number, not on the clip's length."""
    draw = jax.jit(lambda key: frame_noise(jax.random.fold_in(key, 0), shape), out_shardings=everywhere)
    return draw(jax.random.key(seed))


def frame_noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal (F, ...) float32, every frame from its own key."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(shape[0]))
    return jax.vmap(lambda key: jax.random.normal(key, shape[1:], jnp.float32))(keys)
