"""Attention: blocks equal the formula, the exact savings equal what they save, kernels say why they cannot run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_models import relative
from hypothesis import given, settings
from hypothesis import strategies as st

from champ_jax.common.errors import InputError
from champ_jax.models import attention as attention_module
from champ_jax.models.attention import KERNELS, attention, check_kernel, recommended_kernels, splash_attention
from champ_jax.models.functional import PureNetwork
from champ_jax.models.initial_values import initialized
from champ_jax.models.options import AttentionKernels, NetworkOptions
from champ_jax.models.transformer import BlockReference, CrossAttention, Rows, TransformerBlock
from champ_jax.models.unet import UNet, UNetConfig


def qkv(batch, queries, keys, heads, size, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda length: jnp.asarray(rng.standard_normal((batch, length, heads, size)), jnp.float32)  # noqa: E731
    return draw(queries), draw(keys), draw(keys)


def formula(query, key, value, key_lengths=None):
    """softmax(q k^T / sqrt(D)) v in float64 with numpy."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    scores = np.einsum("nqhd,nkhd->nhqk", query, key) / np.sqrt(query.shape[-1])
    if key_lengths is not None:
        scores[
            np.broadcast_to((np.arange(key.shape[1]) >= np.array(key_lengths)[:, None])[:, None, None], scores.shape)
        ] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("nhqk,nkhd->nqhd", weights / weights.sum(-1, keepdims=True), value)


