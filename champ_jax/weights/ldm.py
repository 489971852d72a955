"""Names of Stable Diffusion's single files (the CompVis layout, "LDM") -> the names diffusers uses.

The tensors are the same; LDM numbers the UNet's layers in the order they run, and the VAE's decoder levels from the
finest.
"""

import re
from collections.abc import Iterable

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
# What such a file holds besides, with no place in Champ.
_OTHER_PARTS = {
    "text encoder": re.compile(r"(cond_stage_model|conditioner)\..*"),
    "moving average of the UNet": re.compile(r"model_ema\..*"),
    # The schedule is computed here, from its name.
    "noise schedule": re.compile(r"betas|(\w+_)?alphas_cumprod(_prev)?|posterior_\w+|logvar|lvlb_weights|scale_factor"),
}

_RESNET = (
    ("in_layers.0.", "norm1."),
    ("in_layers.2.", "conv1."),
    ("emb_layers.1.", "time_emb_proj."),
    ("out_layers.0.", "norm2."),
    ("out_layers.3.", "conv2."),
    ("skip_connection.", "conv_shortcut."),
)
_UNET_ENDS = (
    ("time_embed.0.", "time_embedding.linear_1."),
    ("time_embed.2.", "time_embedding.linear_2."),
    ("input_blocks.0.0.", "conv_in."),
    ("out.0.", "conv_norm_out."),
    ("out.2.", "conv_out."),
    ("middle_block.0.", "mid_block.resnets.0."),
    ("middle_block.1.", "mid_block.attentions.0."),
    ("middle_block.2.", "mid_block.resnets.1."),
)
_VAE = (
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets."),
    (r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
    (r"\.norm_out\.", ".conv_norm_out."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
)


def is_ldm(keys: Iterable[str]) -> bool:
    """Whether a file's keys are LDM's."""
    return any(key.startswith(UNET_PREFIX) for key in keys)


def other_part(key: str) -> str | None:
    """In words, what a tensor without a place in Champ belongs to; None for the UNet's, the VAE's and unknown ones."""
    return next((word for word, pattern in _OTHER_PARTS.items() if pattern.fullmatch(key)), None)


def unet_names(keys: Iterable[str]) -> dict[str, str]:
    """{diffusers' key: LDM's key without UNET_PREFIX} of a UNet's tensors; a key of an unknown kind stays as it is."""
    keys = list(keys)
    # Layers are numbered through, a level is its ResNets and one sampling layer: the first such one gives their number.
    level = min(
        (max(int(match[1]), 1) for key in keys if (match := re.match(r"input_blocks\.(\d{1,4})\.0\.op\.weight", key))),
        default=len(keys),
    )
    return {unet_name(key, level): key for key in keys}


def unet_name(key: str, level: int) -> str:
    """diffusers' key for LDM's key without UNET_PREFIX; a level has `level` layers: its ResNets and one."""
    for prefix, name in _UNET_ENDS:
        if key.startswith(prefix):
            return _resnet_name(name + key.removeprefix(prefix))
    match = re.match(r"(input|output)_blocks\.(\d{1,4})\.(\d{1,4})\.(.*)", key)
    if not match:
        return key
    number, part, rest = int(match[2]), int(match[3]), match[4]
    if match[1] == "input":
        block, layer = divmod(number - 1, level)
        if rest.startswith("op."):
            return f"down_blocks.{block}.downsamplers.0.conv.{rest.removeprefix('op.')}"
        place = f"down_blocks.{block}"
    else:
        block, layer = divmod(number, level)
        place = f"up_blocks.{block}"
        if rest.startswith("conv."):  # comes second or third, after the attention if there is one
            return f"{place}.upsamplers.0.{rest}"
    return _resnet_name(f"{place}.resnets.{layer}.{rest}") if part == 0 else f"{place}.attentions.{layer}.{rest}"


def _resnet_name(key: str) -> str:
    for ldm, name in _RESNET:
        key = key.replace(f".{ldm}", f".{name}")
    return key


def vae_names(keys: Iterable[str]) -> dict[str, str]:
    """{diffusers' key: LDM's key without VAE_PREFIX} of a VAE's tensors; a key of an unknown kind stays as it is."""
    keys = list(keys)
    levels = 1 + max(
        (int(match[1]) for key in keys if (match := re.match(r"decoder\.up\.(\d{1,4})\.", key))), default=0
    )

    def up(match: re.Match[str]) -> str:
        kind = "resnets." if match[2] == "block." else "upsamplers.0."
        return f"decoder.up_blocks.{levels - 1 - int(match[1])}.{kind}"

    names = {}
    for key in keys:
        name = re.sub(r"^decoder\.up\.(\d{1,4})\.(block\.|upsample\.)", up, key)
        for pattern, replacement in _VAE:
            name = re.sub(pattern, replacement, name)
        names[name] = key
    return names
