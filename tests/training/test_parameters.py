"""Names, trainable sets and fresh values."""

import dataclasses
import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from champ_jax.common.errors import InputError
from champ_jax.models.champ import ChampConfig, build_component
from champ_jax.models.initial_values import fresh_value
from champ_jax.models.keys import InitKeys
from champ_jax.models.motion_module import MotionModule
from champ_jax.training.config import smoke
from champ_jax.training.parameters import Network
from champ_jax.weights.flat import cast, dotted, from_components, path_of, to_components

MODEL = ChampConfig.from_json(smoke().model.to_dict())
STAGE1 = dataclasses.replace(MODEL, motion=None)


def test_stage1_trains_all_but_the_references_finest_up_block():
    network = Network.build(STAGE1, "stage1")
    finest = f"reference_unet.up_blocks.{MODEL.unet.levels - 1}."
    for name in network.trainable:
        assert name.split(".")[0] in ("denoising_unet", "reference_unet", "guidance")
        assert not name.startswith(finest)
    expected = [n for n in network.frozen if not n.startswith(("vae.", "image_encoder.", finest))]
    assert expected == []  # whatever else is a parameter is trained
    assert any(name.startswith("reference_unet.up_blocks.0.") for name in network.trainable)


def test_stage2_trains_the_motion_modules_only():
    network = Network.build(MODEL, "stage2")
    assert all(re.search(r"^denoising_unet\..*\.motion_modules\.", name) for name in network.trainable)
    left = [name for name in network.frozen if "motion_modules" in name]
    assert left
    assert all(name.endswith(".pe") for name in left)


def test_image_encoder_can_be_trained():
    names = Network.build(STAGE1, "stage1_image_encoder").trainable
    assert {name for name in names if name.startswith("image_encoder.")}


@pytest.mark.parametrize(("name", "words"), [("stage3", "stage1"), ("stage2", "none of these")])
def test_unknown_or_empty_sets_are_refused(name, words):
    with pytest.raises(InputError, match=words):
        Network.build(STAGE1, name)


def test_what_files_hold_and_nothing_reads_is_not_on_the_device():
    network = Network.build(STAGE1, "stage1")
    assert all(".attn2.to_q." not in name for name in (*network.trainable, *network.frozen))
    assert any(".attn2.to_q." in name for name in network.unused)


def test_names_go_both_ways():
    names = Network.build(MODEL, "stage2").shapes
    assert all(dotted(path_of(name)) == name for name in names)
    nested = to_components(dict.fromkeys(names, 0))
    assert from_components(nested) == dict.fromkeys(names, 0)


@pytest.mark.slow
def test_fresh_values_are_distributed_as_the_modules_own():
    # One of every kind of layer: building whole networks eagerly takes a minute.
    config = dataclasses.replace(MODEL, conditions=("depth",))
    policy = {"dtype": jnp.float32, "param_dtype": jnp.float32, "rngs": InitKeys(0)}
    modules = {
        "guidance": build_component("guidance", config, rngs=InitKeys(0)),
        "image_encoder": build_component("image_encoder", config, rngs=InitKeys(0)),
        "denoising_unet.mid_block.motion_modules.0": MotionModule(
            16, config.motion, groups=8, kernel="xla", platform=None, **policy
        ),
    }
    variables = [
        (f"{place}.{dotted(path)}", np.asarray(variable.get_value()))
        for place, module in modules.items()
        for path, variable in nnx.to_flat_state(nnx.state(module))
    ]
    compared = 0
    for name, own in variables:
        ours = fresh_value(name, own.shape, 0)
        assert ours.shape == own.shape
        if own.std() == 0 or name.endswith((".pe", ".position_ids")):
            np.testing.assert_array_equal(ours, own, err_msg=name)
        elif own.size >= 256:
            compared += 1
            assert abs(ours.std() / own.std() - 1) < 6 / np.sqrt(own.size), name
            assert abs(np.abs(ours).max() / np.abs(own).max() - 1) < 0.4, name
    assert compared > 15
    assert not np.array_equal(fresh_value("a.kernel", (8, 8), 0), fresh_value("b.kernel", (8, 8), 0))
    assert not np.array_equal(fresh_value("a.kernel", (8, 8), 0), fresh_value("a.kernel", (8, 8), 1))


def test_frozen_parameters_are_cast_but_position_tables_and_indices_are_not():
    arrays = {"a.kernel": np.ones(2, np.float32), "m.pe": np.ones(2, np.float32), "i": np.arange(2)}
    assert {name: array.dtype.name for name, array in cast(arrays, jnp.bfloat16).items()} == {
        "a.kernel": "bfloat16",
        "m.pe": "float32",
        "i": "int64",
    }
