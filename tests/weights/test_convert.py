"""Conversion: whole trees, Stable Diffusion in both layouts, everything wrong reported at once."""

import json
import re
import shutil

import golden_weights
import numpy as np
import pytest
import torch
from diffusers.loaders import single_file_utils
from weights_trees import as_ldm, write_image_encoder, write_sd_folder

from champ_jax.common.errors import InputError
from champ_jax.models.champ import COMPONENTS, ChampConfig
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig
from champ_jax.weights import ldm
from champ_jax.weights.checkpoint import load_checkpoint, read_config
from champ_jax.weights.convert import convert
from champ_jax.weights.names import files_of, flatten
from champ_jax.weights.tensor_files import open_tensors

OUTPUT = ("conv_norm_out.", "conv_out.")  # what a ReferenceNet has not


def hashes(directory):
    return {name: entry["sha256"] for name, entry in read_config(directory)["components"].items()}


def torch_arrays(directory, component):
    """{stem: {key: array}} in PyTorch's layout."""
    tree = load_checkpoint(directory, [component])[1][component]
    leaves = dict(flatten(tree))
    return {
        stem: {key: name.to_torch(leaves[name.path]) for key, name in names.items()}
        for stem, names in files_of(component, tree).items()
    }


def stays_absent(directory):
    """Whether a refused conversion left nothing behind, not even a temporary folder."""
    return not directory.exists() and not list(directory.parent.glob(f".{directory.name}*"))


def copy(tree, out):
    shutil.copytree(tree, out)
    return out


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    return write_sd_folder(tmp_path_factory.mktemp("sd") / "stable-diffusion-v1-5")


@pytest.fixture(scope="module")
def image_encoder(tmp_path_factory):
    return write_image_encoder(tmp_path_factory.mktemp("clip") / "image_encoder")


@pytest.fixture(scope="module")
def ldm_state():
    return as_ldm(golden_weights.state_dict("denoising_unet"), golden_weights.state_dict("vae"))


def test_whole_tree(converted):
    """Every tensor of every file arrives, exactly."""
    seen = set()
    for component in COMPONENTS:
        for stem, arrays in torch_arrays(converted, component).items():
            theirs = golden_weights.state_dict(stem)
            assert set(arrays) == set(theirs)
            for key, array in arrays.items():
                assert np.array_equal(array, theirs[key]), (stem, key)
                assert array.dtype == (np.int32 if key.endswith("position_ids") else np.float32)
            seen.add(stem)
    assert seen == set(golden_weights.key_shapes()) - {"guidance_encoder_full"}


def test_sizes_come_from_the_files(converted):
    config = ChampConfig.from_json(read_config(converted)["model"])
    assert config.unet.block_out_channels == (32, 32, 64, 64)
    assert config.vae.block_out_channels == (32, 32, 32, 64)
    assert config.image_encoder.projection_dim == 64
    assert config.guidance.block_out_channels == (16, 32, 32, 64)
    assert (config.motion.max_length, config.motion.in_middle) == (32, True)
    assert (config.inference.betas, config.training.betas) == ("linear", "scaled_linear")


def test_old_vae_names_and_other_layouts_are_the_same_model(converted, tmp_path):
    """Old attention names, as linear layers and as 1x1 convolutions, in a .bin; the image encoder as safetensors."""
    tree = golden_weights.write_pretrained_models(tmp_path / "old", old_vae_names=True)
    (tree / "sd-vae-ft-mse" / "diffusion_pytorch_model.safetensors").unlink()
    state = golden_weights.with_old_vae_names(golden_weights.state_dict("vae"))
    for key, array in state.items():
        if array.ndim == 2 and key.startswith("encoder."):  # the decoder's stay linear
            state[key] = array[:, :, None, None]
    golden_weights.write_state(tree / "sd-vae-ft-mse" / "diffusion_pytorch_model.bin", state)
    (tree / "image_encoder" / "pytorch_model.bin").unlink()
    golden_weights.write_state(tree / "image_encoder/model.safetensors", golden_weights.state_dict("image_encoder"))
    convert(tree, tmp_path / "out", progress=False)
    assert hashes(tmp_path / "out") == hashes(converted)


