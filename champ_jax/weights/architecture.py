"""The sizes of the networks in users' files: from their config.json files, or read off the tensors' shapes."""

import collections
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from champ_jax.common.errors import InputError
from champ_jax.common.files import read_json
from champ_jax.models.champ import ChampConfig
from champ_jax.models.clip import CLIPVisionConfig
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.motion_module import MotionConfig
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig
from champ_jax.weights.part_files import PartFile
from champ_jax.weights.pretrained_tree import PretrainedTree

Config = TypeVar("Config")
Shapes = Mapping[str, tuple[int, ...]]


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
      InputError: names the config.json and the field, the file that is not such a network, or the sizes that differ.
    """
    unet_file, vae_file = files["denoising_unet"], files["vae"]
    assert unet_file is not None  # no conversion is planned without these
    assert vae_file is not None
    assert tree.image_encoder_config is not None
    if tree.unet_config is None:
        unet = _measure(unet_file, "unet", _unet_fields, UNetConfig.from_json)
    else:
        unet = _read(tree.unet_config, UNetConfig.from_json)
    if tree.vae_config is None:
        vae = _measure(vae_file, "vae", _vae_fields, VAEConfig.from_json)
    else:
        vae = _read(tree.vae_config, VAEConfig.from_json)
    motion = None
    if with_motion:
        file = files["motion_module"]
        motion = MotionConfig() if file is None else motion_sizes(file)
    encoders = [file for part, file in files.items() if part.startswith("guidance_encoder_") and file is not None]
    guidance = _measure_guidance(encoders) or GuidanceConfig(out_channels=unet.block_out_channels[0])
    image_encoder = _read(tree.image_encoder_config, CLIPVisionConfig.from_json)
    try:
        return ChampConfig(
            unet=unet,
            motion=motion,
            guidance=guidance,
            vae=vae,
            image_encoder=image_encoder,
            conditions=tuple(conditions),
        )
    except InputError as error:
        raise InputError(f"{tree.root}: its networks do not fit together: {error}") from error


def motion_sizes(file: PartFile) -> MotionConfig:
    """The sizes of the motion modules in a file; raises InputError if it holds none."""
    return _measure(file, "motion module", _motion_fields, _as(MotionConfig))


def _read(path: Path, parse: Callable[[Any], Config]) -> Config:
    """The sizes in a config.json."""
    fields = read_json(path)
    try:
        return parse(fields)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _measure(
    file: PartFile, what: str, measure: Callable[[Shapes], dict[str, Any]], parse: Callable[[Any], Config]
) -> Config:
    """The sizes that `measure` finds in the shapes of a file's tensors."""
    try:
        return parse(measure(file.shapes))
    except (KeyError, StopIteration, IndexError) as error:
        lacks = f": it lacks {error}" if isinstance(error, KeyError) else ""
        raise InputError(f"{file.path}: is not a valid {what}{lacks}") from error
    except InputError as error:
        raise InputError(f"{file.path}: {error}") from error


def _measure_guidance(encoders: Sequence[PartFile]) -> GuidanceConfig | None:
    """What most encoders are. One that lacks what sizes are read from is reported later, with all its faults."""
    measured, errors = [], []
    for file in encoders:
        try:
            measured.append(_measure(file, "guidance encoder", _guidance_fields, _as(GuidanceConfig)))
        except InputError as error:
            errors.append(error)
    if errors and not measured:
        raise errors[0]
    return commonest(measured) if measured else None


def _as(config: Callable[..., Config]) -> Callable[[Mapping[str, Any]], Config]:
    return lambda fields: config(**fields)


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
    """Fields of a MotionConfig. Heads leave no trace in the shapes: they stay AnimateDiff's 8. Without position tables
    the length stays its 32, which later motion modules are trained on."""
    if not shapes:
        raise StopIteration
    tables = [shape[1] for key, shape in shapes.items() if key.endswith(".pos_encoder.pe")]
    return {
        "attention_blocks": _count(shapes, r".*\.attention_blocks\.(\d{1,3})\."),
        "in_middle": any(key.startswith("mid_block.") for key in shapes),
        **({"max_length": commonest(tables)} if tables else {}),
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
    """What most items are, so that one odd tensor does not decide for all; raises StopIteration if there are none."""
    return next(iter(collections.Counter(items).most_common(1)))[0]


def _count(shapes: Shapes, pattern: str) -> int:
    """One more than the greatest number that `pattern` captures at the beginning of a key."""
    return 1 + max((int(match[1]) for key in shapes if (match := re.match(pattern, key))), default=-1)
