"""The sizes of the networks in users' files: from their config.json files, or read off the tensors' shapes."""

import collections
import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from champ_jax.common.errors import InputError
from champ_jax.common.files import read_json
from champ_jax.common.ranges import Choice, Integer, Items, Number, Rule
from champ_jax.models.champ import ChampConfig
from champ_jax.models.clip import CLIPVisionConfig
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.motion_module import MotionConfig
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig
from champ_jax.weights.part_files import PartFile
from champ_jax.weights.pretrained_tree import PretrainedTree

Shapes = Mapping[str, tuple[int, ...]]

_WIDTH = Integer(minimum=1, maximum=2**16)
_CHANNELS = Integer(minimum=1, maximum=4096)
_LAYERS = Integer(minimum=1, maximum=16)
_WIDTHS = Items(_WIDTH, minimum=1, maximum=8)
_EPSILON = Number(minimum=0, maximum=1)
_UNET_RULES = {
    "in_channels": _CHANNELS,
    "out_channels": _CHANNELS,
    "block_out_channels": _WIDTHS,
    "layers_per_block": _LAYERS,
    "down_block_types": Items(Choice("CrossAttnDownBlock2D", "DownBlock2D"), minimum=1, maximum=8),
    "up_block_types": Items(Choice("CrossAttnUpBlock2D", "UpBlock2D"), minimum=1, maximum=8),
    "cross_attention_dim": _WIDTH,
    "norm_num_groups": _WIDTH,
    "norm_eps": _EPSILON,
    "flip_sin_to_cos": Choice(True, False),
    "freq_shift": Number(minimum=-1000, maximum=1000),
}
_VAE_RULES = {
    "in_channels": _CHANNELS,
    "out_channels": _CHANNELS,
    "latent_channels": _CHANNELS,
    "block_out_channels": _WIDTHS,
    "layers_per_block": _LAYERS,
    "norm_num_groups": _WIDTH,
    "scaling_factor": Number(above=0, maximum=1e6),
    "down_block_types": Items(Choice("DownEncoderBlock2D"), minimum=1, maximum=8),
    "up_block_types": Items(Choice("UpDecoderBlock2D"), minimum=1, maximum=8),
}
_IMAGE_ENCODER_RULES = {
    "hidden_size": _WIDTH,
    "intermediate_size": Integer(minimum=1, maximum=2**18),
    "num_hidden_layers": Integer(minimum=1, maximum=128),
    "num_attention_heads": _WIDTH,
    "num_channels": Integer(minimum=3, maximum=3),
    "image_size": Integer(minimum=1, maximum=4096),
    "patch_size": Integer(minimum=1, maximum=4096),
    "projection_dim": _WIDTH,
    "layer_norm_eps": _EPSILON,
}


def read_architecture(
    tree: PretrainedTree, files: Mapping[str, PartFile | None], conditions: Sequence[str], *, with_motion: bool
) -> ChampConfig:
    """The model's sizes.

    Args:
      tree: the files of the source, of which the config.json files are read.
      files: {part: its file, None for a part that is initialized}.
      conditions: the guidance encoders the model has.
      with_motion: whether it has motion modules.

    Raises:
      InputError: names the config.json and the field, the file that is no such network, or the sizes that differ.
    """
    unet = _unet_config(tree, files)
    motion = None
    if with_motion:
        file = files["motion_module"]
        motion = MotionConfig() if file is None else MotionConfig(**_sizes(file, "motion module", _motion_fields))
    try:
        return ChampConfig(
            unet=unet,
            motion=motion,
            guidance=_guidance_config(files, unet),
            vae=_vae_config(tree, files),
            image_encoder=_image_encoder_config(tree),
            conditions=tuple(conditions),
        )
    except InputError as error:
        raise error if ": " in str(error) else InputError(f"{tree.root}: the networks do not fit: {error}") from error


