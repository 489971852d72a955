"""The shapes in signatures are checked while the tests run: wrong ones are refused, also while tracing."""

import jax
import jax.numpy as jnp
import jaxtyping
import pytest

from champ_jax.diffusion.schedules import Schedule
from champ_jax.models.attention import attention
from champ_jax.models.functional import PureNetwork
from champ_jax.models.vae import VAE, VAEConfig


def refused():
    return pytest.raises(jaxtyping.TypeCheckError)


def test_sizes_of_one_name_agree():
    query, key = jnp.zeros((2, 16, 4, 8)), jnp.zeros((2, 9, 4, 8))
    assert attention(query, key, key).shape == query.shape
    for wrong in (key[:1], key[:, :, :2], key[..., :4], key[0], key.astype(int)):
        with refused():
            attention(query, wrong, wrong)
    with refused():
        attention(query, key, key[:, :5])


@pytest.mark.parametrize("trace", [jax.jit, lambda function: lambda *arrays: jax.eval_shape(function, *arrays)])
def test_tracing_checks_as_well(trace):
    schedule, timesteps = Schedule(), jnp.zeros(2, jnp.int32)
    add = trace(lambda x, noise: schedule.add_noise(x, noise, timesteps))
    assert add(jnp.zeros((2, 3)), jnp.zeros((2, 3))).shape == (2, 3)
    with refused():
        add(jnp.zeros((2, 3)), jnp.zeros((3, 3)))


@pytest.mark.parametrize(
    ("network", "method", "right", "wrong"),
    [
        (VAE(VAEConfig(block_out_channels=(32, 32))), "encode", (1, 8, 8, 3), (8, 8, 3)),
        (VAE(VAEConfig(block_out_channels=(32, 32))), "decode", (1, 4, 4, 4), (1, 2, 4, 4, 4)),
    ],
)
def test_networks_say_what_they_take(network, method, right, wrong):
    pure, parameters = PureNetwork.split(network)

    def trace(shape):
        call = lambda parameters, x: getattr(pure.bind(parameters), method)(x)  # noqa: E731
        return jax.eval_shape(call, parameters, jax.ShapeDtypeStruct(shape, jnp.float32))

    trace(right)
    with refused():
        trace(wrong)
