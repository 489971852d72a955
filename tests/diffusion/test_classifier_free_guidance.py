"""Classifier-free guidance against its formula, on one device and with a half on each of two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from champ_jax.diffusion.guidance import combine, guided_prediction, guided_share


def predict(latents, features, unconditional):
    """Rows that see the picture predict otherwise than those that do not."""
    rows = jnp.arange(len(latents))
    blind = rows < unconditional if isinstance(unconditional, int) else unconditional
    return jnp.where(blind[:, None, None, None, None], jnp.sin(latents), latents + features.mean(-1, keepdims=True))


@pytest.fixture(scope="module")
def inputs():
    return jax.random.normal(jax.random.key(0), (3, 2, 4, 5, 4)), jax.random.normal(jax.random.key(1), (3, 2, 4, 5, 6))


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.5])
def test_one_pass_over_both_halves_equals_two(inputs, scale):
    latents, features = map(np.asarray, inputs)
    blind, seeing = np.sin(latents), latents + features.mean(-1, keepdims=True)
    expected = (1 - scale) * blind + scale * seeing
    np.testing.assert_allclose(guided_prediction(predict, *inputs, scale), expected, atol=1e-5)
    np.testing.assert_allclose(combine(jnp.asarray(blind), jnp.asarray(seeing), scale), expected, atol=1e-5)


def test_halves_on_two_devices_equal_one_device(inputs):
    mesh = jax.make_mesh((2,), ("guidance",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    everywhere = PartitionSpec()

    def local(latents, features, scale):
        return guided_share(predict, latents, features, scale, "guidance")

    split = jax.shard_map(local, mesh=mesh, in_specs=(everywhere,) * 3, out_specs=everywhere)
    ours = jax.jit(split)(*inputs, jnp.float32(3.5))
    np.testing.assert_allclose(ours, guided_prediction(predict, *inputs, 3.5), atol=1e-5)


def test_the_prediction_is_float32(inputs):
    latents, features = (x.astype(jnp.bfloat16) for x in inputs)
    assert guided_prediction(predict, latents, features, 2.0).dtype == jnp.float32