def _unet_config(tree: PretrainedTree, files: Mapping[str, PartFile | None]) -> UNetConfig:
    if tree.unet_config is None:
        return UNetConfig.from_json(_sizes(files["denoising_unet"], "denoising unet", _unet_fields))
    path, fields = tree.unet_config, _read_object(tree.unet_config)
    _check_fields(path, fields, _UNET_RULES)
    for name in ("num_attention_heads", "attention_head_dim"):
        if fields.get(name) is not None:
            rule = Items(_WIDTH, minimum=1, maximum=8) if isinstance(fields[name], list) else _WIDTH
            rule.check(f"{path}: {name}", fields[name])
    config = _parse(path, UNetConfig.from_json, fields)
    for width, heads in zip(config.block_out_channels, config.heads):
        _require_divisor(path, "attention_head_dim", heads, width)
    for width in config.block_out_channels:
        _require_divisor(path, "norm_num_groups", config.norm_num_groups, width)
    return config


def _vae_config(tree: PretrainedTree, files: Mapping[str, PartFile | None]) -> VAEConfig:
    if tree.vae_config is None:
        return VAEConfig.from_json(_sizes(files["vae"], "vae", _vae_fields))
    fields = _read_object(tree.vae_config)
    _check_fields(tree.vae_config, fields, _VAE_RULES)
    config = _parse(tree.vae_config, VAEConfig.from_json, fields)
    for width in config.block_out_channels:
        _require_divisor(tree.vae_config, "norm_num_groups", config.norm_num_groups, width)
    return config


def _image_encoder_config(tree: PretrainedTree) -> CLIPVisionConfig:
    path, fields = tree.image_encoder_config, _read_object(tree.image_encoder_config)
    _check_fields(path, fields, _IMAGE_ENCODER_RULES)
    if "vision_config" in fields:  # a whole CLIP's
        if not isinstance(fields["vision_config"], dict):
            raise InputError(f"{path}: vision_config: expected an object")
        _check_fields(path, fields["vision_config"], _IMAGE_ENCODER_RULES)
    config = _parse(path, CLIPVisionConfig.from_json, fields)
    _require_divisor(path, "patch_size", config.patch_size, config.image_size)
    _require_divisor(path, "num_attention_heads", config.num_attention_heads, config.hidden_size)
    return config


def _guidance_config(files: Mapping[str, PartFile | None], unet: UNetConfig) -> GuidanceConfig:
    """What most encoders are. One that lacks what sizes are read from is reported later, with all its faults."""
    encoders = [file for part, file in files.items() if part.startswith("guidance_encoder_") and file is not None]
    if not encoders:
        return GuidanceConfig(out_channels=unet.block_out_channels[0])
    measured = []
    for file in encoders:
        with contextlib.suppress(InputError):
            measured.append(GuidanceConfig(**_sizes(file, "guidance encoder", _guidance_fields)))
    return (
        commonest(measured) if measured else GuidanceConfig(**_sizes(encoders[0], "guidance encoder", _guidance_fields))
    )


def _read_object(path: Path) -> dict[str, Any]:
    fields = read_json(path)
    if not isinstance(fields, dict):
        raise InputError(f"{path}: holds no JSON object; download it again")
    return fields


