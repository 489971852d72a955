"""HMR 2.0's network against a twin in PyTorch with random weights, and its weights: there, and back."""

import gzip
import json
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from hmr2_twin import SMALL, checkpoint, twin
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from champ_jax.common.errors import InputError
from champ_jax.fitting.hmr2.network import HMR2Config, to_rotations
from champ_jax.fitting.hmr2.predict import Network
from champ_jax.fitting.hmr2.weights import convert, is_published, load, names_of
from champ_jax.weights.flat import dotted

LAYOUT = json.loads(gzip.decompress((Path(__file__).parents[1] / "golden/hmr2/layout.json.gz").read_bytes()))
"""Keys and shapes of the published checkpoint's network."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(twin, its checkpoint, the converted file)."""
    folder = tmp_path_factory.mktemp("hmr2")
    model = twin()
    torch.save(checkpoint(model), folder / "hmr2.ckpt")
    lines = convert(folder / "hmr2.ckpt", folder / "hmr2.safetensors", config=SMALL)
    assert any("initialized" in line for line in lines)
    assert any("smpl.v_template" in line for line in lines)
    return model, folder / "hmr2.ckpt", folder / "hmr2.safetensors"


def test_full_size_is_the_published_file():
    names = names_of(HMR2Config())
    assert {key: list(name.shape) for key, name in names.items()} == LAYOUT
    assert HMR2Config().tokens == 192


def test_equals_the_twin(files):
    model, _, converted = files
    crops = np.random.default_rng(0).uniform(0, 255, (3, 256, 256, 3)).astype(np.float32)
    with torch.no_grad():
        pose, betas, camera = (array.numpy() for array in model(torch.from_numpy(crops)))
    body = Network.load(converted)(crops)
    np.testing.assert_allclose(body.betas, betas, atol=1e-4)
    np.testing.assert_allclose(body.camera, camera, atol=1e-4)
    np.testing.assert_allclose(body.rotations, gram_schmidt(pose), atol=1e-4)
    assert np.ptp(body.betas, axis=0).min() > 1e-3  # the pictures count


def gram_schmidt(numbers: np.ndarray) -> np.ndarray:
    """Columns by QR, whose signs are made those of the numbers."""
    columns = np.swapaxes(numbers.reshape(*numbers.shape[:-1], 2, 3), -1, -2).astype(np.float64)
    q, r = np.linalg.qr(columns)
    q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    return np.concatenate([q, np.cross(q[..., 0], q[..., 1])[..., None]], axis=-1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_six_numbers_are_two_columns(seed, scale):
    """Of a rotation, its first two columns give it back whatever their lengths; others give the nearest by columns."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(2, 6)).astype(np.float32)
    matrices = np.asarray(to_rotations(numbers))
    np.testing.assert_allclose(matrices, gram_schmidt(numbers), atol=2e-4)
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-4)
    again = np.concatenate([matrices[..., 0] * scale, matrices[..., 1]], axis=-1)
    np.testing.assert_allclose(to_rotations(again.astype(np.float32)), matrices, atol=1e-4)


def test_six_zeros_are_finite():
    assert np.isfinite(np.asarray(to_rotations(np.zeros(6, np.float32)))).all()


def test_there_and_back(files):
    """What was converted is, by the name map, the checkpoint's tensors bit by bit."""
    model, published, converted = files
    assert is_published(published)
    assert not is_published(converted)
    arrays = load_file(converted)
    for key, name in names_of(SMALL).items():
        theirs = model.state_dict()[key].numpy()
        np.testing.assert_array_equal(name.to_torch(arrays.pop(dotted(name.path))), theirs, err_msg=key)
    assert not arrays
    _, parameters = load(converted)
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.to_pure_dict(parameters))) == sum(
        tensor.numel() for tensor in model.state_dict().values()
    )


def test_bfloat16_halves_the_file(files, tmp_path):
    _, published, converted = files
    convert(published, tmp_path / "half.safetensors", dtype="bfloat16", config=SMALL)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.7 * converted.stat().st_size
    leaves = jax.tree.leaves(nnx.to_pure_dict(load(tmp_path / "half.safetensors")[1]))
    assert {leaf.dtype.name for leaf in leaves} == {"float32"}


@pytest.mark.parametrize("name", ["yacs.config.CfgNode", "omegaconf.dictconfig.DictConfig"])
def test_settings_of_the_training_are_not_run(files, tmp_path, monkeypatch, name):
    """Lightning keeps them beside the tensors as objects of other libraries, which are not imported."""
    module, _, kind = name.rpartition(".")
    parents = [module[:end] for end in range(1, len(module) + 1) if module[end : end + 1] in ("", ".")]
    made = type(kind, (dict,), {"__module__": module})
    with monkeypatch.context() as patch:
        for parent in parents:
            patch.setitem(sys.modules, parent, types.ModuleType(parent))
        setattr(sys.modules[module], kind, made)
        settings_ = made(lr=1e-5)
        settings_["inner"], settings_.frozen = made(layers=2), True
        torch.save({**checkpoint(files[0]), "hyper_parameters": {"cfg": settings_}}, tmp_path / "hmr2.ckpt")
    convert(tmp_path / "hmr2.ckpt", tmp_path / "out.safetensors", config=SMALL)
    assert load_file(tmp_path / "out.safetensors").keys() == load_file(files[2]).keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("smpl_head.init_cam"), "1 missing .smpl_head.init_cam"),
        (lambda state: state.update({"backbone.cls_token": torch.ones(1)}), "1 unexpected .backbone.cls_token"),
        (lambda state: state.update({"smpl_head.deccam.bias": torch.ones(4)}), "1 misshapen .smpl_head.deccam.bias"),
        (lambda state: state.update({"smpl_head.deccam.bias": torch.full((3,), torch.nan)}), "NaN"),
    ],
)
def test_other_checkpoints_are_refused(files, tmp_path, change, message):
    content = checkpoint(files[0])
    change(content["state_dict"])
    torch.save(content, tmp_path / "hmr2.ckpt")
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "hmr2.ckpt", tmp_path / "out.safetensors", config=SMALL)
    assert not (tmp_path / "out.safetensors").exists()


def test_files_that_are_not_converted_name_where_to_get_it(files, tmp_path):
    save_file({"a": np.ones(3, np.float32)}, tmp_path / "other.safetensors")
    metadata = {"hmr2": json.dumps(SMALL.to_json())}
    arrays = load_file(files[2])
    save_file({**arrays, "more": np.ones(1, np.float32)}, tmp_path / "more.safetensors", metadata)
    arrays["smpl_head.deccam.bias"][0] = np.inf
    save_file(arrays, tmp_path / "infinite.safetensors", metadata)
    save_file(arrays, tmp_path / "sizes.safetensors", {"hmr2": '{"layers": -1}'})
    for path, what in (
        (tmp_path / "missing.safetensors", "no such file"),
        (tmp_path / "other.safetensors", "is not HMR2's weights"),
        (tmp_path / "more.safetensors", "too many"),
        (tmp_path / "infinite.safetensors", "smpl_head.deccam.bias holds NaN"),
        (tmp_path / "sizes.safetensors", "hmr2.layers"),
        (files[1], "is not converted yet"),
    ):
        with pytest.raises(InputError, match=r"github\.com/shubham-goel") as caught:
            load(path)
        assert what in str(caught.value)
        assert str(path) in str(caught.value)
