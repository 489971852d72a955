"""The models behind tests/golden/model: random weights that follow from a rule, in the users' layout.

A tensor's value depends only on its file's stem and its key (tests/golden/README.md), so that the numbers in
tests/golden/model can be checked without storing the weights that made them.
"""

import functools
import json
import math
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from safetensors.torch import save_file

from champ_jax.weights.names import tensor_names, unflatten

GOLDEN = Path(__file__).parent / "golden" / "model"
CONDITIONS = ("depth", "normal", "semantic_map", "dwpose")

# The output of residual branches is kept small, which keeps the networks well conditioned.
_RESIDUAL_OUTPUTS = ("conv2.weight", "to_out.0.weight", "ff.net.2.weight", "proj_out.weight")
_OLD_VAE_NAMES = (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn"))


@functools.cache
def key_shapes() -> dict[str, dict[str, tuple[tuple[int, ...], str]]]:
    """{file stem: {key: (shape, 'float' | 'pe' | 'int64')}} of the tiny models."""
    stems = json.loads((GOLDEN / "key_shapes.json").read_text())
    return {stem: {key: (tuple(shape), kind) for key, (shape, kind) in keys.items()} for stem, keys in stems.items()}


@functools.cache
def configs() -> dict[str, dict]:
    """The config.json of 'unet', 'vae' and 'image_encoder'."""
    return json.loads((GOLDEN / "configs.json").read_text())


def value(stem: str, key: str, shape: tuple[int, ...], kind: str = "float", salt: str = "champ") -> np.ndarray:
    """One tensor, of any size: float16, float32 for a position table ('pe'), int64 for an index ('int64')."""
    if kind == "int64":
        return np.broadcast_to(np.arange(shape[-1]), shape).copy()
    if kind == "pe":
        return _position_table(shape)
    normal = np.random.default_rng(zlib.crc32(f"{salt}/{stem}/{key}".encode())).standard_normal(shape)
    if key.endswith(".bias"):
        normal = 0.1 * normal
    elif len(shape) >= 2:
        normal = normal / np.sqrt(np.prod(shape[1:]))
        if key.endswith(_RESIDUAL_OUTPUTS):
            normal = 0.3 * normal
        if key == "conv_out.weight" and stem.startswith("guidance_encoder"):
            normal = 0.25 * normal
        if key == "decoder.conv_out.weight":
            normal = 0.4 * normal
    elif key.endswith(".weight"):
        normal = 1 + 0.1 * normal
    else:
        normal = 0.5 * normal
    return np.asarray(normal).astype(np.float16)


def _position_table(shape: tuple[int, ...]) -> np.ndarray:
    # In torch: its float32 sine differs from numpy's in the last bit.
    _, length, width = shape
    angle = torch.arange(length).unsqueeze(1) * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    table = torch.zeros(shape)
    table[0, :, 0::2] = torch.sin(angle)
    table[0, :, 1::2] = torch.cos(angle)
    return table.numpy()


def state_dict(stem: str, salt: str = "champ") -> dict[str, np.ndarray]:
    """{key: array} as PyTorch orders it. Stems: reference_unet, denoising_unet, motion_module,
    guidance_encoder_{depth,normal,semantic_map,dwpose,full}, vae, image_encoder."""
    return {key: value(stem, key, shape, kind, salt) for key, (shape, kind) in key_shapes()[stem].items()}


def with_old_vae_names(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The VAE's tensors under the names that files had before diffusers 0.18."""
    renamed = {}
    for key, array in state.items():
        for new, old in _OLD_VAE_NAMES:
            if ".attentions." in key:
                key = key.replace(new, old)
        renamed[key] = array
    return renamed


def write_pretrained_models(out: str | Path, old_vae_names: bool = False, salt: str = "champ") -> Path:
    """Writes the users' `pretrained_models/` tree of the tiny models to `out` (about 4 MB) and returns it."""
    out = Path(out)
    for stem in key_shapes():
        if stem == "guidance_encoder_full":  # a module's test, no part of the tree
            continue
        state = state_dict(stem, salt)
        if stem == "vae" and old_vae_names:
            state = with_old_vae_names(state)
        places = {
            "vae": "sd-vae-ft-mse/diffusion_pytorch_model.safetensors",
            "image_encoder": "image_encoder/pytorch_model.bin",
        }
        write_state(out / places.get(stem, f"champ/{stem}.pth"), state)
    for name, folder in (("unet", "stable-diffusion-v1-5/unet"), ("vae", "sd-vae-ft-mse"), ("image_encoder",) * 2):
        (out / folder).mkdir(parents=True, exist_ok=True)
        (out / folder / "config.json").write_text(json.dumps(configs()[name], indent=1))
    return out


def write_state(path: str | Path, state: Mapping[str, np.ndarray]) -> Path:
    """Writes tensors as the suffix of `path` says: .safetensors, or a pickle of torch tensors."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: torch.from_numpy(array) for key, array in state.items()}
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def load(build: Callable[[], nnx.Module], state: Mapping[str, np.ndarray]) -> nnx.Module:
    """The module that `build` makes, with PyTorch's tensors in float32; every tensor must have a place."""
    graph, have = nnx.split(build())
    names = tensor_names(nnx.to_pure_dict(have))
    assert set(names) == set(state)
    for name in names.values():
        assert name.accepts(state[name.key].shape), name
    leaves = [
        (name.path, jnp.asarray(name.to_flax(state[key], np.float32 if state[key].dtype.kind == "f" else np.int32)))
        for key, name in names.items()
    ]
    nnx.replace_by_pure_dict(have, unflatten(leaves))
    return nnx.merge(graph, have)
