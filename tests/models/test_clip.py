"""The image encoder against the reference's numbers and transformers' CLIPVisionModelWithProjection."""

import golden_weights
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from golden_models import channels_last, relative

from champ_jax.common.errors import InputError
from champ_jax.models.clip import CLIPVisionConfig, CLIPVisionTower
from champ_jax.models.options import NetworkOptions

run = nnx.jit(lambda model, pixels: model(pixels))


@pytest.fixture(scope="module")
def config():
    return CLIPVisionConfig.from_json(golden_weights.configs()["image_encoder"])


@pytest.mark.parity
@pytest.mark.parametrize("scan", [False, True])
def test_golden(config, scan):
    state = golden_weights.state_dict("image_encoder")
    model = golden_weights.load(lambda: CLIPVisionTower(config, NetworkOptions(scan=scan)), state)
    golden = np.load(golden_weights.GOLDEN / "f_clip.npz")
    for pixels, embeds in (
        (golden["pixel_values_inference"], golden["image_embeds"]),
        (golden["pixel_values_train_noresize"], golden["image_embeds_train"]),
        (np.zeros((1, 3, 224, 224), np.float32), golden["embeds_of_zeros"]),
    ):
        assert relative(run(model, channels_last(pixels)), embeds) <= 1e-5


def test_equals_transformers():
    """Other widths, heads, patch and picture sizes, three layers, a batch."""
    import transformers  # which machines that check the parity alone need not have

    theirs_config = transformers.CLIPVisionConfig(
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=3,
        image_size=60,
        patch_size=12,
        projection_dim=20,
        layer_norm_eps=1e-4,
    )
    torch.manual_seed(0)
    theirs = transformers.CLIPVisionModelWithProjection(theirs_config).eval()
    ours_config = CLIPVisionConfig.from_json(theirs_config.to_dict())
    assert ours_config.tokens == 26
    state = {key: tensor.numpy() for key, tensor in theirs.state_dict().items()}
    state["vision_model.embeddings.position_ids"] = np.arange(26)[None]
    model = golden_weights.load(lambda: CLIPVisionTower(ours_config), state)
    pixels = np.random.default_rng(0).standard_normal((3, 3, 60, 60)).astype(np.float32)
    with torch.no_grad():
        embeds = theirs(torch.from_numpy(pixels)).image_embeds.numpy()
    assert relative(run(model, channels_last(pixels)), embeds) <= 1e-5


@pytest.mark.parity
def test_bfloat16_stays_close(config):
    state = golden_weights.state_dict("image_encoder")
    model = golden_weights.load(lambda: CLIPVisionTower(config, NetworkOptions(jnp.bfloat16)), state)
    golden = np.load(golden_weights.GOLDEN / "f_clip.npz")
    embeds = run(model, channels_last(golden["pixel_values_inference"]))
    assert embeds.dtype == jnp.bfloat16
    assert relative(embeds.astype(jnp.float32), golden["image_embeds"]) < 0.02


def test_position_ids_are_not_trained(config):
    model = CLIPVisionTower(config)
    trained = jax.tree_util.tree_leaves(nnx.state(model, nnx.Param))
    assert len(trained) == len(golden_weights.key_shapes()["image_encoder"]) - 1


@pytest.mark.parametrize(("field", "value"), [("hidden_act", "gelu"), ("num_attention_heads", 5)])
def test_unsupported_config_names_the_field(field, value):
    with pytest.raises(InputError, match=field):
        CLIPVisionConfig.from_json({**golden_weights.configs()["image_encoder"], field: value})


def test_config_of_a_whole_clip(config):
    whole = {"vision_config": config.to_json(), "projection_dim": 64, "text_config": {}}
    assert CLIPVisionConfig.from_json(whole) == config
