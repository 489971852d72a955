"""The models that are measured: full size, and a toy for machines without an accelerator. Random weights."""

import jax
import jax.numpy as jnp
import numpy as np

from champ_jax.common.errors import InputError
from champ_jax.models.champ import COMPONENTS, ChampConfig
from champ_jax.models.clip import CLIPVisionConfig
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.motion_module import MotionConfig
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig

TOY = ChampConfig(
    unet=UNetConfig(block_out_channels=(32, 32, 64, 64), cross_attention_dim=64),
    motion=MotionConfig(),
    guidance=GuidanceConfig((16, 32, 32, 64), out_channels=32),
    vae=VAEConfig(block_out_channels=(32, 32, 32, 64)),
    image_encoder=CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        patch_size=32,
        projection_dim=64,
    ),
)
MODELS = {"full": ChampConfig(), "toy": TOY}


def model_config(name: str) -> ChampConfig:
    """The config named 'full' or 'toy'."""
    if name not in MODELS:
        raise InputError(f"--model={name}: choose {' or '.join(MODELS)}")
    return MODELS[name]


def random_weights(shapes: dict, seed: int = 0) -> dict:
    """Normal numbers of deviation 0.02 in the form of nested dicts of shapes; each shape's generator compiles once."""
    draws: dict[tuple, jax.Array] = {}

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        kind = (leaf.shape, leaf.dtype)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(*kind)
        if kind not in draws:  # the numbers do not matter, only that they are neither zero nor huge
            rng = np.random.default_rng(seed)
            draws[kind] = jnp.asarray(0.02 * rng.standard_normal(leaf.shape, np.float32), leaf.dtype)
        return draws[kind] + jnp.zeros((), leaf.dtype)

    return jax.tree.map(draw, shapes)


__all__ = ["COMPONENTS", "MODELS", "TOY", "model_config", "random_weights"]
