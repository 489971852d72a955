"""Sources of weights for the tests of champ_jax.weights: trees, single files, damaged files."""

import gzip
import json
import re
from pathlib import Path

import golden_weights
import numpy as np
import torch

# Keys and shapes of the users' files at full size.
LAYOUTS = json.loads(gzip.decompress((golden_weights.GOLDEN / "layouts.json.gz").read_bytes()))


def read_file(path):
    """{key: tensor} of a file, by PyTorch and safetensors themselves."""
    from safetensors.torch import load_file

    return load_file(path) if Path(path).suffix == ".safetensors" else torch.load(path, weights_only=True)


def same_tensors(ours, theirs):
    """Whether two {key: tensor} agree in keys, dtypes, shapes and every bit."""
    return set(ours) == set(theirs) and all(
        ours[key].dtype == theirs[key].dtype and torch.equal(ours[key], theirs[key]) for key in ours
    )


def write_sd_folder(out, suffix=".safetensors"):
    """A Stable Diffusion folder of diffusers, tiny: unet/ and vae/. The UNet is the denoiser's weights."""
    out = Path(out)
    for folder, stem in (("unet", "denoising_unet"), ("vae", "vae")):
        state = golden_weights.state_dict(stem)
        golden_weights.write_state(out / folder / f"diffusion_pytorch_model{suffix}", state)
        (out / folder / "config.json").write_text(json.dumps(golden_weights.configs()[folder]))
    return out


def write_image_encoder(out):
    out = Path(out)
    golden_weights.write_state(out / "model.safetensors", golden_weights.state_dict("image_encoder"))
    (out / "config.json").write_text(json.dumps(golden_weights.configs()["image_encoder"]))
    return out


def as_ldm(unet, vae):
    """A Stable Diffusion single file's tensors, from diffusers'. Written out place by place, for two ResNets a level
    and four levels, and not by inverting the rules under test."""
    file = {}
    resnet = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    places = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    for level, (first, second) in enumerate(((1, 2), (4, 5), (7, 8), (10, 11))):
        for j, block in enumerate((first, second)):
            places[f"down_blocks.{level}.resnets.{j}"] = f"input_blocks.{block}.0"
            places[f"down_blocks.{level}.attentions.{j}"] = f"input_blocks.{block}.1"
    for level, block in enumerate((3, 6, 9)):
        places[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{block}.0.op"
    for level in range(4):
        for j in range(3):
            places[f"up_blocks.{level}.resnets.{j}"] = f"output_blocks.{3 * level + j}.0"
            places[f"up_blocks.{level}.attentions.{j}"] = f"output_blocks.{3 * level + j}.1"
    for level, place in enumerate(("output_blocks.2.1", "output_blocks.5.2", "output_blocks.8.2")):
        places[f"up_blocks.{level}.upsamplers.0.conv"] = f"{place}.conv"
    for key, array in unet.items():
        place = max((p for p in places if key.startswith(f"{p}.")), key=len)
        rest = key.removeprefix(f"{place}.")
        name, _, leaf = rest.rpartition(".")
        if ".resnets." in place:
            rest = f"{resnet[name]}.{leaf}"
        file[f"model.diffusion_model.{places[place]}.{rest}"] = array
    for key, array in vae.items():
        name = key.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        for new, old in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
            if ".attentions.0." in name and name.split(".attentions.0.")[1].startswith(new):
                name = name.replace(new, old)
        name = name.replace("mid_block.attentions.0", "mid.attn_1")
        name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{3 - int(m[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", name)
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "attn_1" in name and array.ndim == 2:
            array = array[:, :, None, None]
        file[f"first_stage_model.{name}"] = array
    file["cond_stage_model.transformer.text_model.final_layer_norm.weight"] = np.ones(4, np.float32)
    file["model_ema.decay"] = np.array(0.9999, np.float32)
    file["model_ema.diffusion_modelinput_blocks00weight"] = np.ones(4, np.float32)
    for name in ("betas", "sqrt_alphas_cumprod", "log_one_minus_alphas_cumprod", "posterior_mean_coef1"):
        file[name] = np.ones(4, np.float32)
    return file


class Payload:
    """What a hostile pickle holds: unpickled, it would make a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))
