#!/usr/bin/env python3
"""Writes a full-size `pretrained_models/` tree of random tensors: 10.3 GB in float32, half that in float16.

  python tests/make_full_size_tree.py --output=DIR [--dtype=float16]

The files have the keys, shapes and formats of the published ones; the values are noise, and a tensor's depend on its
key only (`noise`), so that any one can be checked.
"""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import golden_weights
import numpy as np
from weights_trees import LAYOUTS

from champ_jax.common.cli import Parser, run
from champ_jax.common.limits import require_space
from champ_jax.models.champ import ChampConfig

_NOISE = np.random.default_rng(0).standard_normal(2**20).astype(np.float32) / 64
FILES = {
    **{f"champ/{stem}.pth": stem for stem in ("reference_unet", "denoising_unet", "motion_module")},
    **{f"champ/guidance_encoder_{name}.pth": "guidance_encoder" for name in golden_weights.CONDITIONS},
    "sd-vae-ft-mse/diffusion_pytorch_model.safetensors": "vae_old_names",
    "image_encoder/pytorch_model.bin": "image_encoder",
}


def noise(key: str, shape: Sequence[int], dtype: str) -> np.ndarray:
    """The tensor under `key`: the same noise for all, begun at a place of the key's own."""
    if key.endswith("position_ids"):
        return np.arange(shape[-1])[None]
    start = zlib.crc32(key.encode()) % _NOISE.size
    return np.resize(np.roll(_NOISE, -start), shape).astype(dtype)


def write_full_size_tree(out: Path, dtype: str = "float32") -> Path:
    """Writes the tree to `out` and returns it; holds one file in memory at a time."""
    for place, layout in FILES.items():
        state = {key: noise(key, shape, dtype) for key, shape in LAYOUTS[layout].items()}
        golden_weights.write_state(out / place, state)
        del state
    for folder, fields in (
        ("stable-diffusion-v1-5/unet", ChampConfig().unet.to_json()),
        ("sd-vae-ft-mse", ChampConfig().vae.to_json()),
        ("image_encoder", ChampConfig().image_encoder.to_json()),
    ):
        (out / folder).mkdir(parents=True, exist_ok=True)
        (out / folder / "config.json").write_text(json.dumps(fields))
    return out


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16"])
    arguments = parser.parse_args(argv)
    require_space(arguments.output, 11 * 10**9)
    write_full_size_tree(arguments.output, arguments.dtype)


if __name__ == "__main__":
    run(main)
