"""Meshes, rules, and the shardings that states are created with."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from training_data import smoke

from champ_jax.common.errors import InputError
from champ_jax.models.champ import ChampConfig
from champ_jax.training.batches import check_batch, own_rows, shard_batch
from champ_jax.training.config import default_config
from champ_jax.training.optimizer import make_optimizer
from champ_jax.training.parameters import Network, SplitParam
from champ_jax.training.sharding import AXES, MAX_WHOLE, make_mesh, parameter_shardings, spec_of
from champ_jax.training.state import abstract_state

MODEL = dataclasses.replace(ChampConfig.from_json(smoke().model.to_dict()), motion=None)


@pytest.fixture(scope="module")
def network():
    return Network.build(MODEL, "stage1")


@pytest.mark.parametrize(
    ("data", "fsdp", "numbers"),
    [(3, 4, "needs 12 devices, there are 8"), (0, 3, "3 does not divide the 8"), (4, 0, "fsdp=0"), (-1, 1, "data=-1")],
)
def test_meshes_that_do_not_fit_are_refused_with_the_numbers(data, fsdp, numbers):
    with pytest.raises(InputError, match=numbers):
        make_mesh(data, fsdp)


def test_mesh_takes_what_there_is():
    assert dict(make_mesh(0, 2).shape) == {"data": 4, "fsdp": 2}
    assert dict(make_mesh(0, 1, jax.devices()[:1]).shape) == {"data": 1, "fsdp": 1}


def test_batches_that_do_not_spread_are_refused_with_the_numbers():
    mesh = make_mesh(4, 2)
    check_batch(mesh, 16, 2)
    with pytest.raises(InputError, match=r"batch_size=12 is not a multiple of 8 devices.*take 16"):
        check_batch(mesh, 12, 1)
    with pytest.raises(InputError, match=r"2 accumulated pieces.*take 16"):
        check_batch(mesh, 8, 2)


def test_every_kernel_is_split_and_nothing_large_is_whole(network):
    mesh = make_mesh(2, 4)
    for name, sharding in parameter_shardings(network.shapes, mesh).items():
        shape = network.shapes[name].shape
        if name.endswith((".kernel", ".embedding")) and shape[-1] % 4 == 0:
            assert sharding.spec == PartitionSpec(*[None] * (len(shape) - 1), "fsdp"), name
        else:
            assert sharding.spec == PartitionSpec(), name
            assert math.prod(shape) <= MAX_WHOLE


def test_large_tensors_that_do_not_divide_and_unknown_ones_are_named():
    mesh = make_mesh(1, 8)
    assert spec_of("denoising_unet.conv_out.kernel", (3, 3, 320, 4), mesh) == PartitionSpec()
    with pytest.raises(InputError, match=r"a\.b\.kernel .*mesh\.fsdp=8 does not divide 1025"):
        spec_of("a.b.kernel", (2048, 1025), mesh)
    with pytest.raises(InputError, match=r"a\.mystery: no sharding rule"):
        spec_of("a.mystery", (4,), mesh)


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_optimizer_state_lives_where_its_parameters_do(network, name):
    mesh = make_mesh(4, 2)
    settings = default_config().optimizer
    settings.name = name
    state = abstract_state(network, make_optimizer(settings, 10), mesh, averaged=True)
    specs = {n: spec_of(n, leaf.shape, mesh) for n, leaf in state.params.items()}
    assert {n: leaf.sharding.spec for n, leaf in state.average.items()} == specs
    seen = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state):
        parameter = getattr(path[-1], "key", None)
        if parameter in specs and leaf.shape == state.params[parameter].shape:
            assert leaf.sharding.spec == specs[parameter]
            seen += specs[parameter] != PartitionSpec()
        else:
            assert leaf.sharding.spec == PartitionSpec()
    assert seen > 100


def test_batches_are_split_over_both_axes():
    mesh = make_mesh(4, 2)
    placed = shard_batch({"pixels": np.arange(16 * 3, dtype=np.uint8).reshape(16, 3)}, mesh)["pixels"]
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 3)}
    np.testing.assert_array_equal(placed, np.arange(48).reshape(16, 3))


def test_batches_lie_right_on_a_mesh_that_follows_the_wires():
    devices = np.array(jax.devices())[[0, 3, 1, 2, 7, 5, 6, 4]].reshape(2, 4)
    mesh = Mesh(devices, AXES)
    rows = own_rows(mesh, 16)
    np.testing.assert_array_equal(rows, np.arange(16))  # this process has all devices
    placed = shard_batch(np.arange(16.0)[rows], mesh)
    np.testing.assert_array_equal(placed, np.arange(16.0))
    for shard in placed.addressable_shards:
        place = list(devices.flat).index(shard.device)
        np.testing.assert_array_equal(shard.data, [2 * place, 2 * place + 1])


def test_split_parameters_are_gathered_where_they_are_read_and_their_gradients_come_back_split():
    mesh = make_mesh(2, 4)
    split = NamedSharding(mesh, PartitionSpec(None, "fsdp"))
    kernel = jax.random.normal(jax.random.key(0), (8, 16))
    rows = jax.random.normal(jax.random.key(1), (16, 8))

    def loss(kernel, rows):
        layer = SplitParam(kernel, pieces=split, whole_dtype=jnp.bfloat16)
        assert layer.get_value().dtype == jnp.bfloat16
        return jnp.sum((rows @ layer[...].astype(jnp.float32)) ** 2)

    value, gradient = jax.jit(jax.value_and_grad(loss))(jax.device_put(kernel, split), shard_batch(rows, mesh))
    assert gradient.sharding.is_equivalent_to(split, 2)
    assert gradient.dtype == jnp.float32
    rounded = kernel.astype(jnp.bfloat16).astype(jnp.float32)
    expected, exact = jax.value_and_grad(lambda w: jnp.sum((rows @ w) ** 2))(rounded)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, exact, rtol=1e-2, atol=0.05 * float(jnp.abs(exact).max()))


def test_a_network_on_a_mesh_splits_what_the_rules_split(network):
    assert not network.on(make_mesh(8, 1)).split
    split = network.on(make_mesh(2, 4)).split
    assert all(name.endswith((".kernel", ".embedding")) for name in split)
    model = network.on(make_mesh(2, 4)).merge(dict(network.shapes))
    assert isinstance(model.denoising_unet.conv_in.kernel, SplitParam)
    assert not isinstance(model.denoising_unet.conv_in.bias, SplitParam)
