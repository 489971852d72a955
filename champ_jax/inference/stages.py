"""The stages of the method as pure functions of networks and arrays: no compilation, no devices, no files.

Inference, training, validation and the latent cache all call these, so that each stage has one definition. A network is
a module whose parameters are bound; bytes are uint8 in 0..255, and floating-point pictures are in [0, 1] already.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from champ_jax.models.clip import CLIPVisionTower, normalize
from champ_jax.models.guidance import Guidance
from champ_jax.models.unet import Reference, UNet
from champ_jax.models.vae import VAE


def unit_range(pictures: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Bytes as float32 in [0, 1]; floating-point pictures, which are that already, as they are."""
    return pictures / jnp.float32(255) if pictures.dtype == jnp.uint8 else pictures


def encode_pictures(
    vae: VAE, pictures: Num[Array, "*lead height width 3"]
) -> tuple[Float[Array, "*lead h w channels"], Float[Array, "*lead h w channels"]]:
    """The VAE's posterior over the latents of pictures, not scaled: what the latent cache stores.

    Args:
      vae: the autoencoder.
      pictures: (..., H, W, 3) bytes or floats in [0, 1].

    Returns:
      Mean and standard deviation, each (..., h, w, C) float32.
    """
    lead = pictures.shape[:-3]
    posterior = vae.encode(2 * unit_range(pictures.reshape(-1, *pictures.shape[-3:])) - 1)
    mean, deviation = (x.astype(jnp.float32) for x in (posterior.mean, jnp.exp(0.5 * posterior.logvar)))
    return mean.reshape(*lead, *mean.shape[1:]), deviation.reshape(*lead, *deviation.shape[1:])


def scaled_latents(
    scaling_factor: float,
    mean: Float[Array, "*shape"],
    deviation: Float[Array, "*shape"] | None = None,
    draw: Float[Array, "*shape"] | None = None,
) -> Float[Array, "*shape"]:
    """Latents as the UNets see them, scaling_factor * (mean + deviation * draw) (Rombach et al. 2022, section 4.3.2).

    Args:
      scaling_factor: `VAEConfig.scaling_factor`.
      mean, deviation: The posterior from `encode_pictures`.
      draw: standard normal of their shape, which picks from the posterior; None takes the mean.
    """
    if draw is None:
        return scaling_factor * mean
    assert deviation is not None, "a draw needs the deviation"
    return scaling_factor * (mean + deviation * draw)


def picture_latents(vae: VAE, pictures: Num[Array, "*lead height width 3"]) -> Float[Array, "*lead h w channels"]:
    """Scaled latents (..., h, w, C) float32 of pictures (..., H, W, 3): the posterior's mean, nothing drawn."""
    return scaled_latents(vae.config.scaling_factor, encode_pictures(vae, pictures)[0])


def embed_pictures(
    image_encoder: CLIPVisionTower, pictures: Num[Array, "batch side side 3"]
) -> Float[Array, "batch width"]:
    """CLIP embeddings (B, D) of bytes (B, S, S, 3) at the image encoder's size S."""
    return image_encoder(normalize(pictures))


def read_reference(
    reference_unet: UNet,
    denoising_unet: UNet,
    latents: Float[Array, "pictures h w channels"],
    token: Float[Array, "pictures width"],
) -> Reference:
    """What the denoiser reads of R pictures; the same for every frame and step (Champ, section 3.1).

    Args:
      reference_unet: ReferenceNet.
      denoising_unet: the denoiser, which projects the bank to keys and values.
      latents: (R, h, w, C) scaled latents.
      token: (R, D) image embeddings.
    """
    return denoising_unet.prepare_reference(reference_unet.bank(latents, token), token)


def encode_conditions(
    guidance: Guidance, conditions: Mapping[str, Num[Array, "*lead height width 3"]]
) -> Float[Array, "*lead h w width"]:
    """{condition: (..., H, W, 3) bytes or floats in [0, 1]} -> features (..., h, w, C0) (Champ, section 3.3)."""
    lead = next(iter(conditions.values())).shape[:-3]
    features = guidance({name: unit_range(x.reshape(-1, *x.shape[-3:])) for name, x in conditions.items()})
    return features.reshape(*lead, *features.shape[1:])


def decode_latents(vae: VAE, latents: Float[Array, "*lead h w channels"]) -> Float[Array, "*lead height width 3"]:
    """Scaled latents (..., h, w, C) -> pictures (..., H, W, 3) float32, clipped to [0, 1]."""
    lead = latents.shape[:-3]
    pictures = vae.decode(latents.reshape(-1, *latents.shape[-3:]) / vae.config.scaling_factor)
    pictures = jnp.clip(pictures.astype(jnp.float32) / 2 + 0.5, 0, 1)
    return pictures.reshape(*lead, *pictures.shape[1:])


def to_bytes(pictures: Any) -> Any:
    """Pictures in [0, 1], JAX's or numpy's, as uint8, rounded."""
    return (255 * pictures).round().astype("uint8")
