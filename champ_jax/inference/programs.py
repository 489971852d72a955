"""The device programs around the denoiser: picture and conditions in, frames out.

Each is a pure function, lowered for one picture size. Frames are split over all devices of the mesh; what every device
needs (the clip's latents and guidance, the picture) is on all of them.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from champ_jax.common.errors import InputError
from champ_jax.diffusion.samplers import SAMPLERS, Memory, Path
from champ_jax.diffusion.schedules import Schedule
from champ_jax.inference import stages
from champ_jax.inference.denoiser import EVERY
from champ_jax.models.attention import check_kernel, recommended_kernels
from champ_jax.models.champ import ChampConfig
from champ_jax.models.functional import PureNetwork
from champ_jax.models.options import AttentionKernels
from champ_jax.models.unet import Reference

Networks = Mapping[str, PureNetwork]
Parameters = Mapping[str, nnx.State]


def lower_picture_encoder(
    networks: Networks, parameters: Parameters, config: ChampConfig, size: tuple[int, int], mesh: Mesh
) -> jax.stages.Lowered:
    """Lowers (parameters, small, picture) -> Reference: what the denoiser reads of a picture.

    `small` is the picture at the image encoder's size, (1, S, S, 3) uint8, `picture` at the video's, (1, H, W, 3).
    """

    def run(parameters: Parameters, small: jax.Array, picture: jax.Array) -> Reference:
        image_encoder, vae, reference_unet, denoiser = (
            networks[name].bind(parameters[name])
            for name in ("image_encoder", "vae", "reference_unet", "denoising_unet")
        )
        token = stages.embed_pictures(image_encoder, small)
        return stages.read_reference(reference_unet, denoiser, stages.picture_latents(vae, picture), token)

    everywhere = NamedSharding(mesh, P())
    shapes = ((1, *(config.image_encoder.image_size,) * 2, 3), (1, size[1], size[0], 3))
    pictures = (jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=everywhere) for shape in shapes)
    return jax.jit(run, out_shardings=everywhere).lower(parameters, *pictures)


def reference_shapes(
    networks: Networks, parameters: Parameters, config: ChampConfig, size: tuple[int, int]
) -> Reference:
    """Shapes of what the denoiser reads of a picture for videos of size (width, height)."""

    def run(parameters: Parameters, latents: jax.Array, token: jax.Array) -> Reference:
        reference_unet, denoiser = (
            networks[name].bind(parameters[name]) for name in ("reference_unet", "denoising_unet")
        )
        return stages.read_reference(reference_unet, denoiser, latents, token)

    latents = jax.ShapeDtypeStruct((1, *latent_size(config, size), config.unet.in_channels), jnp.float32)
    token = jax.ShapeDtypeStruct((1, config.unet.cross_attention_dim), jnp.float32)
    return jax.eval_shape(run, parameters, latents, token)


def latent_size(config: ChampConfig, size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of the latents of pictures of size (width, height)."""
    return size[1] // config.vae.downscale, size[0] // config.vae.downscale


def lower_condition_encoder(
    network: PureNetwork,
    parameters: nnx.State,
    conditions: Sequence[str],
    size: tuple[int, int],
    chunk: int,
    mesh: Mesh,
) -> jax.stages.Lowered:
    """Lowers (parameters, {condition: (chunk, H, W, 3) uint8}) -> guidance (chunk, h, w, C0) on every device.

    The frames come split over the devices, and each encodes its share.
    """

    def local(parameters: nnx.State, frames: Mapping[str, jax.Array]) -> jax.Array:
        return stages.encode_conditions(network.bind(parameters), frames)

    frames = jax.ShapeDtypeStruct((chunk, size[1], size[0], 3), jnp.uint8, sharding=NamedSharding(mesh, P(EVERY)))
    run = jax.jit(_over_frames(local, mesh), out_shardings=NamedSharding(mesh, P()))
    return run.lower(parameters, dict.fromkeys(conditions, frames))


