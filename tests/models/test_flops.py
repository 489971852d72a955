"""The counter of FLOPs against arithmetic and XLA's own count; the networks' counts against independent figures."""

import dataclasses
import re

import golden_models
import jax
import jax.numpy as jnp
import pytest

from champ_jax.models import network_flops
from champ_jax.models.champ import Champ, ChampConfig
from champ_jax.models.flops import count_flops, count_training_flops
from champ_jax.models.functional import PureNetwork
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.motion_module import MotionConfig
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


PRODUCT = 2 * 3 * 4 * 5  # of (3, 4) and (4, 5)


def test_products_and_what_they_are_wrapped_in():
    """Jitted, checkpointed, scanned, chosen by a condition, differentiated by a rule of its own."""
    a, b = shape(3, 4), shape(4, 5)
    assert count_flops(jnp.matmul, a, b) == PRODUCT
    assert count_flops(jax.jit(jax.checkpoint(jnp.matmul)), a, b) == PRODUCT
    assert count_flops(lambda a, b: jnp.einsum("nij,njk->nik", a, b), shape(7, 3, 4), shape(7, 4, 5)) == 7 * PRODUCT
    assert count_flops(lambda a, b: jax.lax.map(lambda row: row @ b, a), shape(6, 3, 4), b) == 6 * PRODUCT
    branches = [lambda a, b: a @ b, lambda a, b: (a @ b) + (2 * a) @ b]
    assert count_flops(lambda i, a, b: jax.lax.switch(i, branches, a, b), 0, a, b) == 2 * PRODUCT
    own = jax.custom_vjp(jnp.matmul)
    own.defvjp(lambda a, b: (a @ b, (a, b)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))
    assert count_flops(own, a, b) == PRODUCT
    assert count_flops(lambda a, b: jax.nn.silu(a) @ jax.nn.relu(b), a, b) == PRODUCT


def test_what_nothing_reads_is_not_counted():
    a, b = shape(3, 4), shape(4, 5)

    def function(a, b):
        unread = a @ b
        jnp.sum(unread @ unread.T)
        return a @ (b + 1)

    assert count_flops(function, a, b) == PRODUCT
    assert count_flops(jax.jit(lambda a, b: jax.jit(function)(a, b)), a, b) == PRODUCT


def test_products_that_cannot_be_numbered_are_refused():
    def loop(x):
        return jax.lax.while_loop(lambda x: x[0, 0] < 1, lambda x: x @ x, x)

    with pytest.raises(NotImplementedError, match="inside while"):
        count_flops(loop, shape(3, 3))
    assert count_flops(lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 1, lambda x: x + 1, x), shape(3, 3)) == 0


