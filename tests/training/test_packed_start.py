"""A run starts from a packed model as from any other weights, so that what ships can be trained on."""

import ml_dtypes
import numpy as np
import pytest
from training_data import smoke_config, tiny_model

from champ_jax.common.errors import InputError
from champ_jax.models.champ import ChampConfig
from champ_jax.models.initial_values import initial_value
from champ_jax.training.initial_weights import load_initial
from champ_jax.training.parameters import Network
from champ_jax.weights.packed import pack


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    model = ChampConfig.from_json(tiny_model().to_dict())
    shapes = Network.build(model, "stage2").shapes
    arrays = {name: np.asarray(initial_value(name, shape.shape, 7), shape.dtype) for name, shape in shapes.items()}
    path = tmp_path_factory.mktemp("packed") / "model.safetensors"
    pack(path, model, arrays)
    return path, arrays


def test_a_packed_model_is_trained_on(packed):
    """Stage 1 has its networks and carries its motion modules along."""
    path, arrays = packed
    conditions = tuple(tiny_model().conditions)
    initial = load_initial(smoke_config("", init=str(path), model=tiny_model(), conditions=conditions))
    assert initial.notes == ()
    assert set(initial.arrays) == set(initial.network.shapes)
    assert initial.carried
    assert all(".motion_modules." in name for name in initial.carried)
    name = next(name for name in initial.arrays if name.endswith("conv_in.kernel"))
    rounded = arrays[name].astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(initial.arrays[name], np.float32), rounded)


def test_a_file_that_holds_no_weights_is_named(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("weights")
    with pytest.raises(InputError, match=r"init=.*notes\.txt: holds no weights to open"):
        load_initial(smoke_config("", init=str(path)))
