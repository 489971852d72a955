"""What a training step minimizes: from a batch and its random draws to the loss (Champ section 3.5).

A batch is `champ_jax.data.pipeline`'s without its names: pictures as bytes, or the cached outputs of the frozen
networks. Its leading axis is the samples'; F is 1 in stage 1.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt8

from champ_jax.common.errors import InputError
from champ_jax.diffusion.loss import diffusion_loss, min_snr_weights, sample_noise
from champ_jax.diffusion.schedules import Schedule
from champ_jax.inference.stages import embed_pictures, encode_pictures, scaled_latents, unit_range
from champ_jax.models.champ import Champ
from champ_jax.models.vae import VAE

Batch = dict[str, Any]

DROP_PER = ("sample", "batch")


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss and its randomness.

    Attributes:
      schedule: the noise schedule trained on.
      noise_offset: standard deviation of the noise's mean, drawn per sample and channel.
      snr_gamma: Gamma of min-SNR weighting; 0 weighs all timesteps alike.
      first_timestep: The least timestep that is drawn. The last one of the schedule alone trains the model for samples
        of one step, which begin at pure noise: no other noise is learned, so more steps are then worse.
      person_weight: what a latent on the person weighs, where one of the background weighs 1 (`person_places`).
      pixel_weight: What the error of the decoded pictures weighs beside that of the latents (`pixel_loss`); 0 leaves
        the decoder out. Needs the targets' pictures, and a prediction that a clean sample follows from at any noise.
      drop_rate: how often the reference is dropped (no bank, zero image embedding) for classifier-free guidance.
      drop_per: whether each 'sample' is dropped by itself, or the whole 'batch' at once as the published model did.
      kl_weight: Weight of stage 0's divergence from the standard normal (`champ_jax.training.autoencoder`); the other
        stages have none.
    """

    schedule: Schedule
    noise_offset: float = 0.05
    snr_gamma: float = 5.0
    first_timestep: int = 0
    person_weight: float = 1.0
    pixel_weight: float = 0.0
    drop_rate: float = 0.1
    drop_per: str = "sample"
    kl_weight: float = 1e-3

    def __post_init__(self) -> None:
        if self.drop_per not in DROP_PER:
            raise InputError(f"loss.drop_per={self.drop_per}: unknown; choose {', '.join(DROP_PER)}")
        if not 0 <= self.drop_rate <= 1:
            raise InputError(f"loss.drop_rate={self.drop_rate}: must be in 0 ... 1")
        if not 0 <= self.first_timestep < self.schedule.length:
            raise InputError(
                f"loss.first_timestep={self.first_timestep}: must be in 0 ... {self.schedule.length - 1}, "
                "the timesteps of the schedule"
            )
        if self.person_weight <= 0:
            raise InputError(f"loss.person_weight={self.person_weight}: must be above 0")
        if self.pixel_weight < 0:
            raise InputError(f"loss.pixel_weight={self.pixel_weight}: must not be negative")
        if self.pixel_weight and self.schedule.prediction == "epsilon":
            raise InputError(
                f"loss.pixel_weight={self.pixel_weight}: no picture follows from predicted noise where little but "
                "noise is left; train with --config.schedule.prediction=v_prediction"
            )
        if self.kl_weight < 0:
            raise InputError(f"loss.kl_weight={self.kl_weight}: must not be negative")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Draws:
    """Everything random in one step.

    Attributes:
      posterior: standard normal numbers, which pick the target's latents from their posterior.
      reference_posterior: the same for the reference.
      noise: added to the latents, with its offset.
      timesteps: The timestep of each sample.
      unconditional: whether the reference of a sample is dropped.
    """

    posterior: Float[Array, "batch frames height width channels"]
    reference_posterior: Float[Array, "batch height width channels"]
    noise: Float[Array, "batch frames height width channels"]
    timesteps: Int[Array, " batch"]
    unconditional: Bool[Array, " batch"]


def draw(key: jax.Array, shape: tuple[int, ...], objective: Objective) -> Draws:
    """The draws of a whole batch with latents of `shape` (B, F, h, w, C)."""
    keys = jax.random.split(key, 5)
    batch, latent = shape[0], shape[2:]
    drops = jax.random.uniform(keys[4], (batch,) if objective.drop_per == "sample" else (1,))
    return Draws(
        posterior=jax.random.normal(keys[0], shape),
        reference_posterior=jax.random.normal(keys[1], (batch, *latent)),
        noise=sample_noise(keys[2], shape, objective.noise_offset),
        timesteps=jax.random.randint(keys[3], (batch,), objective.first_timestep, objective.schedule.length),
        unconditional=jnp.broadcast_to(drops < objective.drop_rate, (batch,)),
    )