def test_everything_that_is_wrong_is_reported_at_once(tree, tmp_path):
    broken = copy(tree, tmp_path / "broken")
    denoiser = golden_weights.state_dict("denoising_unet")
    del denoiser["conv_in.weight"], denoiser["time_embedding.linear_1.bias"]
    denoiser["conv_out.bias"] = np.zeros(5, np.float16)
    denoiser["conv_in.lora_up.weight"] = np.zeros((2, 2), np.float16)  # would change what the network computes
    denoiser["text_model.norm.weight"] = np.zeros(2, np.float16)  # no part of it
    golden_weights.write_state(broken / "champ/denoising_unet.pth", denoiser)
    vae = golden_weights.state_dict("vae")
    vae["quant_conv.weight"] = vae["quant_conv.weight"][:, :, 0]
    del vae["decoder.conv_out.bias"]
    golden_weights.write_state(broken / "sd-vae-ft-mse/diffusion_pytorch_model.safetensors", vae)
    encoder = golden_weights.state_dict("guidance_encoder_dwpose")
    del encoder["guidance_attention.norm.weight"]  # takes no part in the forward pass, and yet
    golden_weights.write_state(broken / "champ/guidance_encoder_dwpose.pth", encoder)
    with pytest.raises(InputError) as error:
        convert(broken, tmp_path / "out", progress=False)
    text = str(error.value)
    for pattern in (
        r"denoising_unet\.pth: 2 missing \(conv_in\.weight, time_embedding\.linear_1\.bias\)",
        r"1 unexpected \(conv_in\.lora_up\.weight\)",
        r"1 misshapen \(conv_out\.bias is 5, the model has 4\)",
        r"diffusion_pytorch_model\.safetensors: 1 missing \(decoder\.conv_out\.bias\)",
        r"quant_conv\.weight is 8x8x1, the model has 8x8x1x1",
        r"guidance_encoder_dwpose\.pth: 1 missing \(guidance_attention\.norm\.weight\)",
    ):
        assert re.search(pattern, text), (pattern, text)
    assert "motion_module" not in text
    assert "text_model" not in text
    assert stays_absent(tmp_path / "out")


def test_a_file_that_lacks_what_sizes_are_read_from(tree, tmp_path):
    """Sizes are what most tensors say: one that is missing or misshapen is reported like any other."""
    broken = copy(tree, tmp_path / "broken")
    depth, normal = (golden_weights.state_dict(f"guidance_encoder_{name}") for name in ("depth", "normal"))
    del depth["conv_in.weight"]
    normal["conv_in.weight"] = np.zeros((8, 3, 3, 3), np.float16)
    golden_weights.write_state(broken / "champ/guidance_encoder_depth.pth", depth)
    golden_weights.write_state(broken / "champ/guidance_encoder_normal.pth", normal)
    motion = golden_weights.state_dict("motion_module")
    first, second = (next(key for key in motion if key.endswith(end)) for end in (".pe", ".to_q.weight"))
    motion[first] = motion[first][:, :16]
    del motion[second]
    golden_weights.write_state(broken / "champ/motion_module.pth", motion)
    with pytest.raises(InputError) as error:
        convert(broken, tmp_path / "out", progress=False)
    text = str(error.value)
    assert "guidance_encoder_depth.pth: 1 missing (conv_in.weight)" in text
    assert "guidance_encoder_normal.pth: 1 misshapen (conv_in.weight is 8x3x3x3, the model has 16x3x3x3)" in text
    assert f"motion_module.pth: 1 missing ({second}), 1 misshapen ({first} is 1x16x32, the model has 1x32x32)" in text
    assert "semantic_map" not in text
    assert "dwpose" not in text


def test_a_hostile_or_truncated_file_writes_nothing(tree, tmp_path):
    broken = copy(tree, tmp_path / "broken")
    path = broken / "champ" / "motion_module.pth"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"motion_module\.pth: is truncated"):
        convert(broken, tmp_path / "out", progress=False)
    assert stays_absent(tmp_path / "out")


