"""The training objective: noise with an offset, and the mean squared error weighted by the signal-to-noise ratio."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Num

from champ_jax.diffusion.schedules import Schedule


def offset_noise(
    noise: Float[Array, "batch ... channels"], draw: Float[Array, "batch channels"], strength: float = 0.05
) -> Float[Array, "batch ... channels"]:
    """Noise whose mean varies, so that the model learns overall brightness: noise + strength * draw.

    Args:
      noise: standard normal.
      draw: standard normal, one number for each sample and channel.
      strength: the offset's standard deviation.
    """
    batch, channels = draw.shape
    return noise + strength * draw.reshape(batch, *(1,) * (noise.ndim - 2), channels)


def sample_noise(
    key: jax.Array, shape: tuple[int, ...], strength: float = 0.05, dtype: DTypeLike = jnp.float32
) -> Float[Array, "batch ... channels"]:
    """Draws noise of `shape` with an offset of standard deviation `strength` for each sample and channel."""
    base, offset = jax.random.split(key)
    noise = jax.random.normal(base, shape, dtype)
    return offset_noise(noise, jax.random.normal(offset, (shape[0], shape[-1]), dtype), strength)


def min_snr_weights(schedule: Schedule, t: Int[Array, " batch"], gamma: float = 5.0) -> Float[Array, " batch"]:
    """Loss weights of timesteps t (Hang et al., Efficient Diffusion Training via Min-SNR Weighting).

    min(snr, gamma) / snr when the model predicts noise; with v, snr + 1 takes snr's place. gamma = 0 weighs all alike.
    """
    if gamma == 0:
        return jnp.ones(t.shape, jnp.float32)
    snr = schedule.snr(t)
    if schedule.prediction == "v_prediction":
        snr = snr + 1.0
    return jnp.minimum(snr, gamma) / snr


def diffusion_loss(
    prediction: Float[Array, " batch *shape"],
    target: Float[Array, " batch *shape"],
    weights: Num[Array, " batch"],
    places: Float[Array, " batch *places"] | None = None,
) -> Float[Array, ""]:
    """Mean over the batch of the weights times each sample's mean squared error; all of it in float32.

    Args:
      prediction: what the model says.
      target: what it should say.
      weights: the weight of each sample.
      places: The weights of a sample's elements, which broadcast to its shape and are 1 in the mean; None: all 1.
    """
    squares = jnp.square(prediction.astype(jnp.float32) - target.astype(jnp.float32))
    if places is not None:
        squares = squares * places
    return jnp.mean(weights * jnp.mean(squares, axis=tuple(range(1, squares.ndim))))
