"""ReferenceNet and denoiser against the reference implementation's numbers."""

import dataclasses
import json

import chex
import golden_models
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_models import channels_last, golden, relative
from golden_weights import GOLDEN

from champ_jax.common.errors import InputError
from champ_jax.models.functional import Unused
from champ_jax.models.initial_values import initialized
from champ_jax.models.options import REMAT_POLICIES, NetworkOptions
from champ_jax.models.transformer import Rows
from champ_jax.models.unet import UNet, UNetConfig

TOLERANCE = 3e-5


@pytest.fixture(scope="module")
def cases():
    """Arrays of c_denoising_unet, channels last where they are clips, tokens (B, width)."""
    arrays = golden("c_denoising_unet")
    arrays |= {name: channels_last(array) for name, array in arrays.items() if array.ndim >= 4}
    return arrays | {name: arrays[name][:, 0] for name in ("ehs_cfg", "ehs_plain")}


@pytest.fixture(scope="module")
def bank_of():
    """The compiled ReferenceNet: (latents, token) -> bank."""
    graph, state = nnx.split(golden_models.build("reference_unet"))
    compiled = jax.jit(lambda state, latents, token: nnx.merge(graph, state).bank(latents, token))
    return lambda latents, token: compiled(state, latents, token)


@pytest.fixture(scope="module")
def denoise():
    """The compiled denoiser: (latents, timesteps, bank, token, guidance, unconditional) -> prediction."""
    graph, state = nnx.split(golden_models.build("denoising_unet"))

    def predict(state, latents, timesteps, bank, token, guidance, mask, first):
        model = nnx.merge(graph, state)
        reference = model.prepare_reference(bank, token)
        unconditional = first if mask is None else mask
        return model(latents, timesteps, reference, guidance, unconditional=unconditional)

    compiled = jax.jit(predict, static_argnums=7)

    def call(latents, timesteps, bank, token, guidance, mask=None, first=0):
        timesteps = jnp.broadcast_to(timesteps, latents.shape[:1])
        return compiled(state, latents, timesteps, bank, token, guidance, mask, first)

    return call


@pytest.mark.parity
def test_bank(bank_of):
    arrays = golden("b_reference_bank")
    bank = bank_of(channels_last(arrays["ref_latents"]), arrays["encoder_hidden_states"][:, 0])
    order = json.loads((GOLDEN / "b_bank_order.json").read_text())["order"]
    assert len(order) == len(bank) == 16
    for entry in order:
        place = entry["module"].removesuffix(".transformer_blocks.0")
        assert relative(bank[place], arrays[f"bank_{entry['i']:02d}"]) < TOLERANCE, place


@pytest.mark.parity
@pytest.mark.parametrize(
    ("golden_name", "token", "timesteps", "guided"),
    [
        ("out_nohook_plain", "ehs_plain", "timesteps_vec", True),
        ("out_nohook_scalar_t", "ehs_plain", "timestep_scalar", True),
        ("out_nohook_noguidance", "ehs_plain", "timesteps_vec", False),
        ("out_emptybank_cfg1", "ehs_cfg", "timesteps_vec", True),
        ("out_emptybank_cfg0", "ehs_plain", "timesteps_vec", True),
    ],
)
def test_denoiser_without_bank(cases, denoise, golden_name, token, timesteps, guided):
    guidance = cases["guidance_fea"] * guided  # adding zeros is leaving it out, without another compilation
    out = denoise(cases["latents"], cases[timesteps], None, cases[token], guidance)
    assert relative(out, cases[golden_name]) < TOLERANCE


@pytest.mark.parity
def test_denoiser_with_bank(cases, bank_of, denoise):
    latents, timesteps, guidance = cases["latents"], cases["timesteps_vec"], cases["guidance_fea"]
    pictures = jnp.repeat(cases["ref_latents"], 2, axis=0)
    # The first row is unconditional: known when tracing, one picture for the rows that read it ...
    bank = bank_of(pictures, jnp.stack([cases["ehs_cfg"][1]] * 2))
    one = jax.tree.map(lambda x: x[:1], bank)
    out = denoise(latents, timesteps, one, cases["ehs_cfg"][1:], guidance, first=1)
    assert relative(out, cases["out_bank_cfg1"]) < TOLERANCE
    # ... or known only when running, a picture for every row.
    both = jnp.stack([cases["ehs_cfg"][1]] * 2)
    out = denoise(latents, timesteps, bank, both, guidance, mask=jnp.array([True, False]))
    assert relative(out, cases["out_bank_cfg1"]) < TOLERANCE
    bank = bank_of(pictures, cases["ehs_plain"])
    out = denoise(latents, timesteps, bank, cases["ehs_plain"], guidance, mask=jnp.array([False, False]))
    assert relative(out, cases["out_bank_cfg0"]) < TOLERANCE


@pytest.mark.parity
def test_odd_sizes_and_one_frame(cases, denoise):
    out = denoise(cases["latents_odd"], cases["timesteps_vec"], None, cases["ehs_plain"], None)
    assert relative(out, cases["out_nohook_odd_F1"]) < TOLERANCE