def latent_shape(batch: Batch, downscale: int, channels: int) -> tuple[int, ...]:
    """(B, F, h, w, C) of a batch's latents, known when tracing."""
    if "latents_mean" in batch:
        return batch["latents_mean"].shape
    samples, frames, height, width, _ = batch["pixels"].shape
    return (samples, frames, height // downscale, width // downscale, channels)


def loss(champ: Champ, batch: Batch, draws: Draws, objective: Objective) -> Float[Array, ""]:
    """The weighted mean squared error of the prediction, and of the pictures that it stands for; float32."""
    latents, reference, token = encode(champ, batch, draws)
    schedule, timesteps = objective.schedule, draws.timesteps
    noisy = schedule.add_noise(latents, draws.noise, timesteps)
    prediction = champ(
        noisy,
        timesteps,
        reference,
        token,
        {name: unit_range(pictures) for name, pictures in batch["conditions"].items()},
        unconditional=draws.unconditional,
    )
    target = schedule.target(latents, draws.noise, timesteps)
    places = None
    if objective.person_weight != 1.0:
        places = person_places(batch["conditions"], target.shape[2:4], objective.person_weight)
    weights = min_snr_weights(schedule, timesteps, objective.snr_gamma)
    value = diffusion_loss(prediction, target, weights, places)
    if objective.pixel_weight:
        clean = schedule.denoised(prediction.astype(jnp.float32), noisy, timesteps)
        value += objective.pixel_weight * pixel_loss(champ.vae, clean, batch["pixels"], weights, places)
    return value


def pixel_loss(
    vae: VAE,
    latents: Float[Array, "batch frames h w channels"],
    pictures: UInt8[Array, "batch frames height width 3"],
    weights: Float[Array, " batch"],
    places: Float[Array, "batch frames h w 1"] | None = None,
) -> Float[Array, ""]:
    """The weighted mean squared error, in [-1, 1], of decoded latents against the pictures, float32 ().

    A model of one step is trained end to end this way (Martin Garcia et al. 2024, "Fine-Tuning Image-Conditional
    Diffusion Models is Easier than You Think"). The pictures are not clipped, so that errors beyond black and white
    have a gradient.

    Args:
      vae: The autoencoder, whose gradient reaches the latents.
      latents: scaled latents, as the UNets see them.
      pictures: bytes.
      weights: the weight of each sample.
      places: The weights of a sample's latents, each of which weighs the pixels that it covers; None: all 1.
    """
    batch, frames, height, width, _ = pictures.shape
    decoded = vae.decode(latents.reshape(-1, *latents.shape[2:]) / vae.config.scaling_factor)
    if places is not None:
        shrink = vae.config.downscale
        places = jnp.repeat(jnp.repeat(places, shrink, 2), shrink, 3)
    decoded = decoded.reshape(batch, frames, height, width, 3)
    return diffusion_loss(decoded, 2 * unit_range(pictures) - 1, weights, places)


def person_places(
    conditions: Mapping[str, UInt8[Array, "batch frames height width 3"]], size: tuple[int, int], weight: float
) -> Float[Array, "batch frames latent_height latent_width 1"]:
    """Weights of latents, 1 in the mean of every sample: those on or beside a person weigh `weight` times the others.

    A person is where a condition's map is not black, and one latent further, for hair and clothes stand off the body
    that the maps show. A sample without a person weighs the same everywhere.

    Args:
      conditions: The maps of the conditions, bytes.
      size: (height, width) of the latents, a whole fraction of the maps'.
      weight: above 0.
    """
    body = functools.reduce(jnp.maximum, [jnp.max(maps, axis=-1) for maps in conditions.values()])
    batch, frames, height, width = body.shape
    cells = body.reshape(batch * frames, size[0], height // size[0], size[1], width // size[1]).max((2, 4))
    near = lax.reduce_window((cells > 0).astype(jnp.float32), 0.0, lax.max, (1, 3, 3), (1, 1, 1), "SAME")
    places = 1 + (weight - 1) * near.reshape(batch, frames, *size, 1)
    return places / jnp.mean(places, axis=(1, 2, 3, 4), keepdims=True)


def encode(
    champ: Champ, batch: Batch, draws: Draws
) -> tuple[
    Float[Array, "batch frames height width channels"],
    Float[Array, "batch height width channels"],
    Float[Array, "batch embedding"],
]:
    """Scaled latents of the targets and of the references, and image embeddings; float32."""
    if "latents_mean" in batch:
        mean, deviation = batch["latents_mean"], batch["latents_std"]
        reference_mean, reference_deviation = batch["reference_mean"], batch["reference_std"]
    else:
        mean, deviation = encode_pictures(champ.vae, batch["pixels"])
        reference_mean, reference_deviation = encode_pictures(champ.vae, batch["reference"])
    token = batch["embedding"] if "embedding" in batch else embed_pictures(champ.image_encoder, batch["clip_pixels"])
    scale = champ.config.vae.scaling_factor
    latents = scaled_latents(scale, mean, deviation, draws.posterior)
    reference = scaled_latents(scale, reference_mean, reference_deviation, draws.reference_posterior)
    return latents, reference, token.astype(jnp.float32)
