"""Names, trainable sets and fresh values."""

import dataclasses
import re

import jax.numpy as jnp
import numpy as np
import pytest
from training_data import smoke

from champ_jax.common.errors import InputError
from champ_jax.models.champ import ChampConfig
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


def test_frozen_parameters_are_cast_but_position_tables_and_indices_are_not():
    arrays = {"a.kernel": np.ones(2, np.float32), "m.pe": np.ones(2, np.float32), "i": np.arange(2)}
    assert {name: array.dtype.name for name, array in cast(arrays, jnp.bfloat16).items()} == {
        "a.kernel": "bfloat16",
        "m.pe": "float32",
        "i": "int64",
    }
