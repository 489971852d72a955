"""The analytic counts against measured figures of the reference's work and against XLA's own count."""

import dataclasses

import golden_models
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from champ_jax.models.champ import ChampConfig, build_component
from champ_jax.models.flops import (
    denoiser_flops,
    denoising_step_flops,
    guidance_flops,
    image_encoder_flops,
    reference_flops,
    training_step_flops,
    vae_decode_flops,
    vae_encode_flops,
)
from champ_jax.models.unet import UNetConfig


@pytest.mark.parametrize(("side", "step", "decode"), [(512, 54.7e12, 2.5e12), (768, 147.8e12, 5.8e12)])
def test_full_size_counts(side, step, decode):
    """Independent counts for 24 frames with guidance, and for decoding one frame."""
    config = ChampConfig()
    assert denoising_step_flops(config, side // 8, side // 8, 24) == pytest.approx(step, rel=0.01)
    assert vae_decode_flops(config.vae, side, side) == pytest.approx(decode, rel=0.02)


def xla_flops(component, config, call, *shapes):
    """XLA's count of the program before any optimisation; it includes the elementwise work."""
    graph, state = nnx.split(build_component(component, config))
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    lowered = jax.jit(lambda state, *arrays: call(nnx.merge(graph, state), *arrays)).lower(state, *arrays)
    return lowered.cost_analysis()["flops"]


def test_counts_agree_with_xla():
    """Ours leave elementwise work out, which on so narrow a model is some tenths of the whole."""
    unet = UNetConfig(
        block_out_channels=(64, 128),
        attention_levels=(True, True),
        heads=(8, 8),
        cross_attention_dim=64,
        layers_per_block=1,
    )
    config = dataclasses.replace(
        golden_models.CONFIG, unet=unet, guidance=dataclasses.replace(golden_models.CONFIG.guidance, out_channels=64)
    )

    def denoise(model, latents, token):
        return model(latents, jnp.zeros(1), model.prepare_reference(None, token))

    pairs = [
        (denoiser_flops(config, 16, 16, 4, bank=False), ("denoising_unet", denoise, (1, 4, 16, 16, 4), (1, 64))),
        (guidance_flops(config, 64, 64, 1), ("guidance", lambda m, x: m({"depth": x}), (1, 64, 64, 3))),
        (vae_decode_flops(config.vae, 64, 64), ("vae", lambda m, z: m.decode(z), (1, 8, 8, 4))),
        (vae_encode_flops(config.vae, 64, 64), ("vae", lambda m, x: m.encode(x).mean, (1, 64, 64, 3))),
        (image_encoder_flops(config.image_encoder), ("image_encoder", lambda m, x: m(x), (1, 224, 224, 3))),
    ]
    for ours, (component, call, *shapes) in pairs:
        xla = xla_flops(component, config, call, *shapes)
        assert 0.75 * xla < ours < 1.05 * xla, component


def test_reference_and_training_counts():
    config = ChampConfig()
    whole = denoiser_flops(config, 64, 64, 1, bank=False) - denoiser_flops_of_motion(config)
    assert 0.9 * whole < reference_flops(config, 64, 64) < 1.1 * whole
    one = training_step_flops(config, 64, 64, stage=1, batch=1, frames=1, conditions=4)
    assert training_step_flops(config, 64, 64, stage=1, batch=4, frames=1, conditions=4) == 4 * one
    # Stage 2 spares the weight gradients of all but the motion modules.
    stage2 = training_step_flops(config, 64, 64, stage=2, batch=1, frames=24, conditions=4)
    assert 2 * denoiser_flops(config, 64, 64, 24) < stage2 < 3.3 * denoiser_flops(config, 64, 64, 24)


def denoiser_flops_of_motion(config: ChampConfig) -> int:
    still = dataclasses.replace(config, motion=None)
    return denoiser_flops(config, 64, 64, 1, bank=False) - denoiser_flops(still, 64, 64, 1, bank=False)
