"""Sizes that no config.json tells: read off the tensors' shapes, as fields of the configs."""

import collections
import re
from collections.abc import Iterable, Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]


def unet_fields(shapes: Shapes) -> dict[str, Any]:
    """Fields of a UNet's config.json. Heads and groups leave no trace in the shapes: they stay SD 1.5's."""
    levels = range(_count(shapes, r"down_blocks\.(\d+)\."))
    attention = [f"down_blocks.{i}.attentions.0.norm.weight" in shapes for i in levels]
    kinds = ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in attention]
    fields = {
        "block_out_channels": [shapes[f"down_blocks.{i}.resnets.0.conv1.weight"][0] for i in levels],
        "layers_per_block": _count(shapes, r"down_blocks\.0\.resnets\.(\d+)\."),
        "down_block_types": kinds,
        "up_block_types": [kind.replace("Down", "Up") for kind in reversed(kinds)],
        "in_channels": shapes["conv_in.weight"][1],
        "cross_attention_dim": next(s[1] for key, s in shapes.items() if key.endswith(".attn2.to_k.weight")),
    }
    if "conv_out.weight" in shapes:
        fields["out_channels"] = shapes["conv_out.weight"][0]
    return fields


def vae_fields(shapes: Shapes) -> dict[str, Any]:
    """Fields of a VAE's config.json."""
    levels = range(_count(shapes, r"encoder\.down_blocks\.(\d+)\."))
    return {
        "block_out_channels": [shapes[f"encoder.down_blocks.{i}.resnets.0.conv1.weight"][0] for i in levels],
        "layers_per_block": _count(shapes, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": shapes["decoder.conv_in.weight"][1],
    }


def motion_fields(shapes: Shapes) -> dict[str, Any]:
    """Fields of a MotionConfig. Heads leave no trace in the shapes: they stay AnimateDiff's 8."""
    return {
        "attention_blocks": _count(shapes, r".*\.attention_blocks\.(\d+)\."),
        "max_length": commonest(shape[1] for key, shape in shapes.items() if key.endswith(".pos_encoder.pe")),
        "in_middle": any(key.startswith("mid_block.") for key in shapes),
    }


def guidance_fields(shapes: Shapes) -> dict[str, Any]:
    """Fields of a GuidanceConfig. Heads and groups leave no trace in the shapes: they stay Champ's."""
    stages = _count(shapes, r"blocks\.(\d+)\.")
    return {
        "block_out_channels": [
            shapes["conv_in.weight"][0],
            *(shapes[f"blocks.{i}.weight"][0] for i in range(1, stages, 2)),
        ],
        "out_channels": shapes["conv_out.weight"][0],
    }


def commonest(items: Iterable[Any]) -> Any:
    """What most items are, so that one odd tensor does not speak for all; raises StopIteration if there are none."""
    return next(iter(collections.Counter(items).most_common(1)))[0]


def _count(shapes: Shapes, pattern: str) -> int:
    """One more than the greatest number that `pattern` captures at the beginning of a key."""
    return 1 + max((int(match[1]) for key in shapes if (match := re.match(pattern, key))), default=-1)