def lower_decoder(
    network: PureNetwork, parameters: nnx.State, config: ChampConfig, size: tuple[int, int], chunk: int, mesh: Mesh
) -> jax.stages.Lowered:
    """Lowers (parameters, latents (chunk, h, w, 4)) -> pictures (chunk, H, W, 3) float32 in [0, 1], split likewise."""

    def local(parameters: nnx.State, latents: jax.Array) -> jax.Array:
        return stages.decode_latents(network.bind(parameters), latents)

    shape = (chunk, *latent_size(config, size), config.vae.latent_channels)
    latents = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(EVERY)))
    return jax.jit(_over_frames(local, mesh)).lower(parameters, latents)


def _over_frames(local: Any, mesh: Mesh) -> Any:
    # check_vma: Pallas kernels inside do not say along which axes their outputs vary.
    return jax.shard_map(local, mesh=mesh, in_specs=(P(), P(EVERY)), out_specs=P(EVERY), check_vma=False)


@partial(jax.jit, donate_argnums=0)
def write_frames(clip: jax.Array, chunk: jax.Array, start: jax.Array) -> jax.Array:
    """Puts (n, ...) into (F, ...) at frame `start`, in place."""
    return jax.lax.dynamic_update_slice_in_dim(clip, chunk.astype(clip.dtype), start, axis=0)


@partial(jax.jit, static_argnums=(0, 1))
def take_frames(mesh: Mesh, count: int, clip: jax.Array, start: jax.Array) -> jax.Array:
    """`count` frames of (F, ...) from `start` on, split over the devices; past the end the last one is repeated."""
    frames = jnp.minimum(start + jnp.arange(count), clip.shape[0] - 1)
    return jax.lax.with_sharding_constraint(clip[frames], NamedSharding(mesh, P(EVERY)))


def make_update(schedule: Schedule, sampler: str, path: Path, seed: int, everywhere: NamedSharding) -> Any:
    """The jitted sampler step (i, x, prediction, memory) -> (x, memory); x and memory are donated."""

    def update(i: jax.Array, x: jax.Array, prediction: jax.Array, memory: Memory) -> tuple[jax.Array, Memory]:
        denoised = schedule.denoised(prediction, x, jnp.asarray(path.timesteps)[i])
        noise = _frame_noise(jax.random.fold_in(jax.random.key(seed), i + 1), x.shape) if path.eta else None
        return SAMPLERS[sampler].step(path, i, x, denoised, memory, noise)

    return jax.jit(update, donate_argnums=(1, 3), out_shardings=everywhere)


def initial_noise(seed: int, shape: tuple[int, ...], everywhere: NamedSharding) -> jax.Array:
    """Normal noise (F, h, w, C) float32. A frame's depends on the seed and its number, not on the clip's length."""
    draw = jax.jit(lambda key: _frame_noise(jax.random.fold_in(key, 0), shape), out_shardings=everywhere)
    return draw(jax.random.key(seed))


def _frame_noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(shape[0]))
    return jax.vmap(lambda key: jax.random.normal(key, shape[1:], jnp.float32))(keys)


def fitting_kernels(config: ChampConfig, size: tuple[int, int], dtype: Any, device: jax.Device) -> AttentionKernels:
    """The recommended kernels of a device's platform, with XLA's wherever one cannot run at this picture size.

    Args:
      config: of the model.
      size: (width, height) of the pictures.
      dtype: of the computation.
      device: tells the platform and its compute capability.
    """
    platform = device.platform
    best = recommended_kernels(platform, getattr(device, "compute_capability", None))
    height, width = latent_size(config, size)

    def fitting(kernel: str, shrink: int, heads: int, channels: int) -> str:
        tokens = math.ceil(height / shrink) * math.ceil(width / shrink)
        queries = (1, tokens, heads, channels // heads)
        try:
            for keys in (tokens, 2 * tokens):  # alone, and with the bank
                check_kernel(kernel, queries, (1, keys, heads, channels // heads), dtype, platform)
        except InputError:
            return "xla"
        return kernel

    spatial = tuple(
        fitting(best.at_level(level), 2**level, config.unet.heads[level], channels)
        for level, channels in enumerate(config.unet.block_out_channels)
    )
    guidance = fitting(best.guidance, 1, config.guidance.heads, config.guidance.block_out_channels[-1])
    return AttentionKernels(spatial, best.temporal, guidance, best.vae, best.image_encoder, platform=best.platform)
