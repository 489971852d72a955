"""The training objective: noise with an offset, and the mean squared error weighted by the signal-to-noise ratio."""

import jax
import jax.numpy as jnp

from champ_jax.diffusion.schedules import Schedule


def offset_noise(noise: jax.Array, draw: jax.Array, strength: float = 0.05) -> jax.Array:
    """Noise whose mean varies, so that the model learns overall brightness.

    Args:
      noise: (B, ..., C) standard normal.
      draw: (B, C) standard normal, one number a sample and channel.
      strength: the offset's standard deviation.

    Returns:
      noise + strength * draw, (B, ..., C).
    """
    batch, channels = draw.shape
    return noise + strength * draw.reshape(batch, *(1,) * (noise.ndim - 2), channels)


def sample_noise(key: jax.Array, shape: tuple[int, ...], strength: float = 0.05, dtype=jnp.float32) -> jax.Array:
    """Draws noise of `shape` (B, ..., C) with an offset of `strength` a sample and channel."""
    base, offset = jax.random.split(key)
    noise = jax.random.normal(base, shape, dtype)
    return offset_noise(noise, jax.random.normal(offset, (shape[0], shape[-1]), dtype), strength)


def min_snr_weights(schedule: Schedule, t: jax.Array, gamma: float = 5.0) -> jax.Array:
    """Loss weights (B,) of timesteps t (B,) (Hang et al., Efficient Diffusion Training via Min-SNR Weighting).

    min(snr, gamma) / snr when the model predicts noise; with v both take snr + 1. gamma = 0 weighs all alike.
    """
    if gamma == 0:
        return jnp.ones(t.shape, jnp.float32)
    snr = schedule.snr(t)
    if schedule.prediction == "v_prediction":
        snr = snr + 1.0
    return jnp.minimum(snr, gamma) / snr


def diffusion_loss(prediction: jax.Array, target: jax.Array, weights: jax.Array) -> jax.Array:
    """Mean over the batch of weights (B,) times each sample's mean squared error, float32 ().

    prediction and target are (B, ...); the difference is taken in float32.
    """
    error = prediction.astype(jnp.float32) - target.astype(jnp.float32)
    per_sample = jnp.mean(jnp.square(error), axis=tuple(range(1, error.ndim)))
    return jnp.mean(weights * per_sample)
