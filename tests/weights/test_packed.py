"""A packed model comes back as bfloat16 rounds it."""

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from training_data import tiny_model

from champ_jax.common.errors import InputError
from champ_jax.models.champ import ChampConfig
from champ_jax.models.initial_values import initial_value
from champ_jax.training.parameters import Network
from champ_jax.weights.flat import from_components
from champ_jax.weights.packed import pack, read_model, size_of, unpack


@pytest.fixture(scope="module")
def model():
    return ChampConfig.from_json(tiny_model().to_dict())


def test_what_is_read_comes_back_rounded_and_nothing_is_missing(model, tmp_path):
    network = Network.build(model, "stage2")
    arrays = {
        name: np.asarray(initial_value(name, shape.shape, 0), shape.dtype) for name, shape in network.shapes.items()
    }
    pack(tmp_path / "model.safetensors", model, arrays)
    assert read_model(tmp_path / "model.safetensors") == model
    back = from_components(unpack(tmp_path / "model.safetensors"))
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        if name in network.unused:
            assert not back[name].any()
        elif name.endswith(".pe") or array.dtype.kind == "i":
            np.testing.assert_array_equal(back[name], array)
        else:
            np.testing.assert_array_equal(back[name], array.astype(ml_dtypes.bfloat16).astype(np.float32))
        assert back[name].shape == array.shape
    parameters, size = size_of(tmp_path / "model.safetensors")
    assert parameters < sum(array.size for array in arrays.values())
    assert 2 * parameters < size < 2 * parameters + 2**18


def test_other_files_are_named(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(3, np.float32)}, path)
    with pytest.raises(InputError, match="is not a packed model"):
        read_model(path)
