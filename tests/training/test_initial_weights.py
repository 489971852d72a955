"""What a run starts from where its motion modules come from a file of their own."""

import dataclasses

import numpy as np
import pytest
import safetensors.numpy
from training_data import tiny_config, tiny_model

from champ_jax.common.errors import InputError
from champ_jax.models.champ import ChampConfig
from champ_jax.training.initial_weights import MOTION, load_initial
from champ_jax.weights.conversion_plan import abstract_state
from champ_jax.weights.flat import dotted
from champ_jax.weights.names import files_of

MODEL = ChampConfig.from_json(tiny_model().to_dict())


def write_motion(path, model=MODEL):
    """A file of random motion modules without position tables; returns {name in the model: array}."""
    names = files_of("denoising_unet", abstract_state("denoising_unet", model))["motion_module"]
    draw = np.random.default_rng(0)
    tensors = {key: draw.random(name.shape, np.float32) for key, name in names.items() if not key.endswith(".pe")}
    safetensors.numpy.save_file(tensors, path)
    return {dotted(("denoising_unet", *names[key].path)): names[key].to_flax(x) for key, x in tensors.items()}


def stage2(**fields):
    return tiny_config("nowhere", stage=2, trainable="stage2", **fields)


def test_motion_modules_come_from_a_file(tmp_path):
    expected = write_motion(tmp_path / "mm.safetensors")
    initial = load_initial(stage2(init_motion=str(tmp_path / "mm.safetensors")))
    motion = {name: array for name, array in initial.arrays.items() if MOTION in name and not name.endswith(".pe")}
    assert set(motion) == set(expected)
    assert all(np.array_equal(motion[name], array) for name, array in expected.items())
    tables = {array.shape[1] for name, array in initial.arrays.items() if name.endswith(".pe")}
    assert tables == {initial.model.motion.max_length} == {32}


def test_motion_modules_of_another_width_are_refused(tmp_path):
    wide = dataclasses.replace(MODEL.unet, block_out_channels=(32,))
    guidance = dataclasses.replace(MODEL.guidance, out_channels=32)
    write_motion(tmp_path / "mm.safetensors", dataclasses.replace(MODEL, unet=wide, guidance=guidance))
    with pytest.raises(
        InputError, match=r"init_motion=.*mm.safetensors: .*misshapen .*norm.weight is 32, the model has 16"
    ):
        load_initial(stage2(init_motion=str(tmp_path / "mm.safetensors")))
