"""What `champ doctor --weights=PATH` says of files and folders, and that no file of a stranger ends it."""

import json
import shutil

import numpy as np
import pytest
from golden_weights import write_pretrained_models
from hostile import kinds
from hostile.harness import _without_root_permissions
from safetensors.numpy import save_file

from champ_jax.doctor.findings import OK, PROBLEM, WARNING, Finding
from champ_jax.doctor.probing import Attempt, attempts
from champ_jax.doctor.weights import look_at, try_builtin
from champ_jax.inference import builtin


def found(path):
    first = Attempt("Weights", str(path), "")
    return [item for item in attempts(look_at, first, str(path)) if isinstance(item, Finding)]


def said(path):
    return [(finding.level, finding.value) for finding in found(path)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_pretrained_models(tmp_path_factory.mktemp("doctor") / "pretrained_models")


def test_the_built_in_model_is_whole():
    results = [item for item in attempts(try_builtin, Attempt("", "", "")) if isinstance(item, Finding)]
    assert [finding.name for finding in results] == ["built-in model", "built-in inputs"]
    assert {finding.level for finding in results} == {OK}


@pytest.mark.parametrize(("name", "words"), [("MODEL", "built-in model"), ("REFERENCE", "built-in inputs")])
def test_a_package_without_its_assets(monkeypatch, tmp_path, name, words):
    monkeypatch.setattr(builtin, name, tmp_path / "gone.safetensors")
    results = [item for item in attempts(try_builtin, Attempt("", "", "")) if isinstance(item, Finding)]
    broken = [finding for finding in results if finding.level == PROBLEM]
    assert [finding.name for finding in broken] == [words]
    assert broken[0].needed
    assert "gone.safetensors" in broken[0].value
    assert "pip install" in broken[0].remedy


def test_a_checkpoint_and_what_it_has_lost(golden_checkpoint, tmp_path):
    (whole,) = found(golden_checkpoint)
    assert whole.level == OK
    assert whole.value.startswith("a checkpoint: vae, image_encoder, reference_unet, denoising_unet, guidance, ")
    folder = shutil.copytree(golden_checkpoint, tmp_path / "checkpoint")
    shutil.rmtree(folder / "guidance")
    assert (PROBLEM, "the folders guidance are gone") in said(folder)
    config = json.loads((folder / "config.json").read_text())
    del config["components"]["vae"]
    config["untrained"] = {"motion_module": "initialized"}
    (folder / "config.json").write_text(json.dumps(config))
    lines = said(folder)
    assert (PROBLEM, "lacks vae") in lines
    assert (WARNING, "never trained as a Champ: motion_module") in lines
    assert all(finding.remedy for finding in found(folder) if finding.level != OK)
    assert not any(finding.needed for finding in found(folder))


def test_a_packed_model():
    (finding,) = found(builtin.MODEL)
    assert finding.value.startswith("a packed model: vae, ")


def test_pretrained_models_and_what_they_lack(tree, tmp_path):
    kind, ready = found(tree)
    assert kind.value.startswith(
        "a pretrained_models tree, not converted: reference_unet, denoising_unet, motion_module"
    )
    assert ready.level == WARNING
    assert f"champ convert --source={tree} " in ready.remedy
    folder = shutil.copytree(tree, tmp_path / "tree")
    (folder / "champ" / "motion_module.pth").unlink()
    shutil.rmtree(folder / "image_encoder")
    assert (PROBLEM, "lacks motion_module, image encoder") in said(folder)
    shutil.rmtree(folder / "champ")
    assert said(folder)[0][1].startswith("holds the weights in a folder further in; name that one, /")
    damaged = shutil.copytree(tree, tmp_path / "damaged")
    (damaged / "champ" / "reference_unet.pth").write_bytes(kinds.HTML)
    assert any(level == PROBLEM and "reference_unet.pth" in value for level, value in said(damaged))


def test_single_files(tmp_path):
    save_file({"model.diffusion_model.x": np.zeros(3, np.float32)}, tmp_path / "sd.safetensors")
    assert said(tmp_path / "sd.safetensors")[0] == (OK, "Stable Diffusion in one file: 1 tensors, 3 numbers")
    save_file({"features.0.weight": np.zeros((64, 3, 11, 11), np.float32)}, tmp_path / "alex.safetensors")
    assert "lpips_alex" in said(tmp_path / "alex.safetensors")[0][1]
    assert said(tmp_path)[0] == (OK, "published networks of champ evaluate: lpips_alex")
    (tmp_path / "body.npz").write_bytes(kinds.npz())
    assert said(tmp_path / "body.npz")[0][0] == PROBLEM


def test_folders_of_other_networks(tmp_path):
    dwpose = tmp_path / "dwpose"
    dwpose.mkdir()
    (dwpose / "yolox_l.onnx").touch()
    assert (PROBLEM, "lacks dw-ll_ucoco_384.onnx") in said(dwpose)
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    (evaluation / "config.json").write_text('{"kind": "evaluation networks"}')
    (evaluation / "i3d.safetensors").touch()
    assert said(evaluation) == [
        (OK, "networks of champ evaluate: i3d"),
        (WARNING, "lacks lpips_vgg, lpips_alex, fid_inception, resnet3d"),
    ]


HOSTILE = {
    **{f"file-{name}": (name, "w.safetensors", maker) for name, maker in kinds.SAFETENSORS.items()},
    **{f"pth-{name}": (name, "w.pth", maker) for name, maker in kinds.FOREIGN.items()},
    "pth-executing-pickle": ("pickle", "w.pth", kinds.content(kinds.executing_pickle())),
    **{f"npz-{name}": (name, "w.npz", maker) for name, maker in kinds.ARRAYS.items()},
    **{f"config-{name}": (name, "config.json", maker) for name, maker in kinds.JSON.items()},
    **{f"model-{name}": (name, "model.json", maker) for name, maker in kinds.JSON.items()},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_no_file_of_a_stranger_is_taken_for_weights(case, tmp_path, monkeypatch):
    name, place, maker = HOSTILE[case]
    monkeypatch.chdir(tmp_path)
    if place.endswith(".json"):  # in a folder of a checkpoint or of a training
        (tmp_path / "folder" / "checkpoints").mkdir(parents=True)
        maker(tmp_path / "folder" / place)
        path = tmp_path / "folder"
    else:
        path = maker(tmp_path / place)
    with _without_root_permissions():
        results = found(path)
    assert results
    assert not any(finding.needed for finding in results)
    assert results[-1].level != OK or name == "other-tensors"
    assert all(finding.remedy for finding in results if finding.level != OK)
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "folder" / "executed").exists()