def test_missing_files_are_reported_at_once(tree, tmp_path):
    partial = copy(tree, tmp_path / "partial")
    for name in ("champ/motion_module.pth", "champ/guidance_encoder_depth.pth", "image_encoder/config.json"):
        (partial / name).unlink()
    with pytest.raises(InputError) as error:
        convert(partial, tmp_path / "out", progress=False)
    for word in (
        "champ/motion_module.pth",
        "champ/guidance_encoder_depth.pth",
        "image_encoder/config.json",
        "--partial",
    ):
        assert word in str(error.value)
    with pytest.raises(InputError, match="no such file or folder"):
        convert(tmp_path / "nowhere", tmp_path / "out", progress=False)


def test_unknown_condition(tree, tmp_path):
    with pytest.raises(InputError, match="--conditions=pose"):
        convert(tree, tmp_path / "out", conditions=["pose"], progress=False)


@pytest.mark.parametrize(
    ("file", "content", "word"),
    [
        ("stable-diffusion-v1-5/unet/config.json", "<html>", "is a web page"),
        ("stable-diffusion-v1-5/unet/config.json", '{"act_fn": "gelu"}', "act_fn"),
        ("sd-vae-ft-mse/config.json", "[]", "expected a JSON object"),
        ("sd-vae-ft-mse/config.json", '{"block_out_channels": 3}', "block_out_channels=3: expected"),
        ("image_encoder/config.json", '{"hidden_act": "gelu"}', "hidden_act"),
    ],
)
def test_bad_configs_name_the_file(tree, tmp_path, file, content, word):
    broken = copy(tree, tmp_path / "broken")
    (broken / file).write_text(content)
    with pytest.raises(InputError, match=f"{file}.*{word}"):
        convert(broken, tmp_path / "out", progress=False)


def test_sd_and_animatediff_start_training(sd, image_encoder, tmp_path):
    """Stable Diffusion in diffusers' layout with AnimateDiff v1: wrapped, prefixed, no middle module, 24 frames."""
    v1 = {}
    for key, array in golden_weights.state_dict("motion_module").items():
        if not key.startswith("mid_block."):
            v1[f"module.{key}"] = torch.from_numpy(array[:, :24] if key.endswith(".pe") else array)
    torch.save({"state_dict": v1, "epoch": 1, "global_step": 2}, tmp_path / "mm_sd_v14.ckpt")
    plan = convert(
        sd, tmp_path / "out", image_encoder=image_encoder, motion_module=tmp_path / "mm_sd_v14.ckpt", progress=False
    )
    config = ChampConfig.from_json(read_config(tmp_path / "out")["model"])
    assert (config.motion.max_length, config.motion.in_middle) == (24, False)

    unet = golden_weights.state_dict("denoising_unet")
    reference = torch_arrays(tmp_path / "out", "reference_unet")["reference_unet"]
    assert set(unet) - set(reference) == {
        f"{n}.{leaf}" for n in ("conv_norm_out", "conv_out") for leaf in ("weight", "bias")
    }
    assert all(np.array_equal(array, unet[key]) for key, array in reference.items())
    denoiser = torch_arrays(tmp_path / "out", "denoising_unet")
    assert all(np.array_equal(array, unet[key]) for key, array in denoiser["denoising_unet"].items())
    assert all(np.array_equal(array, v1[f"module.{key}"]) for key, array in denoiser["motion_module"].items())
    assert len(denoiser["motion_module"]) == len(v1)
    for arrays in torch_arrays(tmp_path / "out", "guidance").values():
        assert not arrays["conv_out.weight"].any(), "zero convolution (Champ section 3.3)"
        assert not arrays["conv_out.bias"].any()
        assert arrays["conv_in.weight"].std() > 0.01
        assert len(arrays) == len(golden_weights.key_shapes()["guidance_encoder_depth"])
    table = plan.table()
    assert table.count("initialized") == 4
    assert re.search(r"4 tensors passed over \(output layer", table)
    assert "mm_sd_v14.ckpt" in table
    guidance = {f"guidance_encoder_{name}": "initialized" for name in config.conditions}
    unets = {"reference_unet": "Stable Diffusion", "denoising_unet": "Stable Diffusion"}
    assert read_config(tmp_path / "out")["untrained"] == unets | guidance
    assert "never trained as a Champ: reference_unet, denoising_unet, guidance_encoder_depth" in table


