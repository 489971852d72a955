"""Guidance encoders and their fusion."""

import golden_models
import golden_weights
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_models import channels_last, golden, relative

from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.models.functional import Unused
from champ_jax.models.guidance import Guidance, GuidanceConfig, GuidanceEncoder
from champ_jax.models.initial_values import initialized

TOLERANCE = 1e-5
TINY = golden_models.CONFIG.guidance


@pytest.fixture(scope="module")
def tiny():
    """The golden encoders of all conditions."""
    return golden_models.build("guidance")


@pytest.mark.parity
def test_full_width_encoder():
    arrays = golden("a_guidance_encoder")
    config = GuidanceConfig(out_channels=32)
    encoder = GuidanceEncoder(config)
    encoder = golden_models.fill(encoder, golden_weights.state_dict("guidance_encoder_full"))
    x, y = channels_last(arrays["x"])[0], channels_last(arrays["y"])[0]
    assert relative(encoder(x), y) < TOLERANCE


@pytest.mark.parity
def test_encoder_of_odd_sizes(tiny):
    arrays = golden("a_guidance_encoder_tiny_normal")
    x, y = channels_last(arrays["x"]), channels_last(arrays["y"])
    out = tiny.encoders["normal"](x.reshape(-1, *x.shape[2:]))
    assert relative(out.reshape(y.shape), y) < TOLERANCE


def test_fusion_sums_what_is_given(tiny):
    rng = np.random.default_rng(0)
    maps = {name: jnp.asarray(rng.random((1, 16, 16, 3), np.float32)) for name in CONDITIONS}
    apart = {name: tiny({name: maps[name]}) for name in CONDITIONS}
    assert relative(tiny(maps), sum(apart.values())) < 1e-6
    some = {name: maps[name] for name in ("normal", "depth")}
    assert relative(tiny(some), apart["depth"] + apart["normal"]) < 1e-6
    with pytest.raises(InputError, match="condition hed: the model has no encoder"):
        tiny({"hed": maps["depth"]})
    with pytest.raises(InputError, match="no conditions"):
        tiny({})


def test_unused_tensors_cost_nothing_and_a_fresh_encoder_says_nothing(tiny):
    """Five of the six `attentions` and `guidance_attention` are carried; poison in them never reaches the output."""
    encoder = tiny.encoders["depth"]
    graph, unused, rest = nnx.split(encoder, Unused, ...)
    assert {path[0] for path, _ in nnx.to_flat_state(unused)} == {"attentions", "guidance_attention"}
    assert {path[1] for path, _ in nnx.to_flat_state(unused) if path[0] == "attentions"} == {0, 1, 2, 3, 4}
    poisoned = nnx.merge(graph, jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), unused), rest)
    x = jnp.ones((1, 16, 16, 3))
    np.testing.assert_array_equal(encoder(x), poisoned(x))
    fresh = initialized(Guidance(TINY, ("depth",)), prefix="guidance")
    assert not np.any(fresh({"depth": x}))  # the output convolution starts at zero


def test_encoder_without_attention():
    """The ablation of the paper's Table 4: the transformer is carried, not run."""
    config = GuidanceConfig((16, 32, 32, 64), out_channels=32, attention=False)
    encoder = GuidanceEncoder(config)
    encoder = golden_models.fill(encoder, golden_weights.state_dict("guidance_encoder_depth"))
    trained = {path[0] for path, _ in nnx.to_flat_state(nnx.state(encoder, nnx.Param))}
    assert trained == {"conv_in", "blocks", "conv_out"}
    assert encoder(jnp.ones((1, 16, 16, 3))).shape == (1, 2, 2, 32)
    with pytest.raises(InputError, match="none chosen"):
        Guidance(config, ())