@pytest.mark.parity
def test_stage_1_model_has_no_motion_modules(cases):
    config = dataclasses.replace(golden_models.CONFIG, motion=None)
    model = golden_models.build("denoising_unet", config)
    graph, state = nnx.split(model)
    assert not any("motion_modules" in path for path, _ in nnx.to_flat_state(state))

    @jax.jit
    def predict(state, latents, timesteps, token, guidance):
        model = nnx.merge(graph, state)
        return model(latents, timesteps, model.prepare_reference(None, token), guidance)

    inputs = (cases["latents"][:, :1], cases["timesteps_vec"], cases["ehs_plain"], cases["guidance_fea"][:, :1])
    assert relative(predict(state, *inputs), cases["out_stage1_F1"]) < TOLERANCE


@pytest.mark.parity
def test_motion_module():
    arrays = golden("c_motion_module_down0_0")
    x = channels_last(arrays["x"])
    module = golden_models.build("denoising_unet").down_blocks[0].motion_modules[0]
    out = module(x.reshape(-1, *x.shape[2:]), Rows(x.shape[1]))
    assert relative(out.reshape(x.shape), channels_last(arrays["y"])) < 1e-5
    with pytest.raises(InputError, match="40 frames in a window, the motion modules know 32"):
        module(jnp.zeros((40, 4, 6, 32)), Rows(40))


def test_unused_tensors_cannot_matter(cases, denoise):
    """Whatever stands in the tensors that are only carried, the output is the same bit for bit."""
    model = golden_models.build("denoising_unet")
    graph, unused, rest = nnx.split(model, Unused, ...)
    poisoned = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), unused)
    assert len(jax.tree.leaves(unused)) == 16 * 4  # norm2 (scale, bias), to_q, to_k of 16 blocks

    def predict(model):
        reference = model.prepare_reference(None, jnp.asarray(cases["ehs_plain"]))
        block, place = model.down_blocks[1].attentions[0], "down_blocks.1.attentions.0"
        return block(jnp.ones((2, 8, 8, 32)), reference[place], Rows(1))[0]

    clean, dirty = (predict(nnx.merge(graph, state, rest)) for state in (unused, poisoned))
    np.testing.assert_array_equal(clean, dirty)


@pytest.mark.parity
def test_bfloat16_computes_near_float32():
    """bf16 compute, from float32 parameters, stays within bf16's precision: norms and softmax reduce in float32."""
    x = 30 + jax.random.normal(jax.random.key(0), (2, 8, 8, 32))  # a large mean is what bf16 moments would lose
    x = x.astype(jnp.bfloat16).astype(jnp.float32)
    outputs = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        model = golden_models.build("denoising_unet", dtype=dtype)
        block, place = model.down_blocks[0].attentions[0], "down_blocks.0.attentions.0"
        reference = model.prepare_reference(None, jnp.ones((1, 64)))[place]
        outputs[dtype] = block.proj_out(
            block.transformer_blocks[0](block.norm(x).reshape(2, 64, 32), reference, Rows(1))[0]
        )
    assert outputs[jnp.bfloat16].dtype == jnp.bfloat16
    assert relative(outputs[jnp.bfloat16].astype(jnp.float32), outputs[jnp.float32]) < 2e-2


@pytest.mark.slow
@pytest.mark.parity
def test_denoiser_in_bfloat16_is_near_the_reference(cases, bank_of):
    """The whole network with its bank, bf16 compute from float32 parameters."""
    graph, state = nnx.split(golden_models.build("denoising_unet", dtype=jnp.bfloat16))
    bank = bank_of(cases["ref_latents"], cases["ehs_cfg"][1:])

    @jax.jit
    def predict(state, latents, timesteps, bank, token, guidance):
        model = nnx.merge(graph, state)
        return model(latents, timesteps, model.prepare_reference(bank, token), guidance, unconditional=1)

    timesteps = jnp.broadcast_to(cases["timesteps_vec"], cases["latents"].shape[:1])
    out = predict(state, cases["latents"], timesteps, bank, cases["ehs_cfg"][1:], cases["guidance_fea"])
    assert relative(out.astype(jnp.float32), cases["out_bank_cfg1"]) < 0.05


def test_remat_changes_nothing_but_memory():
    """Recomputing whole blocks gives the plain gradients."""
    config = UNetConfig(
        block_out_channels=(32,), attention_levels=(True,), heads=(4,), cross_attention_dim=16, layers_per_block=1
    )
    latents = jax.random.normal(jax.random.key(1), (1, 2, 4, 4, 4))
    token = jax.random.normal(jax.random.key(2), (1, 16))

    def gradient(remat):
        model = initialized(UNet(config, NetworkOptions(remat=remat)))
        graph, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(params):
            model = nnx.merge(graph, params, rest)
            return jnp.sum(model(latents, jnp.array([7]), model.prepare_reference(None, token)) ** 2)

        return jax.jit(jax.grad(loss))(params)

    plain = gradient("none")
    for policy in REMAT_POLICIES:
        chex.assert_trees_all_close(plain, gradient(policy), rtol=2e-4, atol=2e-4)
    with pytest.raises(InputError, match="remat=fulll"):
        NetworkOptions(remat="fulll")