@pytest.mark.slow
def test_one_ldm_file(image_encoder, ldm_state, tmp_path):
    """One file, wrapped, no config.json: its sizes are read off the shapes; motion modules are fresh."""
    state = {key: torch.from_numpy(array) for key, array in ldm_state.items()}
    torch.save({"state_dict": state, "global_step": 840000}, tmp_path / "v1-5-pruned.ckpt")
    plan = convert(tmp_path / "v1-5-pruned.ckpt", tmp_path / "out", image_encoder=image_encoder, progress=False)
    config = ChampConfig.from_json(read_config(tmp_path / "out")["model"])
    assert config.unet == UNetConfig.from_json(golden_weights.configs()["unet"])
    assert config.vae == VAEConfig.from_json(golden_weights.configs()["vae"])
    for component in ("vae", "reference_unet", "denoising_unet"):
        stem = "denoising_unet" if component == "reference_unet" else component
        theirs = golden_weights.state_dict(stem)
        ours = torch_arrays(tmp_path / "out", component)[component]
        assert all(np.array_equal(array, theirs[key]) for key, array in ours.items())
        assert set(ours) == {k for k in theirs if component != "reference_unet" or not k.startswith(OUTPUT)}
    motion = torch_arrays(tmp_path / "out", "denoising_unet")["motion_module"]
    assert set(motion) == set(golden_weights.key_shapes()["motion_module"])
    zero = [key for key in motion if "temporal_transformer.proj_out" in key]
    assert len(zero) == 42
    assert not any(motion[key].any() for key in zero)
    assert motion["mid_block.motion_modules.0.temporal_transformer.proj_in.weight"].std() > 0.01
    table = plan.table()
    for word, count in (("text encoder", 1), ("moving average of the UNet", 2), ("noise schedule", 4)):
        assert f"{count} tensors passed over ({word})" in table
    assert len(re.findall("initialized", table)) == 5

    golden_weights.write_state(tmp_path / "odd.safetensors", {**ldm_state, "control_model.x": np.ones(2, np.float32)})
    plan = convert(tmp_path / "odd.safetensors", tmp_path / "odd", image_encoder=image_encoder, progress=False)
    assert "1 tensors passed over (not Stable Diffusion's): control_model.x" in plan.table()
    with pytest.raises(InputError, match="--image_encoder"):
        convert(tmp_path / "v1-5-pruned.ckpt", tmp_path / "none", progress=False)


def test_ldm_names_are_diffusers(ldm_state):
    """Against diffusers' own converter of single files."""
    state = {key: torch.from_numpy(array) for key, array in ldm_state.items()}
    unet = single_file_utils.convert_ldm_unet_checkpoint(dict(state), {**golden_weights.configs()["unet"]})
    vae = single_file_utils.convert_ldm_vae_checkpoint(dict(state), golden_weights.configs()["vae"])
    for theirs, prefix, names in (
        (unet, ldm.UNET_PREFIX, ldm.unet_names),
        (vae, ldm.VAE_PREFIX, ldm.vae_names),
    ):
        keys = [key.removeprefix(prefix) for key in state if key.startswith(prefix)]
        ours = {name: state[prefix + key] for name, key in names(keys).items()}
        assert set(ours) == set(theirs)
        assert all(torch.equal(ours[key].flatten(), theirs[key].flatten()) for key in ours)


def test_other_files_of_the_same_model(tree, converted, ldm_state, tmp_path):
    """--vae as one file in LDM's names (vae-ft-mse-840000-ema-pruned), the image encoder a whole CLIP without
    position_ids."""
    vae = {k.removeprefix(ldm.VAE_PREFIX): a for k, a in ldm_state.items() if k.startswith(ldm.VAE_PREFIX)}
    vae = golden_weights.write_state(tmp_path / "vae.ckpt", vae)
    whole = copy(tree, tmp_path / "whole")
    state = golden_weights.state_dict("image_encoder")
    del state["vision_model.embeddings.position_ids"]
    text = {"text_model.final_layer_norm.weight": np.ones(4, np.float32), "logit_scale": np.ones((), np.float32)}
    golden_weights.write_state(whole / "image_encoder/pytorch_model.bin", {**state, **text})
    plan = convert(whole, tmp_path / "out", vae=vae, progress=False)
    assert hashes(tmp_path / "out") == hashes(converted)
    assert "2 tensors passed over (text half of CLIP)" in plan.table()


