"""Stage 0: the KL-regularized autoencoder that latents come from (Rombach et al. 2022, section 3.1), without its
adversary; and the factor that brings its latents to unit variance."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from champ_jax.inference.stages import decode_latents, encode_pictures, picture_latents, to_bytes, unit_range
from champ_jax.models.champ import Champ
from champ_jax.training.objective import Batch, Draws, Objective, loss


def reconstruction_loss(champ: Champ, batch: Batch, draws: Draws, objective: Objective) -> Float[Array, ""]:
    """Mean absolute error in [-1, 1] of pictures decoded from drawn latents + objective.kl_weight x the mean over
    latents' elements of KL(posterior || standard normal), in nats; float32 ().

    Args:
      champ: The networks, with the autoencoder.
      batch: `pixels` (B, 1, H, W, 3) are the pictures; a reference is of the same video and adds little.
      draws: `posterior` picks their latents.
      objective: `kl_weight`.
    """
    pictures = 2 * unit_range(batch["pixels"][:, 0]) - 1
    posterior = champ.vae.encode(pictures)
    mean, logvar = posterior.mean.astype(jnp.float32), posterior.logvar.astype(jnp.float32)
    decoded = champ.vae.decode(mean + jnp.exp(0.5 * logvar) * draws.posterior[:, 0])
    divergence = 0.5 * (mean**2 + jnp.exp(logvar) - 1 - logvar)
    return jnp.abs(decoded.astype(jnp.float32) - pictures).mean() + objective.kl_weight * divergence.mean()


def loss_of(stage: int) -> Callable[[Champ, Batch, Draws, Objective], jax.Array]:
    """What a stage minimizes."""
    return loss if stage else reconstruction_loss


def reconstruct(champ: Champ, batch: Batch) -> UInt8[Array, "batch frames height width 3"]:
    """`pixels` through the autoencoder's most probable latents and back, uint8."""
    pixels = batch["pixels"]
    return to_bytes(decode_latents(champ.vae, picture_latents(champ.vae, pixels)))


def moments(champ: Champ, batch: Batch) -> Float[Array, "2"]:
    """Mean of the latents of `pixels` over their posteriors and all elements, and of their squares; float32."""
    mean, deviation = encode_pictures(champ.vae, batch["pixels"])
    return jnp.stack([mean.mean(), (mean**2 + deviation**2).mean()])


def scaling_factor(gathered: Sequence[Float[np.ndarray, "2"]]) -> float:
    """The factor that gives latents unit variance (section 4.3.2), from the `moments` of equally large batches."""
    mean, square = np.mean(np.asarray(gathered, np.float64), axis=0)
    return float(1 / np.sqrt(square - mean**2))
