"""The name map: full-size layouts exactly, and there and back for any shape."""

import golden_weights
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from weights_trees import LAYOUTS

from champ_jax.models.champ import COMPONENTS, ChampConfig
from champ_jax.weights.conversion_plan import abstract_state
from champ_jax.weights.names import canonical, files_of, is_table, tensor_name

PARAMETERS = {
    "vae": 83_653_863,
    "image_encoder": 303_966_208,
    "reference_unet": 859_508_800,
    "denoising_unet": 859_520_964,
    "motion_module": 453_209_280,
    "guidance_encoder_depth": 3_833_136,
    "guidance_encoder_normal": 3_833_136,
    "guidance_encoder_semantic_map": 3_833_136,
    "guidance_encoder_dwpose": 3_833_136,
}


@pytest.fixture(scope="module")
def full_size():
    """{stem: {key: TensorName}} of the default ChampConfig."""
    files = {}
    for component in COMPONENTS:
        files |= files_of(component, abstract_state(component, ChampConfig()))
    return files


@pytest.mark.parametrize("stem", PARAMETERS)
def test_full_size_is_the_users_files(full_size, stem):
    layout = LAYOUTS["guidance_encoder" if stem.startswith("guidance") else stem]
    assert {key: list(name.shape) for key, name in full_size[stem].items()} == layout
    count = sum(int(np.prod(name.shape)) for name in full_size[stem].values() if not is_table(name.path))
    assert count == PARAMETERS[stem]


def test_full_size_has_no_other_files(full_size):
    assert set(full_size) == set(PARAMETERS)


def test_old_vae_names_become_todays():
    assert {canonical(key): shape for key, shape in LAYOUTS["vae_old_names"].items()} == LAYOUTS["vae"]
    renamed = golden_weights.with_old_vae_names(golden_weights.state_dict("vae"))
    assert {canonical(key) for key in renamed} == set(golden_weights.key_shapes()["vae"])
    assert any("query" in key for key in renamed)


def test_arrays_are_copies():
    """A view would keep the file it was mapped from in memory."""
    for path, shape in ((("norm", "scale"), (4,)), (("conv", "kernel"), (1, 1, 1, 1)), (("pe",), (1, 2, 2))):
        array = np.zeros(shape, np.float32)
        assert not np.shares_memory(array, tensor_name(path, shape).to_flax(array, np.float32))


def test_clip_keys_are_left_alone():
    """CLIP's `self_attn.k_proj` and a path that only looks like the VAE's stay what they are."""
    for key in (*LAYOUTS["image_encoder"], *LAYOUTS["denoising_unet"], *LAYOUTS["motion_module"]):
        assert canonical(key) == key


@hypothesis.given(
    st.sampled_from(["conv1", "proj_in", "attentions.0.proj_in", "to_out", "ff.proj", "quant_conv", "motion.proj_in"]),
    st.data(),
    st.sampled_from([np.float16, np.float32]),
)
def test_there_and_back(name, data, dtype):
    path = ("block", 0, *(int(part) if part.isdigit() else part for part in name.split(".")), "kernel")
    shape = data.draw(st.tuples(*[st.integers(1, 5)] * (4 if name == "conv1" else 2)))
    names = tensor_name(path, shape)
    array = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    theirs = names.to_torch(array)
    assert theirs.shape == names.shape
    assert theirs.flags.c_contiguous
    assert np.array_equal(names.to_flax(theirs), array)
    assert names.accepts(theirs.shape)
    assert not names.accepts((*theirs.shape, 2))


def test_products_come_as_linear_or_1x1_convolution():
    name = tensor_name(("mid_block", "attentions", 0, "to_q", "kernel"), (3, 5))
    assert (name.key, name.shape) == ("mid_block.attentions.0.to_q.weight", (5, 3))
    linear = np.arange(15.0).reshape(5, 3)
    assert name.accepts((5, 3, 1, 1))
    assert np.array_equal(name.to_flax(linear[:, :, None, None]), name.to_flax(linear))
    assert not name.accepts((3, 5))
    assert not name.accepts((5, 3, 3, 3))
