"""Initial values: a rule for every variable, the distributions that flax's layers have, zeros where branches begin."""

import golden_models
import jax
import numpy as np
import pytest
from flax import nnx

from champ_jax.models.champ import Champ, ChampConfig
from champ_jax.models.initial_values import initial_value


@pytest.fixture(scope="module")
def full_size():
    """{dotted name: shape and dtype} of every variable at the published sizes."""
    state = nnx.state(Champ(ChampConfig()))
    return {".".join(map(str, path)): variable.get_value() for path, variable in nnx.to_flat_state(state)}


def test_every_variable_has_a_rule(full_size):
    """Checked on one variable of each kind, shrunk so that nothing large is drawn."""
    kinds = {}
    for name, variable in full_size.items():
        kinds.setdefault((name.rsplit(".", 1)[-1], len(variable.shape)), name)
    assert len(kinds) > 6
    for name in kinds.values():
        shape = tuple(min(size, 8) for size in full_size[name].shape)
        value = initial_value(name, shape, 0)
        assert value.shape == shape
        assert np.isfinite(value).all()
    with pytest.raises(ValueError, match=r"a\.unknown: no rule"):
        initial_value("a.unknown", (8,), 0)


@pytest.mark.parametrize(
    ("name", "shape", "initializer"),
    [
        ("denoising_unet.conv_in.kernel", (3, 3, 64, 32), nnx.initializers.lecun_normal()),
        ("denoising_unet.time_embedding.linear_1.kernel", (128, 96), nnx.initializers.lecun_normal()),
        (
            "image_encoder.vision_model.embeddings.position_embedding.embedding",
            (257, 64),
            nnx.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0),
        ),
        ("image_encoder.vision_model.embeddings.class_embedding", (20000,), nnx.initializers.normal(1.0)),
    ],
)
def test_values_are_distributed_as_those_of_flax_layers(name, shape, initializer):
    ours, theirs = initial_value(name, shape, 0), np.asarray(initializer(jax.random.key(0), shape))
    assert ours.dtype == theirs.dtype
    assert abs(ours.mean()) < 6 * theirs.std() / np.sqrt(theirs.size)
    assert abs(ours.std() / theirs.std() - 1) < 6 / np.sqrt(theirs.size)
    for quantile in (0.05, 0.25, 0.75, 0.95):
        assert abs(np.quantile(ours, quantile) - np.quantile(theirs, quantile)) < 0.05 * theirs.std()
    assert abs(np.abs(ours).max() / np.abs(theirs).max() - 1) < 0.3  # kernels are cut off at two deviations


def test_values_depend_on_name_and_seed_alone():
    value = initial_value("a.kernel", (8, 8), 0)
    np.testing.assert_array_equal(value, initial_value("a.kernel", (8, 8), 0))
    assert not np.array_equal(value, initial_value("b.kernel", (8, 8), 0))
    assert not np.array_equal(value, initial_value("a.kernel", (8, 8), 1))


def test_branches_that_begin_as_the_identity_end_in_zeros(full_size):
    zeros = {name for name in full_size if name.endswith("kernel") and not initial_value(name, (2, 2), 0).any()}
    guidance = {name for name in zeros if name.startswith("guidance.")}
    ends = {f"guidance.encoders.{name}.conv_out.kernel" for name in ChampConfig().conditions}
    attention = {name for name in full_size if name.startswith("guidance.") and name.endswith("proj_out.kernel")}
    assert attention
    assert guidance == ends | attention
    motion = {name for name in zeros if ".motion_modules." in name}
    assert motion == {name for name in full_size if name.endswith("temporal_transformer.proj_out.kernel")}
    assert len(motion) == 21
    assert {name.split(".")[0] for name in zeros - guidance - motion} == {"vae"}


def test_tables_are_those_of_the_files(full_size):
    pe = next(name for name in full_size if name.endswith(".pe"))
    table = golden_models.tensors("denoising_unet")
    key = next(key for key in table if key.endswith("pos_encoder.pe"))
    np.testing.assert_allclose(initial_value(pe, table[key].shape, 0), table[key], atol=1e-6)
    ids = initial_value("image_encoder.vision_model.embeddings.position_ids", (1, 257), 0)
    np.testing.assert_array_equal(ids, np.arange(257)[None])
