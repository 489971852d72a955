"""Checkpoints with flipped bits: what is loaded is what was saved, or the checkpoint before; never other numbers."""

import gc
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from training_data import tiny_model

from champ_jax.common.errors import InputError
from champ_jax.common.files import write_json
from champ_jax.models.champ import ChampConfig
from champ_jax.training.checkpoints import Checkpoints, array_digests, load_frozen, save_initial
from champ_jax.training.sharding import make_mesh
from champ_jax.training.state import initial_state
from champ_jax.weights import work_folder
from champ_jax.weights.digests import digest
from champ_jax.weights.work_folder import RunCheckpoint

FLIPS = 30

# Orbax leaves futures behind when an array cannot be read; Python warns of them when it collects them.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module", autouse=True)
def collected():
    yield
    gc.collect()


def state_of(step):
    rng = np.random.default_rng(step)
    params = {
        f"vae.{name}": jnp.asarray(rng.standard_normal(shape), jnp.float32)
        for name, shape in (("conv.kernel", (3, 3, 2, 8)), ("conv.bias", (8,)), ("out.kernel", (8, 5)))
    }
    state = initial_state(params, optax.adam(0.1), averaged=True)
    return jax.tree.map(lambda leaf: leaf + step if leaf.dtype == jnp.int32 else leaf * step, state)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A work folder with the checkpoints of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("run") / "run"
    frozen = {"guidance.conv.kernel": jnp.arange(60.0).reshape(3, 4, 5)}
    save_initial(folder, ChampConfig.from_json(tiny_model().to_dict()), frozen, {"unet.table": jnp.ones(7)})
    store = Checkpoints(folder, keep=3, keep_every=0)
    for step in (1, 2):
        store.save(state_of(step), seed=0, data={"next": step})
    store.wait()
    store.close()
    return folder


def flips(folder, count, seed=0):
    """(file, byte, bit) all over the files of a folder, no file left out."""
    rng = np.random.default_rng(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    for number in range(max(count, len(files))):
        path = files[number % len(files)]
        yield path.relative_to(folder), int(rng.integers(path.stat().st_size)), int(rng.integers(8))


def flip(path, place, bit):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def same(a, b):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


def test_a_run_resumes_from_what_was_saved_whatever_bit_flips(run, tmp_path, capsys):
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state_of(1))
    steps = []
    for number, (file, place, bit) in enumerate(flips(run / "checkpoints" / "2", FLIPS)):
        copy = tmp_path / str(number)
        shutil.copytree(run, copy)
        flip(copy / "checkpoints" / "2" / file, place, bit)
        store = Checkpoints(copy, keep=3, keep_every=0)
        state, progress = store.restore(like)
        store.close()
        steps.append(progress["step"])
        assert same(state, state_of(progress["step"])), (file, place, bit)
        assert progress["data"] == {"next": progress["step"]}
        assert store.steps() == list(range(1, progress["step"] + 1))
    assert 0 < steps.count(1) < len(steps)  # some bits matter, some do not
    assert capsys.readouterr().out.count("trying the checkpoint before it") == steps.count(1)


@pytest.mark.parametrize("place", ["checkpoints/2", "initial"])
def test_inference_loads_what_was_saved_or_says_what_is_damaged(run, tmp_path, place):
    whole, errors = RunCheckpoint.find(run).load(), []
    for number, (file, byte, bit) in enumerate(flips(run / place, FLIPS, seed=1)):
        copy = tmp_path / str(number)
        shutil.copytree(run, copy)
        flip(copy / place / file, byte, bit)
        try:
            loaded = RunCheckpoint.find(copy).load()
        except InputError as error:
            errors.append(str(error))
        else:
            assert same(loaded, whole), (file, byte, bit)
    assert errors
    assert all(error.startswith(str(tmp_path)) for error in errors)


def test_frozen_parameters_that_are_damaged_are_named(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    like = {"guidance.conv.kernel": jax.ShapeDtypeStruct((3, 4, 5), jnp.float32, sharding=jnp.ones(1).sharding)}
    assert same(load_frozen(copy, like), {"guidance.conv.kernel": np.arange(60.0, dtype=np.float32).reshape(3, 4, 5)})
    write_json(copy / "initial" / "digests.json", {"frozen": {"guidance.conv.kernel": "0" * 16}, "carried": {}})
    with pytest.raises(
        InputError, match=r"initial/frozen: is damaged \(guidance\.conv\.kernel is not what was saved\)"
    ):
        load_frozen(copy, like)
    shutil.rmtree(copy / "initial" / "frozen")
    with pytest.raises(InputError, match="initial/frozen: cannot be read"):
        load_frozen(copy, like)


def test_work_folders_without_digests_are_still_read(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    whole = RunCheckpoint.find(run).load()
    shutil.rmtree(copy / "checkpoints" / "2" / work_folder.DIGESTS)
    (copy / "initial" / "digests.json").unlink()
    assert same(RunCheckpoint.find(copy).load(), whole)


@pytest.mark.parametrize("item", ["params", "opt_state", "average"])
def test_a_state_that_is_not_finite_is_not_saved(run, tmp_path, item):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    state = state_of(3)
    leaves, tree = jax.tree.flatten(getattr(state, item))
    leaves[-1] = leaves[-1].at[0].set(np.inf)
    state = state.__class__(**{**vars(state), item: jax.tree.unflatten(tree, leaves)})
    store = Checkpoints(copy, keep=3, keep_every=0)
    with pytest.raises(InputError, match=r"step 3 is not saved, .* not finite; the last good checkpoint is of step 2"):
        store.save(state, seed=0, data={})
    store.close()
    assert store.steps() == [1, 2]


@pytest.mark.parametrize(("data", "fsdp"), [(1, 1), (8, 1), (2, 4), (1, 8)])
def test_digests_do_not_depend_on_the_mesh(data, fsdp):
    mesh = make_mesh(data, fsdp, jax.devices()[: data * fsdp])
    rng = np.random.default_rng(0)
    arrays = {
        "kernel": rng.standard_normal((3, 5, 16)).astype(np.float32),
        "half": rng.standard_normal((7, 8)).astype(jnp.bfloat16),
        "counter": np.int32(3),
        "bias": rng.standard_normal(8).astype(np.float32),
    }
    specs = {"kernel": (None, None, "fsdp"), "half": (None, "fsdp"), "counter": (), "bias": ()}
    placed = {
        name: jax.device_put(array, NamedSharding(mesh, PartitionSpec(*specs[name]))) for name, array in arrays.items()
    }
    expected = {name: digest(np.asarray(array)) for name, array in arrays.items()}
    assert array_digests({"params": placed})[0]["params"] == expected
    assert array_digests({"params": arrays})[0]["params"] == expected


def test_a_digest_is_the_sum_that_its_definition_says():
    array = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    total = sum(bits * (2 * place + 1) for place, bits in enumerate(array.view(np.uint32).ravel().tolist()))
    assert digest(array) == f"{total % 2**64:016x}"
    assert digest(np.zeros((0, 3), np.float32)) == "0" * 16
