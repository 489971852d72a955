"""FLOPs of Champ's networks, each counted from its traced program (`champ_jax.models.flops`); nothing is run.

The exact savings are in the programs: no cross-attention over one token, the bank projected once a video. Sizes are in
pixels of pictures, or of latents where that is said.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from champ_jax.models.champ import Champ, ChampConfig, build_component
from champ_jax.models.flops import count_flops, count_training_flops
from champ_jax.models.functional import PureNetwork
from champ_jax.models.unet import Reference


def _shape(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _flops(component: str, config: ChampConfig, call: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of `call(network, *arguments)`."""
    network, parameters = PureNetwork.split(build_component(component, config))
    return count_flops(lambda parameters, *inputs: call(network.bind(parameters), *inputs), parameters, *arguments)


@functools.lru_cache
def _reference(config: ChampConfig, height: int, width: int) -> Reference:
    """Shapes of what the denoiser reads of one picture."""
    return jax.eval_shape(*_read_picture(config, height, width))


def _read_picture(config: ChampConfig, height: int, width: int) -> tuple[Any, ...]:
    """The function from a picture's latents of (height, width) to what the denoiser reads of it, and its arguments."""
    network, parameters = PureNetwork.split(Champ(config, components=("reference_unet", "denoising_unet")))

    def run(parameters: nnx.State, *picture: jax.Array) -> Reference:
        return network.bind(parameters).reference(*picture)

    return run, parameters, *_picture(config, height, width)


def _picture(config: ChampConfig, height: int, width: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Shapes of one picture's latents and image token."""
    return _shape(1, height, width, config.unet.in_channels), _shape(1, config.unet.cross_attention_dim)


@functools.lru_cache
def denoising_step_flops(
    config: ChampConfig, height: int, width: int, frames: int, *, classifier_free: bool = True
) -> int:
    """One denoising step of one window: the conditional row and, with guidance, the unconditional one.

    `height` and `width` are of the latents.
    """
    rows = 1 + classifier_free

    def step(denoiser: Any, latents: jax.Array, reference: Reference, guidance: jax.Array) -> jax.Array:
        return denoiser(latents, jnp.zeros(rows), reference, guidance, unconditional=rows - 1)

    latents = _shape(rows, frames, height, width, config.unet.in_channels)
    guidance = _shape(rows, frames, height, width, config.guidance.out_channels)
    return _flops("denoising_unet", config, step, latents, _reference(config, height, width), guidance)


@functools.lru_cache
def reference_flops(config: ChampConfig, height: int, width: int) -> int:
    """The ReferenceNet's pass over one latent of (height, width), and the bank's projections."""
    return count_flops(*_read_picture(config, height, width))


@functools.lru_cache
def guidance_flops(config: ChampConfig, height: int, width: int) -> int:
    """The guidance encoders of all of the config's conditions on one frame of (height, width)."""
    maps = dict.fromkeys(config.conditions, _shape(1, height, width, 3))
    return _flops("guidance", config, lambda guidance, maps: guidance(maps), maps)


@functools.lru_cache
def vae_encode_flops(config: ChampConfig, height: int, width: int) -> int:
    """Encoding one picture of (height, width): mean and variance of its latents."""
    picture = _shape(1, height, width, config.vae.in_channels)
    return _flops("vae", config, lambda vae, picture: vae.encode(picture), picture)


@functools.lru_cache
def vae_decode_flops(config: ChampConfig, height: int, width: int) -> int:
    """Decoding one picture of (height, width)."""
    scale = config.vae.downscale
    latents = _shape(1, height // scale, width // scale, config.vae.latent_channels)
    return _flops("vae", config, lambda vae, latents: vae.decode(latents), latents)


@functools.lru_cache
def image_encoder_flops(config: ChampConfig) -> int:
    """The CLIP vision tower on one picture."""
    side, channels = config.image_encoder.image_size, config.image_encoder.num_channels
    return _flops("image_encoder", config, lambda tower, picture: tower(picture), _shape(1, side, side, channels))


@functools.lru_cache
def training_sample_flops(config: ChampConfig, height: int, width: int, *, frames: int, trained: frozenset[str]) -> int:
    """Useful FLOPs of a training step on one sample: forward and backward, without what is recomputed.

    The frozen VAE and image encoder are left out: a latent cache can spare them. Where the VAE itself is trained, the
    sample is its pictures, encoded and decoded.

    Args:
      config: sizes; all of its conditions are encoded.
      height: The height of the latents.
      width: The width of the latents.
      frames: frames of the sample.
      trained: dotted names of the trained parameters, 'denoising_unet.conv_in.kernel' for example.
    """
    if any(name.startswith("vae.") for name in trained):
        scale = config.vae.downscale
        pictures = _shape(frames, scale * height, scale * width, config.vae.in_channels)
        return _training_flops(("vae",), config, trained, _reconstruct, pictures)
    arguments = (
        _shape(1, frames, height, width, config.unet.in_channels),
        _shape(1),
        *_picture(config, height, width),
        dict.fromkeys(config.conditions, _shape(1, frames, *(config.vae.downscale * x for x in (height, width)), 3)),
    )
    components = ("reference_unet", "denoising_unet", "guidance")
    return _training_flops(components, config, trained, lambda champ, *inputs: champ(*inputs), *arguments)


def _reconstruct(champ: Any, pictures: jax.Array) -> jax.Array:
    posterior = champ.vae.encode(pictures)
    return champ.vae.decode(posterior.mean + posterior.logvar)


def _training_flops(
    components: tuple[str, ...], config: ChampConfig, trained: frozenset[str], call: Callable[..., Any], *arguments: Any
) -> int:
    network, parameters = PureNetwork.split(Champ(config, components=components))
    flags = [".".join(map(str, path)) in trained for path, _ in nnx.to_flat_state(parameters)]

    def run(parameters: nnx.State, *inputs: Any) -> Any:
        return call(network.bind(parameters), *inputs)

    return count_training_flops(run, parameters, flags, *arguments)
