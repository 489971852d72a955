"""The golden tiny networks as Flax modules, and the comparison every golden test makes.

`pytest -m parity --errors=FILE` writes what the comparisons found (tests/conftest.py).
"""

import functools
from collections.abc import Mapping

import golden_weights
import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from champ_jax.models.champ import Champ, ChampConfig, build_component
from champ_jax.models.clip import CLIPVisionConfig
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.motion_module import MotionConfig
from champ_jax.models.options import NetworkOptions
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig
from champ_jax.weights.names import flatten, tensor_names, unflatten

CONFIG = ChampConfig(
    unet=UNetConfig.from_json(golden_weights.configs()["unet"]),
    motion=MotionConfig(max_length=32),
    guidance=GuidanceConfig((16, 32, 32, 64), out_channels=32),
    vae=VAEConfig.from_json(golden_weights.configs()["vae"]),
    image_encoder=CLIPVisionConfig.from_json(golden_weights.configs()["image_encoder"]),
)


COMPARED: list[float] = []
"""Every error that a comparison has found in this process; tests/conftest.py takes those of each test."""


def golden(name: str) -> dict[str, np.ndarray]:
    """tests/golden/model/NAME.npz as a dict; a training golden gets its `guidance_cond` (B, 12, F, H, W) float16."""
    with np.load(golden_weights.GOLDEN / f"{name}.npz") as file:
        arrays = dict(file)
    if name.startswith("g_train") and name.endswith("uncond0"):
        samples, _, frames, height, width = arrays["latents"].shape
        shape = (samples, 12, frames, 8 * height, 8 * width)
        arrays["guidance_cond"] = torch.rand(shape, generator=torch.Generator().manual_seed(95)).half().numpy()
    return arrays


def relative(ours: jax.Array, theirs: np.ndarray) -> float:
    """|ours - theirs| / |theirs| in float64, and the shapes agree."""
    return distance(ours, theirs, np.linalg.norm(np.asarray(theirs, np.float64)))


def distance(ours: jax.Array, theirs: np.ndarray, scale: float) -> float:
    """|ours - theirs| / scale in float64, and the shapes agree."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    COMPARED.append(float(np.linalg.norm(ours - theirs) / scale))
    return COMPARED[-1]


def channels_last(x: np.ndarray) -> jax.Array:
    """(B, C, ...) -> (B, ..., C)."""
    return jnp.moveaxis(jnp.asarray(np.asarray(x)), 1, -1)


def fill(abstract: nnx.Module, tensors: Mapping[str, np.ndarray]) -> nnx.Module:
    """A module of `abstract`'s form with PyTorch-named tensors in it, all of them and nothing else."""
    graph, state = nnx.split(abstract)
    names = tensor_names(nnx.to_pure_dict(state))
    assert set(names) == set(tensors)
    leaves = ((name.path, jnp.asarray(name.to_flax(tensors[key], np.float32))) for key, name in names.items())
    nnx.replace_by_pure_dict(state, unflatten(leaves))
    return nnx.merge(graph, state)


@functools.cache
def tensors(component: str) -> dict[str, np.ndarray]:
    """PyTorch-named tensors of a component ('denoising_unet' includes the motion modules)."""
    state = golden_weights.state_dict(component)
    return {**state, **golden_weights.state_dict("motion_module")} if component == "denoising_unet" else state


def build(component: str, config: ChampConfig = CONFIG, **options) -> nnx.Module:
    """A component of COMPONENTS with the golden weights."""
    module = build_component(component, config, NetworkOptions(**options))
    if component == "guidance":
        for condition, encoder in module.encoders.items():
            module.encoders[condition] = fill(encoder, golden_weights.state_dict(f"guidance_encoder_{condition}"))
        return module
    wanted = tensor_names(nnx.to_pure_dict(nnx.state(module)))
    return fill(module, {key: value for key, value in tensors(component).items() if key in wanted})


def build_champ(config: ChampConfig = CONFIG, **options) -> Champ:
    """ReferenceNet, denoiser and guidance encoders with the golden weights."""
    components = ("reference_unet", "denoising_unet", "guidance")
    champ = Champ(config, NetworkOptions(**options), components=components)
    for component in components:
        setattr(champ, component, build(component, config, **options))
    return champ


__all__ = [
    "CONFIG",
    "build",
    "build_champ",
    "channels_last",
    "distance",
    "fill",
    "flatten",
    "golden",
    "relative",
    "tensors",
]
