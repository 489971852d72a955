"""The way back: bit for bit what came in, and what PyTorch's own libraries load."""

import shutil

import diffusers
import golden_weights
import ml_dtypes
import numpy as np
import pytest
import torch
import transformers
from weights_trees import read_file, same_tensors

from champ_jax.common.errors import InputError
from champ_jax.models.champ import ChampConfig
from champ_jax.weights.checkpoint import load_checkpoint, read_config, save_checkpoint
from champ_jax.weights.convert import convert
from champ_jax.weights.export import export
from champ_jax.weights.names import flatten


def files(tree):
    return {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}


def hashes(directory):
    return {name: entry["sha256"] for name, entry in read_config(directory)["components"].items()}


@pytest.fixture(scope="module")
def exported(converted, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "pretrained_models"
    export(converted, out, progress=False)
    return out


def test_the_same_files_and_bits(tree, exported):
    """Every file, key, dtype and bit: tensors without a use included."""
    assert files(exported) == files(tree)
    for name in files(tree):
        if not name.endswith(".json"):
            assert same_tensors(read_file(exported / name), read_file(tree / name)), name


def test_import_export_import(exported, converted, tmp_path):
    convert(exported, tmp_path / "again", progress=False)
    again, first = read_config(tmp_path / "again"), read_config(converted)
    assert hashes(tmp_path / "again") == hashes(converted)
    assert (again["model"], again["sources"]) == (first["model"], first["sources"])


def test_every_dtype_goes_out_as_it_came(tree, tmp_path):
    """Files in float32, in bfloat16, mixed; an image encoder without position_ids."""
    source = shutil.copytree(tree, tmp_path / "source")
    dtypes = {"denoising_unet": torch.float32, "motion_module": torch.bfloat16, "pytorch_model": torch.bfloat16}
    for path in source.rglob("*.*"):
        state = read_file(path) if path.stem in dtypes else {}
        for index, key in enumerate(state):
            if state[key].is_floating_point() and index % 7:
                state[key] = state[key].to(dtypes[path.stem])
        state.pop("vision_model.embeddings.position_ids", None)
        if state:
            torch.save(state, path)
    convert(source, tmp_path / "checkpoint", progress=False)
    export(tmp_path / "checkpoint", tmp_path / "out", progress=False)
    assert files(tmp_path / "out") == files(source)
    for name in files(source):
        if not name.endswith(".json"):
            assert same_tensors(read_file(tmp_path / "out" / name), read_file(source / name)), name


def test_trained_values_go_out_in_float32(converted, tmp_path):
    """float16 where nothing is lost, float32 where training moved a value in between."""
    config, trees = load_checkpoint(converted)
    kernel = trees["denoising_unet"]["conv_in"]["kernel"]
    kernel[0, 0, 0, 0] += 1e-7
    trees["denoising_unet"]["conv_in"]["bias"][0] = 1e6  # beyond float16
    save_checkpoint(tmp_path / "trained", trees, config["model"], config["sources"])
    export(tmp_path / "trained", tmp_path / "out", progress=False)
    state = read_file(tmp_path / "out/champ/denoising_unet.pth")
    assert state["conv_in.weight"].dtype == torch.float32
    assert np.array_equal(state["conv_in.weight"].numpy(), kernel.transpose(3, 2, 0, 1))
    assert state["conv_in.bias"].dtype == torch.float32
    assert state["conv_in.bias"][0] == 1e6
    assert state["conv_out.weight"].dtype == torch.float16


def test_diffusers_and_transformers_load_it(exported, tree):
    vae = diffusers.AutoencoderKL.from_pretrained(exported / "sd-vae-ft-mse", local_files_only=True)
    theirs = read_file(tree / "sd-vae-ft-mse/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(tensor, theirs[key].float()) for key, tensor in vae.state_dict().items())
    assert vae.config.scaling_factor == 0.18215

    tower, report = transformers.CLIPVisionModelWithProjection.from_pretrained(
        exported / "image_encoder", local_files_only=True, output_loading_info=True
    )
    assert not report["missing_keys"]
    theirs = read_file(tree / "image_encoder/pytorch_model.bin")
    assert all(torch.equal(tensor.float(), theirs[key].float()) for key, tensor in tower.state_dict().items())

    unet = diffusers.UNet2DConditionModel.from_config(
        diffusers.UNet2DConditionModel.load_config(exported / "stable-diffusion-v1-5/unet", local_files_only=True)
    )
    unet.load_state_dict(read_file(exported / "champ/denoising_unet.pth"), strict=True)
    loose = unet.load_state_dict(read_file(exported / "champ/reference_unet.pth"), strict=False)
    assert not loose.unexpected_keys
    assert all(key.startswith(("conv_norm_out.", "conv_out.")) for key in loose.missing_keys)


def test_output_is_not_overwritten(converted, exported):
    with pytest.raises(InputError, match="not an empty folder"):
        export(converted, exported, progress=False)


def test_bfloat16_without_motion_and_with_one_condition(tree, converted, tmp_path):
    """Rounded to bfloat16 on the way in, the values go out unchanged from there; what is not there has no file."""
    options = {"dtype": "bfloat16", "motion_module": "none", "conditions": ["normal"], "progress": False}
    plan = convert(tree, tmp_path / "checkpoint", **options)
    for word in ("guidance_encoder_depth.pth: passed over", "motion_module.pth: passed over"):
        assert word in plan.table()
    config, trees = load_checkpoint(tmp_path / "checkpoint")
    model = ChampConfig.from_json(config["model"])
    assert (model.conditions, model.motion) == (("normal",), None)
    assert list(trees["guidance"]["encoders"]) == ["normal"]
    exact = dict(flatten(load_checkpoint(converted, ["denoising_unet"])[1]["denoising_unet"]))
    rounded = dict(flatten(trees["denoising_unet"]))
    assert len(rounded) == len(golden_weights.key_shapes()["denoising_unet"])
    for path, array in rounded.items():
        assert array.dtype == ml_dtypes.bfloat16
        assert np.array_equal(array, exact[path].astype(ml_dtypes.bfloat16))

    written = export(tmp_path / "checkpoint", tmp_path / "out", progress=False)
    assert [name for name in written if name.startswith("champ/")] == [
        "champ/reference_unet.pth",
        "champ/denoising_unet.pth",
        "champ/guidance_encoder_normal.pth",
    ]
    state = read_file(tmp_path / "out/champ/denoising_unet.pth")
    kernel = rounded["conv_in", "kernel"].astype(np.float32).transpose(3, 2, 0, 1)
    assert np.array_equal(state["conv_in.weight"].float().numpy(), kernel)
