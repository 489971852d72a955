"""Motion modules from files of their own: every naming gives the same arrays, and computes what diffusers computes."""

import golden_models
import golden_weights
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import MotionAdapter

from champ_jax.common.errors import InputError
from champ_jax.models.motion_module import MotionConfig, MotionModule
from champ_jax.models.options import NetworkOptions
from champ_jax.models.transformer import Rows
from champ_jax.weights.flat import to_components
from champ_jax.weights.motion_files import read_motion_modules
from champ_jax.weights.names import tensor_names

CONFIG = golden_models.CONFIG


@pytest.fixture(scope="module")
def state():
    return golden_weights.state_dict("motion_module")


@pytest.fixture(scope="module")
def adapter():
    """diffusers' motion modules of the golden sizes, with random weights."""
    torch.manual_seed(4)
    adapter = MotionAdapter(
        block_out_channels=CONFIG.unet.block_out_channels,
        motion_layers_per_block=CONFIG.unet.layers_per_block,
        motion_num_attention_heads=8,
        motion_norm_num_groups=32,
        use_motion_mid_block=True,
    )
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return adapter.eval()


def as_published(state, form):
    """The tensors as AnimateLCM's and others' files have them, by what is special of each."""
    without = {key: array for key, array in state.items() if not key.endswith(".pe")}
    return {
        "as-it-is": state,
        "without-positions": without,
        "module-prefix": {f"module.{key}": array for key, array in state.items()},
        "in-a-whole-unet": {**state, "conv_in.weight": np.ones((32, 4, 3, 3), np.float32)},
    }[form]


@pytest.mark.parametrize("form", ["as-it-is", "without-positions", "module-prefix", "in-a-whole-unet"])
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_the_originals_names(state, tmp_path, form, suffix):
    path = golden_weights.write_state(tmp_path / f"mm{suffix}", as_published(state, form))
    motion, arrays, notes = read_motion_modules(path, CONFIG)
    assert motion == MotionConfig(max_length=32)
    assert bool(notes) == (form == "in-a-whole-unet")
    names = tensor_names(to_components(arrays)["denoising_unet"])
    assert set(names) == set(state)
    for key, name in names.items():
        array = arrays[".".join(map(str, ("denoising_unet", *name.path)))]
        np.testing.assert_allclose(name.to_torch(array), state[key], atol=1e-5 if key.endswith(".pe") else 0)


@pytest.mark.parametrize("tables", [True, False])
def test_diffusers_names_compute_what_diffusers_computes(adapter, tmp_path, tables):
    tensors = {key: x.numpy() for key, x in adapter.state_dict().items() if tables or not key.endswith(".pe")}
    path = golden_weights.write_state(tmp_path / "diffusion_pytorch_model.safetensors", tensors)
    motion, arrays, _ = read_motion_modules(path, CONFIG)
    assert motion == MotionConfig(max_length=32)
    tree = to_components(arrays)["denoising_unet"]["down_blocks"][1]["motion_modules"][1]
    leaves = {name.key: name.to_torch(leaf(tree, name.path)) for name in tensor_names(tree).values()}
    ours = golden_models.fill(MotionModule(32, motion, NetworkOptions()), leaves)
    # diffusers normalizes over the frames of a clip together, the original and Champ frame by frame; the same numbers
    # come from frames whose channels (each a group here) have one mean and variance.
    x = np.random.default_rng(0).standard_normal((6, 4, 3, 32))
    x = ((x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True)).astype(np.float32)
    with torch.no_grad():
        module = adapter.down_blocks[1].motion_modules[1]
        theirs = module(torch.from_numpy(x.transpose(0, 3, 1, 2)), num_frames=3).numpy().transpose(0, 2, 3, 1)
    assert golden_models.relative(ours(jnp.asarray(x), Rows(3)), theirs) < 1e-5


def leaf(tree, path):
    for name in path:
        tree = tree[name]
    return tree


def test_a_first_version_has_none_in_the_middle_and_fewer_positions(state, tmp_path):
    first = {
        key: array[:, :24] if key.endswith(".pe") else array for key, array in state.items() if "mid_block" not in key
    }
    path = golden_weights.write_state(tmp_path / "mm_sd_v15.ckpt", first)
    motion, arrays, _ = read_motion_modules(path, CONFIG)
    assert motion == MotionConfig(max_length=24, in_middle=False)
    assert not any("mid_block" in name for name in arrays)


NORM = "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {"conv_in.weight": np.ones(3, np.float32)}, "mm.ckpt: is not a valid motion module"),
        (lambda state: {key: x for key, x in state.items() if key != NORM}, f"mm.ckpt: 1 missing .{NORM}"),
        (
            lambda state: state | {NORM: np.ones(320, np.float32)},
            f"mm.ckpt: 1 misshapen .{NORM} is 320, the model has 32",
        ),
        (lambda state: state | {NORM: np.full(32, np.nan, np.float32)}, f"mm.ckpt: {NORM} holds NaN"),
        (
            lambda state: state | {NORM.replace(".temporal_transformer", ""): np.ones(32, np.float32)},
            f"{NORM} and .*norm.weight are two tensors for",
        ),
    ],
    ids=["none", "missing", "misshapen", "nan", "twice"],
)
def test_what_is_wrong_is_named(state, tmp_path, change, message):
    path = golden_weights.write_state(tmp_path / "mm.ckpt", change(state))
    with pytest.raises(InputError, match=message):
        read_motion_modules(path, CONFIG)
