"""Checkpoint directories: whole or not at all, damage noticed, another architecture named."""

import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from champ_jax.common.errors import InputError
from champ_jax.models.champ import COMPONENTS, ChampConfig, build_component
from champ_jax.models.functional import PureNetwork, fill
from champ_jax.weights.checkpoint import checkpoint_writer, load_checkpoint, read_config, save_checkpoint
from champ_jax.weights.conversion_plan import abstract_state
from champ_jax.weights.names import flatten

TREE = {
    "blocks": {i: {"kernel": np.full((3, 2), i, np.float32)} for i in range(11)},
    "ids": np.arange(4, dtype=np.int32),
    "half": np.ones(3, ml_dtypes.bfloat16),
    "scalar": np.float32(2.5),
}


@pytest.fixture
def saved(tmp_path):
    save_checkpoint(
        tmp_path / "c", {"vae": TREE, "guidance": {"x": jnp.ones(2)}}, {"a": 1}, {"vae": {"dtype": "float16"}}
    )
    return tmp_path / "c"


def test_round_trip(saved, capfd):
    config, trees = load_checkpoint(saved)
    assert config["model"] == {"a": 1}
    assert config["sources"] == {"vae": {"dtype": "float16"}}
    ours, theirs = dict(flatten(trees["vae"])), dict(flatten(TREE))
    assert set(ours) == set(theirs), "the numbers of list entries are numbers again"
    for path, array in theirs.items():
        assert isinstance(ours[path], np.ndarray)
        assert ours[path].dtype == array.dtype
        assert np.array_equal(ours[path], array)
    assert capfd.readouterr().err == ""


def test_components_and_dtype(saved):
    _, trees = load_checkpoint(saved, ["vae"], dtype=jnp.bfloat16)
    assert list(trees) == ["vae"]
    dtypes = {path[0]: leaf.dtype for path, leaf in flatten(trees["vae"])}
    assert dtypes == {"blocks": jnp.bfloat16, "ids": np.int32, "half": jnp.bfloat16, "scalar": jnp.bfloat16}
    with pytest.raises(InputError, match="has no component unet; it has vae, guidance"):
        load_checkpoint(saved, ["unet"])


def test_hash_identifies_the_weights(saved, tmp_path):
    same = {"guidance": {"x": np.ones(2, np.float32)}, "vae": dict(reversed(TREE.items()))}
    other = {"vae": {**TREE, "ids": TREE["ids"] + 1}, "guidance": {"x": np.ones(2, np.float64)}}
    save_checkpoint(tmp_path / "same", same, {})
    save_checkpoint(tmp_path / "other", other, {})
    first, second, third = (
        {name: entry["sha256"] for name, entry in read_config(path)["components"].items()}
        for path in (saved, tmp_path / "same", tmp_path / "other")
    )
    assert first == second
    assert first["vae"] != third["vae"]
    assert first["guidance"] != third["guidance"]


def loads(directory):
    """Whether the VAE loads; what it loads must be what was written."""
    try:
        tree = load_checkpoint(directory, ["vae"])[1]["vae"]
    except InputError as error:
        return f"{directory / 'vae'}: is damaged" not in str(error)
    arrays = dict(flatten(TREE))
    return all(np.array_equal(leaf, arrays[path]) for path, leaf in flatten(tree))


def test_damaged_bytes_are_noticed(saved):
    """Every file cut in half, and with one bit changed near its end: an error that says so, or the right arrays."""
    outcomes = []
    for file in sorted(path for path in (saved / "vae").rglob("*") if path.is_file() and path.stat().st_size > 9):
        whole = file.read_bytes()
        for content in (whole[: len(whole) // 2], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
            file.write_bytes(content)
            outcomes.append(loads(saved))
        file.write_bytes(whole)
    assert outcomes.count(False) >= 3
    assert loads(saved)


def test_every_bit_of_an_array_counts(tmp_path):
    """One bit flipped inside a stored array, which no reader of the disk format would notice."""
    save_checkpoint(tmp_path / "c", {"vae": {"x": np.arange(2**14, dtype=np.float32)}}, {})
    needle = np.arange(100, 200, dtype=np.float32).tobytes()
    file = next(path for path in (tmp_path / "c/vae").rglob("*") if path.is_file() and needle in path.read_bytes())
    flipped = needle[:50] + bytes([needle[50] ^ 1]) + needle[51:]
    file.write_bytes(file.read_bytes().replace(needle, flipped))
    with pytest.raises(InputError, match="vae: is damaged"):
        load_checkpoint(tmp_path / "c")


def test_an_array_that_was_replaced_is_noticed(saved, tmp_path):
    save_checkpoint(tmp_path / "d", {"vae": {**TREE, "ids": TREE["ids"] + 1}}, {})
    shutil.rmtree(saved / "vae")
    shutil.copytree(tmp_path / "d" / "vae", saved / "vae")
    with pytest.raises(InputError, match=r"vae: is damaged \(its arrays are not those written"):
        load_checkpoint(saved)


def test_a_missing_component_is_noticed(saved):
    shutil.rmtree(saved / "vae")
    with pytest.raises(InputError, match="vae: is missing"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda config: "{", "is not JSON"),
        (lambda config: "[]", "not the config"),
        (lambda config: json.dumps({"model_type": "clip"}), "not the config"),
        (lambda config: json.dumps({**config, "version": 99}), "version 99"),
        (lambda config: json.dumps({**config, "components": None}), "components is not an object"),
    ],
)
def test_configs_that_are_none(saved, change, word):
    path = saved / "config.json"
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(InputError, match=f"config.json: .*{word}"):
        load_checkpoint(saved)


def test_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint directory"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is not a checkpoint"):
        load_checkpoint(tmp_path)


def test_another_architecture_is_named_in_full(saved):
    shape = jax.ShapeDtypeStruct((3, 2), jnp.float32)
    expected = {"blocks": {i: {"kernel": shape} for i in range(1, 12)}, "ids": jax.ShapeDtypeStruct((5,), jnp.int32)}
    with pytest.raises(InputError) as error:
        load_checkpoint(saved, ["vae"], expected={"vae": expected})
    for word in (
        "another architecture",
        "blocks.11.kernel is missing",
        "blocks.0.kernel is unexpected",
        "half is unexpected",
    ):
        assert word in str(error.value)
    assert "ids is (4,), the model has (5,)" in str(error.value)


def test_a_failed_save_leaves_the_old_one(saved):
    def interrupted():
        with checkpoint_writer(saved) as writer:
            writer.add("vae", {"x": np.zeros(3)})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert set(load_checkpoint(saved)[1]) == {"vae", "guidance"}
    assert [path.name for path in saved.parent.iterdir()] == ["c"]


def test_a_folder_of_other_things_is_not_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="holds other things, not a converted checkpoint"):
        save_checkpoint(tmp_path / "photos", {"vae": TREE}, {})
    assert (tmp_path / "photos" / "me.jpg").exists()


def test_modules_take_the_trees(converted):
    """Every component's tree fits the module that config.json describes, and is put in by one call."""
    config, trees = load_checkpoint(converted)
    model = ChampConfig.from_json(config["model"])
    expected = {name: abstract_state(name, model) for name in COMPONENTS}
    load_checkpoint(converted, expected=expected)
    network, parameters = PureNetwork.split(build_component("vae", model))
    parameters = fill(parameters, trees["vae"])
    decoded = jax.eval_shape(lambda state, z: network.bind(state).decode(z), parameters, jnp.zeros((1, 8, 8, 4)))
    assert decoded.shape == (1, 64, 64, 3)
