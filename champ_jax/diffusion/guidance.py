"""Classifier-free guidance (Ho & Salimans 2022): one prediction from a conditional and an unconditional one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

# (latents, guidance features, unconditional): what a denoiser predicts of a batch, see UNet.__call__
Predict = Callable[..., jax.Array]


def combine(
    unconditional: Float[Array, "*shape"],
    conditional: Float[Array, "*shape"],
    guidance_scale: Num[Array, ""] | float,
) -> Float[Array, "*shape"]:
    """unconditional + guidance_scale * (conditional - unconditional)."""
    return unconditional + guidance_scale * (conditional - unconditional)


def guided_prediction(
    predict: Predict,
    latents: Float[Array, "batch frames height width channels"],
    features: Float[Array, "batch frames height width features"],
    guidance_scale: Num[Array, ""] | float,
) -> Float[Array, "batch frames height width channels"]:
    """The guided prediction, float32, from one pass over both halves.

    Args:
      predict: (latents, features, unconditional) -> prediction, of batches of twice the rows whose first
        `unconditional` rows see no picture.
      latents: noisy latents.
      features: guidance features of the motion, which both halves see.
      guidance_scale: weight of the conditional half; 1 is without guidance.
    """
    doubled = (jnp.concatenate([x, x]) for x in (latents, features))
    unconditional, conditional = jnp.split(predict(*doubled, len(latents)).astype(jnp.float32), 2)
    return combine(unconditional, conditional, guidance_scale)


def guided_share(
    predict: Predict,
    latents: Float[Array, "batch frames height width channels"],
    features: Float[Array, "batch frames height width features"],
    guidance_scale: Num[Array, ""] | float,
    axis: str,
) -> Float[Array, "batch frames height width channels"]:
    """The guided prediction where the two halves are on the two devices of a mesh axis, float32.

    Args:
      predict: as in `guided_prediction`, of batches whose rows are marked as unconditional by a mask.
      latents: noisy latents, the same on both devices.
      features: guidance features of the motion, the same on both devices.
      guidance_scale: weight of the conditional half.
      axis: name of the mesh axis of size 2, inside a shard_map; its first device takes the unconditional half.
    """
    unconditional = jax.lax.axis_index(axis) == 0
    half = predict(latents, features, jnp.broadcast_to(unconditional, (len(latents),))).astype(jnp.float32)
    weight = jnp.where(unconditional, 1.0 - guidance_scale, guidance_scale)
    return jax.lax.psum(weight * half, axis)
