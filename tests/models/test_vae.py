"""The VAE against the reference's numbers and diffusers' AutoencoderKL."""

import golden_weights
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from golden_models import channels_last, relative

from champ_jax.common.errors import InputError
from champ_jax.models.vae import VAE, VAEConfig

encode = nnx.jit(lambda model, x: model.encode(x))
decode = nnx.jit(lambda model, z: model.decode(z))


@pytest.mark.parity
def test_golden():
    config = VAEConfig.from_json(golden_weights.configs()["vae"])
    model = golden_weights.load(lambda: VAE(config), golden_weights.state_dict("vae"))
    golden = np.load(golden_weights.GOLDEN / "f_vae.npz")
    posterior = encode(model, channels_last(golden["x"]))
    assert relative(posterior.mean, channels_last(golden["mean"])) <= 1e-5
    assert relative(posterior.logvar, channels_last(golden["logvar"])) <= 1e-5
    assert relative(decode(model, channels_last(golden["z"])), channels_last(golden["decoded"])) <= 1e-5


def test_equals_diffusers():
    """Other widths, one ResNet a level, three levels, other groups and latent channels, sides that differ."""
    import diffusers  # which machines that check the parity alone need not have

    sizes = {"block_out_channels": (16, 48, 32), "layers_per_block": 1, "norm_num_groups": 16, "latent_channels": 6}
    torch.manual_seed(0)
    theirs = diffusers.AutoencoderKL(
        **sizes, down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3
    ).eval()
    config = VAEConfig.from_json(dict(theirs.config))
    state = {key: tensor.numpy() for key, tensor in theirs.state_dict().items()}
    model = golden_weights.load(lambda: VAE(config), state)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 24, 36)).astype(np.float32)
    z = np.random.default_rng(1).standard_normal((2, 6, 6, 9)).astype(np.float32)
    with torch.no_grad():
        posterior = theirs.encode(torch.from_numpy(x)).latent_dist
        decoded = theirs.decode(torch.from_numpy(z)).sample
    ours = encode(model, channels_last(x))
    assert relative(ours.mean, channels_last(posterior.mean)) <= 1e-5
    assert relative(ours.logvar, channels_last(posterior.logvar)) <= 1e-5
    assert relative(decode(model, channels_last(z)), channels_last(decoded)) <= 1e-5
    # Samples have the posterior's deviation.
    noise = (ours.sample(jax.random.key(0)) - ours.mode()) / jnp.exp(0.5 * ours.logvar)
    assert relative(noise, jax.random.normal(jax.random.key(0), noise.shape)) <= 1e-5


def test_attention_memory_grows_with_the_tokens():
    """Temporary memory of decoding 4 times the tokens is not 16 times as much."""
    config = VAEConfig(block_out_channels=(8,), layers_per_block=1, norm_num_groups=4)
    abstract = VAE(config)
    graph, state = nnx.split(abstract)

    def temporary(side):
        z = jax.ShapeDtypeStruct((1, side, side, 4), jnp.float32)
        lowered = jax.jit(lambda state, z: nnx.merge(graph, state).decode(z)).lower(state, z)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    small, large = temporary(64), temporary(128)
    assert large < 6 * small
    assert large < 128**4 * 4 / 8, "far below one (tokens x tokens) matrix of 1 GiB"


@pytest.mark.parametrize(
    ("field", "value"),
    [("act_fn", "relu"), ("down_block_types", ["AttnDownEncoderBlock2D"]), ("use_quant_conv", False)],
)
def test_unsupported_config_names_the_field(field, value):
    with pytest.raises(InputError, match=field):
        VAEConfig.from_json({**golden_weights.configs()["vae"], field: value})


def test_config_round_trip():
    config = VAEConfig.from_json(golden_weights.configs()["vae"])
    assert VAEConfig.from_json(config.to_json()) == config
    assert config.downscale == 8
