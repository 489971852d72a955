"""What a run without arguments works on: a tiny untrained model, a picture and a motion of the open body."""

import hashlib
import zlib
from typing import Any

import numpy as np
from flax import nnx

from champ_jax.body.authored import load_authored
from champ_jax.body.motion import Motion
from champ_jax.body.smpl import BodyModel, load_body
from champ_jax.conditions import render_motion
from champ_jax.conditions.preview import preview
from champ_jax.models.champ import COMPONENTS, ChampConfig, build_component
from champ_jax.models.clip import CLIPVisionConfig
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.keys import InitKeys
from champ_jax.models.motion import position_table
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig
from champ_jax.weights.names import flatten, unflatten

SEED = 0
FRAMES = 24
HEIGHT = 128  # of the video, where none is asked for
NOTICE = (
    "note: no --config.weights given. The built-in model is tiny and untrained (random numbers from a fixed seed): the "
    "video will be noise and only shows that everything runs. Convert Champ's weights with tools/convert_weights.py"
)

CONFIG = ChampConfig(
    unet=UNetConfig(
        block_out_channels=(32, 64),
        layers_per_block=1,
        attention_levels=(True, False),
        heads=(4, 4),
        cross_attention_dim=32,
    ),
    guidance=GuidanceConfig(block_out_channels=(16, 16, 32, 32), out_channels=32, heads=4),
    vae=VAEConfig(block_out_channels=(32, 32, 32, 32), layers_per_block=1),
    image_encoder=CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        patch_size=32,
        projection_dim=32,
    ),
)
CHECKPOINT = "built-in-" + hashlib.sha256(f"{CONFIG} {SEED}".encode()).hexdigest()


def weights() -> dict[str, Any]:
    """Weights of the built-in model: kernels normal with variance 1 / fan-in, norms 1, biases 0, from SEED."""
    trees = {}
    for name in COMPONENTS:
        module = nnx.eval_shape(lambda name=name: build_component(name, CONFIG, rngs=InitKeys(SEED)))
        shapes = flatten(nnx.to_pure_dict(nnx.state(module)))
        trees[name] = unflatten((path, _value(name, path, leaf.shape)) for path, leaf in shapes)
    return trees


def motion() -> tuple[Motion, BodyModel]:
    """A wave of the hand, and the body that makes it."""
    return load_authored("wave")[:FRAMES], load_body()


def picture() -> np.ndarray:
    """The same body, shaded, in the motion's first pose: (H, W, 3) uint8."""
    moves, body = motion()
    normal = render_motion(moves, body, frames=slice(0, 1), conditions=("normal",))[0]["normal"]
    return preview(normal)


def _value(component: str, path: tuple[Any, ...], shape: tuple[int, ...]) -> np.ndarray:
    if path[-1] == "pe":
        return position_table(shape[1], shape[2])
    if path[-1] == "scale":
        return np.ones(shape, np.float32)
    if path[-1] == "bias":
        return np.zeros(shape, np.float32)
    seed = zlib.crc32(f"{SEED}/{component}/{'.'.join(map(str, path))}".encode())
    draw = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return draw / np.float32(np.sqrt(max(np.prod(shape[:-1]), 1)))
