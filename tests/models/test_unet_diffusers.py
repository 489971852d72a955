"""The UNet without bank or motion against diffusers' UNet2DConditionModel, at other sizes than the goldens'."""

import golden_models
import jax
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from flax import nnx
from golden_models import channels_last, relative

from champ_jax.common.errors import InputError
from champ_jax.models.unet import UNet, UNetConfig


def test_unet_against_diffusers():
    torch.manual_seed(0)
    theirs = UNet2DConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=24,
        norm_num_groups=16,
        in_channels=5,
        out_channels=3,
    ).eval()
    config = UNetConfig.from_json(dict(theirs.config))
    assert config.heads == (4, 4)
    assert config.attention_levels == (True, False)
    tensors = {key: value.numpy() for key, value in theirs.state_dict().items()}
    ours = golden_models.fill(UNet(config), tensors)

    rng = np.random.default_rng(0)
    latents = rng.standard_normal((2, 5, 10, 6), np.float32)
    token = rng.standard_normal((2, 1, 24), np.float32)
    timesteps = np.array([17, 903])
    with torch.no_grad():
        expected = theirs(*map(torch.from_numpy, (latents, timesteps, token))).sample.numpy()
    graph, state = nnx.split(ours)

    @jax.jit
    def predict(state, latents, timesteps, token):
        model = nnx.merge(graph, state)
        return model(latents, timesteps, model.prepare_reference(None, token))

    out = predict(state, channels_last(latents)[:, None], timesteps, token[:, 0])
    assert relative(out[:, 0], channels_last(expected)) < 1e-5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("act_fn", "gelu"),
        ("use_linear_projection", True),
        ("down_block_types", ["AttnDownBlock2D"] * 4),
        ("up_block_types", ["UpBlock2D"] * 4),
        ("attention_head_dim", [8, 8]),
    ],
)
def test_unsupported_fields_are_named(field, value):
    with pytest.raises(InputError, match=field if field != "attention_head_dim" else "heads differ"):
        UNetConfig.from_json({field: value})


def test_config_survives_json():
    config = UNetConfig(block_out_channels=(32, 64), attention_levels=(True, False), heads=(2, 4), layers_per_block=3)
    assert UNetConfig.from_json(config.to_json()) == config
    assert UNetConfig.from_json(UNetConfig().to_json()) == UNetConfig()


def test_widths_that_cannot_be_grouped_or_headed():
    with pytest.raises(InputError, match=r"unet.block_out_channels=30: not a multiple of unet.norm_num_groups=32"):
        UNetConfig(block_out_channels=(30,) * 4)
    with pytest.raises(InputError, match=r"unet.block_out_channels=32: not a multiple of unet.heads=5"):
        UNetConfig(block_out_channels=(32,) * 4, heads=(5,) * 4)
