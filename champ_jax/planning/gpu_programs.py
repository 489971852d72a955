"""The programs of inference and training, lowered for a GPU that need not be there. Shapes stand for all arrays."""

from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from champ_jax.common.errors import InputError
from champ_jax.inference.programs import ProgramCache, abstract_network
from champ_jax.inference.settings import Settings
from champ_jax.models.champ import COMPONENTS, ChampConfig
from champ_jax.models.functional import PureNetwork
from champ_jax.planning.compiled_step import lower_step
from champ_jax.planning.gpus import Gpu
from champ_jax.training.initial_weights import load_initial
from champ_jax.training.sharding import make_mesh

INFERENCE = ("denoiser", "decoder", "conditions", "picture")
TRAINING = ("stage1", "stage2", "stage1_lora", "stage2_lora")
PROGRAMS = (*INFERENCE, *TRAINING)


def lower_inference(
    config: ChampConfig,
    program: str,
    device: jax.Device,
    size: tuple[int, int],
    frames: int,
    dtype: jax.typing.DTypeLike,
) -> jax.stages.Lowered:
    """Lowers a program of `champ_jax.animate` at its default settings.

    Args:
      config: The model's sizes.
      program: one of INFERENCE.
      device: The device, described or present.
      size: (width, height) of the video.
      frames: length of the clip; a window's at most.
      dtype: The dtype of parameters and computation.

    Raises:
      InputError: the model cannot make such a video.
    """
    settings = Settings(width=size[0], height=size[1])
    settings.check(config, config.conditions)
    if settings.size(config, (size[1], size[0])) != size:
        raise InputError(f"--size={size[0]}x{size[1]}: both must be multiples of {config.vae.downscale}")
    cache = ProgramCache(config, dtype, [device], None, None)
    parameters = {}
    for name in COMPONENTS:
        _, shapes = PureNetwork.split(abstract_network(name, config, dtype, cache.kernels(size)))
        parameters[name] = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cache.everywhere), shapes
        )
    _, _, recipes = cache.recipes(parameters, size, config.conditions, settings, frames)
    lower: Callable[[], jax.stages.Lowered] = next(recipe for key, recipe in recipes.items() if key[0] == program)
    return lower()


def lower_training(config: ConfigDict, device: jax.Device, gpu: Gpu) -> jax.stages.Lowered:
    """Lowers the step of a run on one GPU.

    Args:
      config: The config of the run; `init` is not read.
      device: The device, described or present.
      gpu: what it is, for the kernels that it would be given.

    Raises:
      InputError: the config contradicts itself.
    """
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.init = config.init_motion = ""
    network = load_initial(config, "gpu", gpu.compute_capability).network
    return lower_step(config, network, make_mesh(1, 1, [device]))