def _check_fields(path: Path, fields: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    for name, rule in rules.items():
        if name in fields:
            rule.check(f"{path}: {name}", fields[name])


def _require_divisor(path: Path, name: str, divisor: int, number: int) -> None:
    if number % divisor:
        raise InputError(f"{path}: {name}={divisor} does not divide {number}, which it splits")


def _parse(path: Path, read: Callable[[Mapping[str, Any]], Any], fields: Mapping[str, Any]) -> Any:
    try:
        return read(fields)
    except InputError as error:
        reason = re.sub(r"^\w+ config(\.json)?: ", "", str(error))  # the path says which it is
        raise InputError(f"{path}: {reason}") from error
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: has a field of the wrong type ({error})") from error


def _sizes(file: PartFile, what: str, read: Callable[[Shapes], dict[str, Any]]) -> dict[str, Any]:
    """What `read` finds in the shapes of a file's tensors."""
    try:
        fields = read(file.shapes)
    except (KeyError, StopIteration, IndexError) as error:
        lacks = f": it lacks {error}" if isinstance(error, KeyError) else ""
        raise InputError(f"{file.path}: is no {what}{lacks}") from error
    for number in (number for value in fields.values() for number in (value if isinstance(value, list) else [value])):
        if isinstance(number, int) and not isinstance(number, bool) and not 1 <= number <= 2**16:
            raise InputError(f"{file.path}: is no {what}: a tensor has {number:,} channels")
    return fields


def _unet_fields(shapes: Shapes) -> dict[str, Any]:
    """Fields of a UNet's config.json. Heads and groups leave no trace in the shapes: they stay SD 1.5's."""
    levels = range(_count(shapes, r"down_blocks\.(\d{1,3})\."))
    attention = [f"down_blocks.{i}.attentions.0.norm.weight" in shapes for i in levels]
    kinds = ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in attention]
    fields = {
        "block_out_channels": [shapes[f"down_blocks.{i}.resnets.0.conv1.weight"][0] for i in levels],
        "layers_per_block": _count(shapes, r"down_blocks\.0\.resnets\.(\d{1,3})\."),
        "down_block_types": kinds,
        "up_block_types": [kind.replace("Down", "Up") for kind in reversed(kinds)],
        "in_channels": shapes["conv_in.weight"][1],
        "cross_attention_dim": next(s[1] for key, s in shapes.items() if key.endswith(".attn2.to_k.weight")),
    }
    if "conv_out.weight" in shapes:
        fields["out_channels"] = shapes["conv_out.weight"][0]
    return fields


def _vae_fields(shapes: Shapes) -> dict[str, Any]:
    """Fields of a VAE's config.json."""
    levels = range(_count(shapes, r"encoder\.down_blocks\.(\d{1,3})\."))
    return {
        "block_out_channels": [shapes[f"encoder.down_blocks.{i}.resnets.0.conv1.weight"][0] for i in levels],
        "layers_per_block": _count(shapes, r"encoder\.down_blocks\.0\.resnets\.(\d{1,3})\."),
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": shapes["decoder.conv_in.weight"][1],
    }


def _motion_fields(shapes: Shapes) -> dict[str, Any]:
    """Fields of a MotionConfig. Heads leave no trace in the shapes: they stay AnimateDiff's 8."""
    return {
        "attention_blocks": _count(shapes, r".*\.attention_blocks\.(\d{1,3})\."),
        "max_length": commonest(shape[1] for key, shape in shapes.items() if key.endswith(".pos_encoder.pe")),
        "in_middle": any(key.startswith("mid_block.") for key in shapes),
    }


def _guidance_fields(shapes: Shapes) -> dict[str, Any]:
    """Fields of a GuidanceConfig. Heads and groups leave no trace in the shapes: they stay Champ's."""
    stages = _count(shapes, r"blocks\.(\d{1,3})\.")
    return {
        "block_out_channels": (
            shapes["conv_in.weight"][0],
            *(shapes[f"blocks.{i}.weight"][0] for i in range(1, stages, 2)),
        ),
        "out_channels": shapes["conv_out.weight"][0],
    }


def commonest(items: Iterable[Any]) -> Any:
    """What most items are, so that one odd tensor does not speak for all; raises StopIteration if there are none."""
    return next(iter(collections.Counter(items).most_common(1)))[0]


def _count(shapes: Shapes, pattern: str) -> int:
    """One more than the greatest number that `pattern` captures at the beginning of a key."""
    return 1 + max((int(match[1]) for key in shapes if (match := re.match(pattern, key))), default=-1)