@settings(max_examples=10, deadline=None)
@given(queries=st.integers(1, 200), keys=st.integers(1, 70), masked=st.booleans(), block=st.integers(16, 80))
def test_blocks_equal_the_formula(queries, keys, masked, block):
    arrays = qkv(2, queries, keys, 2, 8)
    lengths = jnp.array([keys, max(1, keys // 2)]) if masked else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_module, "MAX_SCORES", 0)
        patch.setattr(attention_module, "MIN_QUERIES", block)
        out = attention(*arrays, key_lengths=lengths)
    assert relative(out, formula(*arrays, lengths)) < 1e-6


def test_gradients_through_blocks():
    arrays = qkv(1, 150, 60, 2, 8)

    def gradient(*arrays):
        return jax.grad(lambda *arrays: jnp.sum(jnp.sin(attention(*arrays))), argnums=(0, 1, 2))(*arrays)

    whole = gradient(*arrays)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_module, "MAX_SCORES", 0)
        blocks = gradient(*arrays)
    for ours, plain in zip(blocks, whole):
        assert relative(ours, plain) < 1e-5


@pytest.mark.parametrize("masked", [False, True])
def test_splash_computes_the_formula(masked):
    """In Pallas' interpreter, as no TPU is needed for numbers."""
    arrays = qkv(2, 128, 256, 2, 40)
    lengths = jnp.array([256, 128]) if masked else None
    out = splash_attention(*arrays, lengths, interpret=True)
    assert relative(out, formula(*arrays, lengths)) < 1e-5


def test_splash_runs_where_a_shard_map_has_split_the_batch():
    """Inside a shard_map there is nothing left to split."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    arrays = jax.random.normal(jax.random.key(0), (3, 2, 128, 1, 128))
    rows = jax.P("data")

    def local(query, key, value):
        return splash_attention(query, key, value, interpret=True)

    split = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False))
    expected = attention(*arrays, kernel="xla")
    assert relative(split(*arrays), expected) < 1e-5


def formula_gradient(query, key, value, key_lengths, cotangent):
    """The gradients of sum(formula * cotangent) by query, key and value, in float64 with numpy."""
    query, key, value, cotangent = (np.asarray(x, np.float64) for x in (query, key, value, cotangent))
    scale = query.shape[-1] ** -0.5
    scores = np.einsum("nqhd,nkhd->nhqk", query, key) * scale
    seen = np.arange(key.shape[1]) < np.array(key_lengths)[:, None]
    scores = np.where(seen[:, None, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    inner = np.einsum("nqhd,nkhd->nhqk", cotangent, value)
    inner = scale * weights * (inner - (inner * weights).sum(-1, keepdims=True))
    by_query, by_key = np.einsum("nhqk,nkhd->nqhd", inner, key), np.einsum("nhqk,nqhd->nkhd", inner, query)
    return by_query, by_key, np.einsum("nhqk,nqhd->nkhd", weights, cotangent)


@pytest.mark.parity
@pytest.mark.parametrize("head_size", [40, 80, 160])
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_of_this_device_compute_the_formula_in_bfloat16(kernel, head_size):
    """Forward and backward, with a bank that some sequences do not see, at the head sizes of the UNet's levels."""
    arrays = [x.astype(jnp.bfloat16) for x in qkv(2, 128, 256, 2, head_size)]
    try:
        check_kernel(kernel, arrays[0].shape, arrays[1].shape, jnp.bfloat16)
    except InputError as error:
        pytest.skip(str(error))
    lengths = jnp.array([256, 128])
    cotangent = qkv(2, 128, 1, 2, head_size, seed=1)[0].astype(jnp.bfloat16)
    run = jax.jit(lambda *arrays: attention(*arrays, key_lengths=lengths, kernel=kernel))
    pull = jax.jit(lambda arrays, cotangent: jax.vjp(run, *arrays)[1](cotangent))
    exact = [np.asarray(x, np.float32) for x in arrays]
    assert relative(run(*arrays), formula(*exact, lengths)) < 5e-3
    expected = formula_gradient(*exact, lengths, np.asarray(cotangent, np.float32))
    for ours, theirs in zip(pull(arrays, cotangent), expected):
        assert relative(ours, theirs) < 1e-2


@pytest.mark.parametrize(
    ("kernel", "shape", "dtype", "platform", "why"),
    [
        ("flash", (1, 128, 1, 8), jnp.float32, None, "unknown; choose xla, cudnn, splash"),
        ("cudnn", (1, 128, 1, 8), jnp.bfloat16, "cpu", "needs an NVIDIA GPU, this runs on cpu"),
        ("cudnn", (1, 128, 1, 8), jnp.float32, "gpu", "computes in float16 or bfloat16, not float32"),
        ("cudnn", (1, 128, 1, 512), jnp.bfloat16, "gpu", "multiples of 8 up to 256, not 512"),
        ("splash", (1, 128, 1, 8), jnp.bfloat16, "gpu", "needs a TPU, this runs on gpu"),
        ("splash", (1, 100, 1, 8), jnp.bfloat16, "tpu", "a multiple of 128 queries, not 100"),
    ],
)
def test_kernels_that_cannot_run_say_why(kernel, shape, dtype, platform, why):
    x = jnp.zeros(shape, dtype)
    with pytest.raises(InputError, match=why):
        attention(x, x, x, kernel=kernel, platform=platform)


def test_recommended_kernels():
    assert recommended_kernels("cpu") == AttentionKernels(platform="cpu")
    assert recommended_kernels("gpu", "9.0").spatial == ("cudnn",) * 4
    assert recommended_kernels("gpu", "8.0").spatial == ("cudnn", "cudnn", "xla", "xla")  # head size 160
    assert recommended_kernels("tpu").spatial == ("splash", "splash", "xla", "xla")


def block_of(channels=32, heads=4, width=16):
    return initialized(TransformerBlock(channels, heads, NetworkOptions(), context_width=width, kernel="xla"))


def test_cross_attention_to_one_token_is_a_projected_vector():
    """The vector equals attention written out, for any queries."""
    layer = initialized(CrossAttention(32, 16, NetworkOptions()))
    rng = np.random.default_rng(0)
    queries, token = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((1, 50, 32), (1, 16)))
    query, key = layer.to_q(queries), layer.to_k(token[:, None])
    split = (x.reshape(1, -1, 4, 8) for x in (query, key, layer.to_v(token[:, None])))
    written_out = layer.to_out(formula(*map(np.asarray, split)).reshape(1, 50, 32).astype(np.float32))
    assert relative(jnp.broadcast_to(layer(token)[:, None], (1, 50, 32)), written_out) < 1e-6
    layer.to_out.bias.set_value(jnp.arange(32.0))
    np.testing.assert_array_equal(layer(jnp.zeros((1, 16)))[0], layer.without_token())


def test_keys_and_values_made_once_equal_those_made_for_every_frame():
    """prepare() once for a video, against projecting [own ; bank] in every frame; also with unconditional rows."""
    block = block_of()
    rng = np.random.default_rng(0)
    shapes = (6, 20, 32), (1, 12, 32), (1, 16)
    x, bank, token = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)
    reference = block.prepare(bank, token)
    ours, entry = block(x, reference, Rows(frames=2, first=1))

    def written_out(frames, bank, token):
        own = block.norm1(frames)
        context = own if bank is None else jnp.concatenate([own, jnp.repeat(bank, len(frames), 0)], 1)
        layer = block.attn1
        split = [
            f(c).reshape(len(frames), -1, 4, 8)
            for f, c in ((layer.to_q, own), (layer.to_k, context), (layer.to_v, context))
        ]
        hidden = frames + layer.to_out(formula(*map(np.asarray, split)).reshape(own.shape).astype(np.float32))
        hidden = hidden + block.attn2(token)[:, None]
        return hidden + block.ff(block.norm3(hidden))

    expected = jnp.concatenate([written_out(x[:2], None, jnp.zeros_like(token)), written_out(x[2:], bank, token)])
    assert relative(ours, expected) < 1e-6
    assert relative(entry, block.norm1(x)) == 0
    mask = Rows(frames=2, mask=jnp.array([True, False, False]))
    assert relative(block(x, reference, mask)[0], expected) < 1e-6
    with pytest.raises(ValueError, match="a bank of 2 rows cannot serve 3 rows"):
        block(x, BlockReference(*(jnp.repeat(leaf, 2, 0) for leaf in reference)), Rows(frames=2))


def test_memory_grows_with_the_tokens_and_not_with_their_square():
    """Temporaries of a 32-wide denoiser with a bank, forward, at two latent sizes."""
    config = UNetConfig(
        block_out_channels=(32, 32),
        attention_levels=(True, True),
        heads=(8, 8),
        cross_attention_dim=16,
        layers_per_block=1,
    )
    network, parameters = PureNetwork.split(UNet(config))

    def temporaries(side):
        def predict(parameters, latents, token, bank_latents):
            model = network.bind(parameters)
            reference = model.prepare_reference(model.bank(bank_latents, token), token)
            return model(latents, jnp.zeros(2), reference, unconditional=1)

        arrays = [
            jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 2, side, side, 4), (1, 16), (1, side, side, 4))
        ]
        return jax.jit(predict).lower(parameters, *arrays).compile().memory_analysis().temp_size_in_bytes

    small, large = temporaries(32), temporaries(64)
    assert large <= 4.5 * small  # four times the tokens; scores of the whole would be sixteen times as many
    assert large < 8 * 4096 * 8192 * 4  # one frame's whole score matrix
