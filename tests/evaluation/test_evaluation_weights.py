"""Published files of evaluation networks: recognized by content, converted, or refused with the reason."""

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_weights import GOLDEN, published

from champ_jax.common.errors import InputError
from champ_jax.evaluation import network_weights

KEYS = json.loads((GOLDEN / "key_shapes.json").read_text())


def save(path, tensors, **extra):
    torch.save({key: torch.from_numpy(value) for key, value in tensors.items()} | extra, path)


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    """The two files of LPIPS with AlexNet, as people download them; the backbone with its classifier."""
    folder = tmp_path_factory.mktemp("published")
    tensors = published("lpips_alex")
    backbone = {key: value for key, value in tensors.items() if key.startswith("features")}
    save(folder / "alexnet-owt.pth", backbone | {"classifier.6.bias": np.zeros(3, np.float32)})
    save(folder / "alex.pth", {key: value for key, value in tensors.items() if key.startswith("lin")})
    (folder / "readme.txt").write_text("beside them")
    return folder


def test_rule_of_the_tests_weights():
    """The first values that the makers of the goldens recorded."""
    for name in ("lpips_vgg", "i3d"):
        tensors = published(name)
        for key, values in json.loads((GOLDEN / "weight_checks.json").read_text())[name].items():
            np.testing.assert_allclose(tensors[key].ravel()[:3], values, rtol=1e-6, err_msg=key)


def test_files_are_known_by_their_tensors():
    shapes = {name: {key: tuple(shape) for key, shape in keys.items()} for name, keys in KEYS.items()}
    for name in ("i3d", "resnet3d", "fid_inception"):
        assert network_weights.recognize(shapes[name]) == (name, "all")
    for name in ("lpips_vgg", "lpips_alex"):
        linear = {key: shape for key, shape in shapes[name].items() if key.startswith("lin")}
        backbone = {key: shape for key, shape in shapes[name].items() if key.startswith("features")}
        assert network_weights.recognize(linear) == (name, "linear")
        assert network_weights.recognize(backbone) == (name, "backbone")
    assert network_weights.recognize({"conv_in.weight": (320, 4, 3, 3)}) is None
    # LPIPS 0.1 also comes with SqueezeNet, whose first layers are as wide as VGG16's.
    squeeze = {f"lin{k}.model.1.weight": (1, c, 1, 1) for k, c in enumerate((64, 128, 256, 384, 384, 512, 512))}
    assert network_weights.recognize(squeeze) is None
    # A two-dimensional ResNet has the three-dimensional one's names.
    assert network_weights.recognize({"layer1.0.conv1.weight": (64, 64, 1, 1)}) is None


def test_convert_and_load(alexnet, tmp_path):
    converted, lacking = network_weights.convert(alexnet, tmp_path / "weights")
    assert lacking == {}
    assert converted == {"lpips_alex": ["alexnet-owt.pth", "alex.pth"]}
    assert json.loads((tmp_path / "weights" / "config.json").read_text())["sources"] == converted
    model = network_weights.load(tmp_path / "weights", "lpips_alex")
    kernel = published("lpips_alex")["features.3.weight"]
    np.testing.assert_array_equal(model.features["3"].kernel[...], kernel.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(model.lin[4][...], published("lpips_alex")["lin4.model.1.weight"].ravel())
    assert network_weights.load(tmp_path / "weights", "i3d") is None


def test_a_complete_network_is_converted_beside_half_of_another(alexnet, tmp_path):
    source = tmp_path / "both"
    shutil.copytree(alexnet, source)
    linear = {key: value for key, value in published("lpips_vgg").items() if key.startswith("lin")}
    save(source / "vgg.pth", linear)
    converted, lacking = network_weights.convert(source, tmp_path / "weights")
    assert list(converted) == ["lpips_alex"]
    assert lacking == {"lpips_vgg": "vgg.pth needs the file of the backbone weights beside it"}


def test_half_a_network_is_refused_and_nothing_is_written(alexnet, tmp_path):
    source = tmp_path / "half"
    source.mkdir()
    (source / "alex.pth").write_bytes((alexnet / "alex.pth").read_bytes())
    with pytest.raises(InputError, match=r"half: lpips_alex: alex.pth needs the file of the backbone"):
        network_weights.convert(source, tmp_path / "weights")
    (source / "again.pth").write_bytes((alexnet / "alex.pth").read_bytes())
    with pytest.raises(InputError, match=r"alex.pth: again.pth is lpips_alex \(linear\) too"):
        network_weights.convert(source, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()
    with pytest.raises(InputError, match="holds no file of an evaluation network"):
        network_weights.convert(tmp_path, tmp_path / "weights")


def test_tensors_that_do_not_fit_are_named():
    tensors = dict(published("lpips_alex"))
    wrong = tensors | {"features.8.bias": np.zeros(7, np.float32)}
    with pytest.raises(InputError, match=r"x.pth: features.8.bias has shape \(7,\)"):
        network_weights.from_published("lpips_alex", wrong, "x.pth")
    del tensors["features.8.bias"]
    with pytest.raises(InputError, match=r"x.pth: lacks the tensor features.8.bias of lpips_alex"):
        network_weights.from_published("lpips_alex", tensors, "x.pth")


def test_broken_converted_files(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        network_weights.load(tmp_path / "nowhere", "i3d")
    (tmp_path / "i3d.safetensors").write_bytes(b"rubbish")
    with pytest.raises(InputError, match=r"i3d.safetensors: is text"):
        network_weights.load(tmp_path, "i3d")
    converted = network_weights.from_published("lpips_alex", published("lpips_alex"))
    del converted["lin/2"]
    with pytest.raises(InputError, match=r"no array lin/2"):
        network_weights.build("lpips_alex", converted, "x")


@pytest.mark.parametrize("name", list(KEYS))
def test_every_published_tensor_has_its_place(name):
    """The names alone, without values: nothing but classifiers and batch counters is left over."""
    unused = {key for key in KEYS[name] if "num_batches_tracked" not in key}
    shapes = {key: np.broadcast_to(np.float32(0), shape) for key, shape in KEYS[name].items()}
    used = network_weights.from_published(name, shapes)
    assert len(unused) - len(used) == (2 if name in ("resnet3d", "fid_inception") else 0)


def test_the_conversion_tool_knows_these_files(alexnet, tmp_path, capsys):
    tool = runpy.run_path(str(Path(__file__).parent.parent.parent / "tools" / "convert_weights.py"))
    tool["main"]([f"--source={alexnet}", f"--output={tmp_path / 'weights'}"])
    assert "lpips_alex  from alexnet-owt.pth, alex.pth" in capsys.readouterr().out
    assert network_weights.load(tmp_path / "weights", "lpips_alex") is not None