def test_entries_that_nobody_needs_are_passed_over_with_a_count(tree, converted, tmp_path):
    """What published files hold beside a network's tensors: the training of a VAE, a whole UNet around motion modules,
    a trainer's counters, tensors of types no network has; the image encoder as model.fp16.safetensors."""
    source = copy(tree, tmp_path / "source")
    vae = golden_weights.state_dict("vae")
    beside = {f"loss.discriminator.main.{index}.weight": np.ones(2, np.float32) for index in range(7)}
    beside["model_ema.decay"] = np.ones((), np.float32)
    golden_weights.write_state(source / "sd-vae-ft-mse/diffusion_pytorch_model.safetensors", {**vae, **beside})
    motion = {**golden_weights.state_dict("denoising_unet"), **golden_weights.state_dict("motion_module")}
    state = {f"module.{key}": torch.from_numpy(array) for key, array in motion.items()}
    wrapped = {"state_dict": state, "epoch": 3, "global_step": 9, "animatediff_config": {"unet": [1, 2]}}
    torch.save(wrapped, source / "champ/motion_module.pth")
    depth = {key: torch.from_numpy(array) for key, array in golden_weights.state_dict("guidance_encoder_depth").items()}
    unused = {"epoch": 3, "config": {"a": 1}, "mask": torch.zeros(3, dtype=torch.uint8), "phase": torch.zeros(2) * 1j}
    torch.save({**depth, **unused}, source / "champ/guidance_encoder_depth.pth")
    (source / "image_encoder/pytorch_model.bin").unlink()
    encoder = golden_weights.state_dict("image_encoder")
    golden_weights.write_state(source / "image_encoder/model.fp16.safetensors", encoder)
    table = convert(source, tmp_path / "out", progress=False).table()
    assert hashes(tmp_path / "out") == hashes(converted)
    for line in (
        r"diffusion_pytorch_model.safetensors: 7 tensors passed over \(the training loss\): .*4.weight and 2 more$",
        r"diffusion_pytorch_model.safetensors: 1 tensors passed over \(moving average of the VAE\)",
        r"motion_module.pth: 684 tensors passed over \(not a motion module's\): .* and 679 more$",
        r"guidance_encoder_depth.pth: 4 entries passed over \(not weights\): epoch, config, mask, phase$",
    ):
        assert re.search(line, table, re.MULTILINE), (line, table)


def test_a_list_in_a_message_shows_five_and_a_number(tree, tmp_path):
    broken = copy(tree, tmp_path / "broken")
    shutil.copy(broken / "champ/guidance_encoder_depth.pth", broken / "champ/denoising_unet.pth")
    with pytest.raises(InputError, match=r"denoising_unet.pth: \d+ missing \((\S+, ){4}\S+ and \d+ more\)") as error:
        convert(broken, tmp_path / "out", progress=False)
    assert len(str(error.value)) < 1500


@pytest.mark.parametrize("option", ["source", "vae", "image_encoder"])
def test_a_folder_around_the_weights_says_which_to_name(tree, option, tmp_path):
    """A tree in a tree, as archives unpack; a folder of the Hugging Face cache."""
    nested = tmp_path / "pretrained_models"
    cache = tmp_path / "hub" / "models--someone--champ" / "snapshots" / "1f2e"
    inner = {"source": "", "vae": "sd-vae-ft-mse", "image_encoder": "image_encoder"}[option]
    name = {"source": "pretrained_models", "vae": "vae", "image_encoder": "image_encoder"}[option]
    for given, place in ((nested, nested / name), (cache.parents[1], cache), (cache.parents[2], cache)):
        shutil.copytree(tree / inner, place)
        with pytest.raises(InputError) as error:
            convert(**({"source": tree, "output": tmp_path / "out", "progress": False} | {option: given}))
        assert str(given) in str(error.value)
        assert str(error.value).endswith(f"--{option}={place}")
        shutil.rmtree(place)
    assert not (tmp_path / "out").exists()