@pytest.mark.parametrize(
    ("stride", "groups", "padding"), [(1, 1, "VALID"), (2, 1, "VALID"), (1, 4, "VALID"), (3, 2, "VALID")]
)
def test_convolutions_agree_with_xla(stride, groups, padding):
    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    arrays = shape(2, 13, 11, 8), shape(3, 3, 8 // groups, 12)
    assert count_flops(convolve, *arrays) == jax.jit(convolve).lower(*arrays).cost_analysis()["flops"]


def test_gradients_cost_a_product_for_each_operand():
    """Against XLA's count of the gradient, in a network of products alone."""
    parameters = {"first": shape(8, 16), "second": shape(16, 16), "last": shape(16, 4)}
    x = shape(32, 8)

    def network(parameters, x):
        hidden = x @ parameters["first"] @ parameters["second"]
        return hidden @ hidden.T @ hidden @ parameters["last"]

    def xla(names):
        def loss(trained, rest, x):
            return jnp.sum(network(rest | trained, x))

        trained = {name: parameters[name] for name in names}
        step = jax.jit(jax.value_and_grad(loss))
        return step.lower(trained, parameters, x).cost_analysis()["flops"]

    for names in (["first", "second", "last"], ["second"], ["last"]):
        flags = {name: name in names for name in parameters}
        ours = count_training_flops(network, parameters, flags, x)
        assert ours == pytest.approx(xla(names), rel=0.02), names


def test_a_gradient_flows_round_a_loop():
    """It enters the carry in the first round and passes through the later ones; recomputation is not counted."""

    def network(weights, x):
        def body(carry, _):
            carry = carry @ x  # no parameter, but from the second round on the carry holds one
            return carry @ weights, None

        return jax.lax.scan(jax.checkpoint(body), jnp.ones((3, 4)), None, length=5)[0]

    product = 2 * 3 * 4 * 4
    counted = count_training_flops(network, shape(4, 4), [True], shape(4, 4))
    assert counted == 5 * (2 + 3) * product


# Counted by hand for 24 frames of 512 x 512 and 768 x 768 from the networks' sizes: every convolution, linear and
# attention product but the time embedding's.
BY_HAND = {
    512: {
        "denoising_step": 54680302387200,
        "without_guidance": 28810086973440,
        "reference": 760878202880,
        "guidance": 166262210560,
        "vae_encode": 1116658466816,
        "vae_decode": 2514518933504,
    },
    768: {
        "denoising_step": 147835846656000,
        "without_guidance": 81359473213440,
        "reference": 1996094177280,
        "guidance": 567363502080,
        "vae_encode": 2609118314496,
        "vae_decode": 5754304364544,
    },
}


@pytest.mark.parametrize("side", [512, pytest.param(768, marks=pytest.mark.slow)])
def test_full_size_counts(side):
    config, latent = ChampConfig(), side // 8
    counted = {
        "denoising_step": network_flops.denoising_step_flops(config, latent, latent, 24),
        "without_guidance": network_flops.denoising_step_flops(config, latent, latent, 24, classifier_free=False),
        "reference": network_flops.reference_flops(config, latent, latent),
        "guidance": network_flops.guidance_flops(config, side, side),
        "vae_encode": network_flops.vae_encode_flops(config, side, side),
        "vae_decode": network_flops.vae_decode_flops(config, side, side),
    }
    assert counted == pytest.approx(BY_HAND[side], rel=3e-4)
    assert network_flops.image_encoder_flops(config) == 162025537536
    # Measured on the reference implementation, for 24 frames with guidance and one decoded frame.
    measured = {512: (54.7e12, 2.5e12), 768: (147.8e12, 5.8e12)}[side]
    assert counted["denoising_step"] == pytest.approx(measured[0], rel=0.01)
    assert counted["vae_decode"] == pytest.approx(measured[1], rel=0.02)


SMALL = ChampConfig(
    unet=UNetConfig(
        block_out_channels=(64, 128),
        attention_levels=(True, True),
        heads=(8, 8),
        cross_attention_dim=64,
        layers_per_block=1,
    ),
    motion=MotionConfig(),
    guidance=GuidanceConfig((16, 32, 32, 64), out_channels=64),
    vae=VAEConfig(block_out_channels=(32, 32, 32, 32), layers_per_block=1),
    image_encoder=dataclasses.replace(golden_models.CONFIG.image_encoder, projection_dim=64),
    conditions=("depth",),
)


def trained(config, pattern):
    _, parameters = PureNetwork.split(Champ(config))
    names = [".".join(map(str, path)) for path, _ in parameters.flat_state()]
    return frozenset(name for name in names if re.search(pattern, name) and not name.endswith(".pe"))


def test_training_counts():
    """Three forward passes where all is trained, less where gradients need not flow."""
    still = dataclasses.replace(SMALL, motion=None)
    forward = network_flops.training_sample_flops(still, 8, 8, frames=1, trained=frozenset())
    parts = network_flops.reference_flops(still, 8, 8) + network_flops.guidance_flops(still, 64, 64)
    denoiser = network_flops.denoising_step_flops(still, 8, 8, 1, classifier_free=False)
    assert forward == parts + denoiser
    everything = trained(still, r"^(denoising_unet|reference_unet|guidance)\.")
    whole = network_flops.training_sample_flops(still, 8, 8, frames=1, trained=everything)
    assert 2.9 * forward < whole < 3 * forward  # the first layers' inputs need no gradient
    motion = trained(SMALL, r"\.motion_modules\.")
    stage2 = network_flops.training_sample_flops(SMALL, 8, 8, frames=4, trained=motion)
    denoiser = network_flops.denoising_step_flops(SMALL, 8, 8, 4, classifier_free=False)
    assert 2 * denoiser < stage2 < 3 * denoiser
    vae = network_flops.training_sample_flops(SMALL, 8, 8, frames=2, trained=trained(SMALL, r"^vae\."))
    coded = network_flops.vae_encode_flops(SMALL, 64, 64) + network_flops.vae_decode_flops(SMALL, 64, 64)
    assert vae == pytest.approx(2 * 3 * coded, rel=0.02)