def test_other_folders_say_what_they_are(tree, tmp_path):
    with pytest.raises(InputError, match=f"is the champ/ folder of a tree.*--source={tree}$"):
        convert(tree / "champ", tmp_path / "out", progress=False)
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives/champ.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"holds archives \(champ.zip\); unpack"):
        convert(tmp_path / "archives", tmp_path / "out", progress=False)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/me.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match=r"photos: holds neither champ/\*.pth .* it holds me.jpg"):
        convert(tmp_path / "photos", tmp_path / "out", progress=False)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_numbers_are_refused(tree, tmp_path, value):
    broken = copy(tree, tmp_path / "broken")
    state = golden_weights.state_dict("vae")
    state["encoder.conv_in.bias"] = state["encoder.conv_in.bias"].copy()
    state["encoder.conv_in.bias"][3] = value
    golden_weights.write_state(broken / "sd-vae-ft-mse/diffusion_pytorch_model.safetensors", state)
    with pytest.raises(InputError, match=r"model.safetensors: encoder.conv_in.bias holds NaN or infinite"):
        convert(broken, tmp_path / "out", progress=False)
    assert stays_absent(tmp_path / "out")


def test_whole_numbers_where_weights_are_meant(tree, tmp_path):
    broken = copy(tree, tmp_path / "broken")
    state = golden_weights.state_dict("vae")
    state["encoder.conv_in.bias"] = np.zeros(state["encoder.conv_in.bias"].shape, np.int64)
    golden_weights.write_state(broken / "sd-vae-ft-mse/diffusion_pytorch_model.safetensors", state)
    with pytest.raises(InputError, match=r"1 of whole numbers \(encoder.conv_in.bias\)"):
        convert(broken, tmp_path / "out", progress=False)


def test_sizes_that_do_not_go_together(tree, image_encoder, tmp_path):
    broken = copy(tree, tmp_path / "broken")
    config = golden_weights.configs()["image_encoder"]
    (broken / "image_encoder/config.json").write_text(json.dumps({**config, "projection_dim": 32}))
    with pytest.raises(InputError, match="projection_dim=32 is not the UNet's"):
        convert(broken, tmp_path / "out", progress=False)


def test_wrong_file_in_place(tree, tmp_path):
    broken = copy(tree, tmp_path / "broken")
    shutil.copy(broken / "champ/denoising_unet.pth", broken / "champ/motion_module.pth")
    with pytest.raises(InputError, match=r"motion_module\.pth: is not a valid motion module"):
        convert(broken, tmp_path / "out", progress=False)


def test_disk_space_is_asked_for_first(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(InputError, match=r"need 35\.4 MiB, the disk has 976\.6 KiB free"):
        convert(tree, tmp_path / "out", progress=False)
    assert stays_absent(tmp_path / "out")


def test_two_tensors_of_one_name(tree, tmp_path):
    broken = copy(tree, tmp_path / "broken")
    state = golden_weights.state_dict("vae")
    old = {key: array.copy() for key, array in golden_weights.with_old_vae_names(state).items()}
    state |= old
    golden_weights.write_state(broken / "sd-vae-ft-mse/diffusion_pytorch_model.safetensors", state)
    with pytest.raises(InputError, match=r"key\.bias and .*to_k\.bias are two tensors for"):
        convert(broken, tmp_path / "out", progress=False)


def test_a_whole_champ_is_trained(converted):
    assert read_config(converted)["untrained"] == {}


def test_a_checkpoint_that_does_not_say_what_is_untrained_is_read(converted, tmp_path):
    old = copy(converted, tmp_path / "old")
    fields = json.loads((old / "config.json").read_text())
    del fields["untrained"]
    (old / "config.json").write_text(json.dumps(fields))
    assert read_config(old)["untrained"] == {}


def test_sources_record_is_compact(converted):
    sources = read_config(converted)["sources"]
    assert sources["vae"] == {"dtype": "float16"}
    assert sources["motion_module"]["dtype"] == "float16"
    assert len(sources["motion_module"]["exceptions"]) == 42
    assert sources["image_encoder"]["exceptions"] == {"vision_model.embeddings.position_ids": "int64"}


def test_golden_weights_are_the_files(tree):
    """The tree on disk is what `golden_weights.state_dict` gives."""
    with open_tensors(tree / "champ/motion_module.pth") as file:
        for key, array in golden_weights.state_dict("motion_module").items():
            assert file.tensors[key].dtype == array.dtype
            assert np.array_equal(file.read(key), array)
