"""A run's first parameters: from a checkpoint, another run or a packed model, and initial values for what they lack."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from champ_jax.common.errors import InputError
from champ_jax.common.files import find_type, require_folder
from champ_jax.models.champ import ChampConfig
from champ_jax.models.initial_values import initial_value
from champ_jax.models.motion_module import MotionConfig
from champ_jax.training.config import DTYPES, kernels, model_sizes, schedule_of
from champ_jax.training.parameters import LORA, Lora, Network
from champ_jax.training.sharding import parameter_shardings
from champ_jax.weights.flat import Flat, from_components
from champ_jax.weights.motion_files import read_motion_modules
from champ_jax.weights.opening import open_weights

MOTION = ".motion_modules."


@dataclasses.dataclass(frozen=True)
class Initial:
    """What a run starts from.

    Attributes:
      model: what the run's weights will be: the sizes trained and, in stage 1, of motion modules carried along.
      network: what is trained.
      arrays: values of the network's variables by name, as far as they were given; numpy.
      carried: values by name of what the network does not have and the run's weights will (motion modules in stage 1).
      notes: what was initialized or left out, in words.
    """

    model: ChampConfig
    network: Network
    arrays: Flat
    carried: Flat
    notes: tuple[str, ...]


def load_initial(config: ConfigDict, platform: str | None = None, compute_capability: str | None = None) -> Initial:
    """Reads `config.init` and `config.init_motion` and says what the run trains.

    Args:
      config: The config of the run.
      platform: The platform to build the network for; None: JAX's default backend.
      compute_capability: The capability of its GPU, as '9.0'; None: that of the one that is present.

    Raises:
      InputError: no such weights, weights that contradict `config.model` or the network; names what.
    """
    if config.trainable == "decoder" and not config.init:
        raise InputError("trainable=decoder: without init there is no encoder whose latents it could learn")
    sizes, arrays = _load(config.init, "init") if config.init else (model_sizes(config), {})
    motion_notes: tuple[str, ...] = ()
    if config.init and config.model:
        sizes = _reconcile(sizes, model_sizes(config), config.init)
    if config.init_motion:
        motion_sizes, motion, motion_notes = _load_motion(config.init_motion, sizes)
        arrays = {name: array for name, array in arrays.items() if MOTION not in name} | motion
        sizes = dataclasses.replace(sizes, motion=motion_sizes)
    if config.stage == 2 and sizes.motion is None:
        sizes = dataclasses.replace(sizes, motion=model_sizes(config).motion or MotionConfig())
    schedule = schedule_of(config)
    sizes = dataclasses.replace(sizes, conditions=tuple(config.conditions), inference=schedule, training=schedule)
    network = build_network(config, sizes, platform, compute_capability)
    arrays, carried, notes = _match(network, arrays, config.init)
    notes = (*motion_notes, *notes)
    has_motion = config.stage == 2 or any(MOTION in name for name in carried)
    return Initial(sizes if has_motion else network.config, network, arrays, carried, notes)


def build_network(
    config: ConfigDict, model: ChampConfig, platform: str | None = None, compute_capability: str | None = None
) -> Network:
    """What the run trains of `model`; only stage 2 has its motion modules.

    Raises:
      InputError: there is nothing to train, or a target of `config.lora` names no layer.
    """
    if config.stage < 2:
        model = dataclasses.replace(model, motion=None)
    chosen = kernels(config, model, platform, compute_capability)
    return Network.build(
        model,
        config.trainable,
        lora=Lora.of(config) if config.trainable == LORA else None,
        kernels=chosen,
        remat=config.remat,
        dtype=DTYPES[config.dtype],
    )


def _load(path: str, field: str) -> tuple[ChampConfig, Flat]:
    """The model and arrays of a checkpoint directory, a work folder or a packed model."""
    try:
        if not Path(path).is_file():
            require_folder(path)
        weights = open_weights(path)
    except InputError as error:
        raise InputError(f"{field}={error}") from error
    return weights.model, from_components(weights.load())


def _load_motion(path: str, sizes: ChampConfig) -> tuple[MotionConfig, Flat, tuple[str, ...]]:
    """The motion modules' sizes, their arrays, and notes: of a file that holds nothing else, or of other weights."""
    if find_type(path) == "file":
        try:
            motion, arrays, notes = read_motion_modules(path, sizes)
        except InputError as error:
            raise InputError(f"init_motion={path}: {str(error).removeprefix(f'{path}: ')}") from error
        return motion, arrays, tuple(notes)
    given, arrays = _load(path, "init_motion")
    if given.motion is None:
        raise InputError(f"init_motion={path}: has no motion modules")
    return given.motion, {name: array for name, array in arrays.items() if MOTION in name}, ()


def _reconcile(given: ChampConfig, asked: ChampConfig, path: str) -> ChampConfig:
    """The sizes of a checkpoint with what `config.model` may say otherwise: whether the guidance encoders attend.

    Raises:
      InputError: the networks of the checkpoint are not those of config.model. Motion modules may be missing, and the
        latents' scaling factor is the checkpoint's.
    """
    vae = dataclasses.replace(asked.vae, scaling_factor=given.vae.scaling_factor)
    guidance = dataclasses.replace(given.guidance, attention=asked.guidance.attention)
    asked, given = dataclasses.replace(asked, vae=vae), dataclasses.replace(given, guidance=guidance)
    for field in ("unet", "guidance", "vae", "image_encoder"):
        if getattr(given, field) != getattr(asked, field):
            raise InputError(
                f"model.{field}: the config says {getattr(asked, field)}, init={path} holds {getattr(given, field)}; "
                "use a config without model sizes (configs/stage1.py) to take those of the checkpoint"
            )
    return given


def _match(network: Network, arrays: Flat, path: str) -> tuple[Flat, Flat, tuple[str, ...]]:
    """Splits given arrays into the network's and those carried along; checks that only whole parts are missing."""
    if not arrays:
        return {}, {}, ("all parameters are initialized",)
    shapes, notes = {name: network.shapes[name] for name in network.variables}, []
    known = {name: array for name, array in arrays.items() if name in shapes}
    others = {name: array for name, array in arrays.items() if name not in shapes}
    carried = {name: array for name, array in others.items() if MOTION in name}
    encoders = sorted({_part(name) for name in others if _part(name).startswith("guidance.")})
    notes += [f"{part}: not among the run's conditions, left out" for part in encoders]
    unexpected = [name for name in others if name not in carried and _part(name) not in encoders]
    missing = [name for name in shapes if name not in known]
    given_parts = {_part(name) for name in known}
    for part in sorted({_part(name) for name in missing} - given_parts):
        if path and not (part.startswith("guidance.") or part == "motion modules"):
            raise InputError(f"init={path}: has no {part}")
        notes.append(f"{part}: not in init={path}, initialized" if path else f"{part}: initialized")
    problems = [f"{name} is missing" for name in missing if _part(name) in given_parts]
    problems += [f"{name} is unexpected" for name in unexpected]
    problems += [
        f"{name} is {tuple(known[name].shape)}, the model has {shapes[name].shape}"
        for name in known
        if tuple(known[name].shape) != shapes[name].shape
    ]
    if problems:
        raise InputError(f"init={path}: {'; '.join(problems[:5])}" + (" ..." if len(problems) > 5 else ""))
    return known, carried, tuple(notes)


def _part(name: str) -> str:
    """The part of a model that is given or initialized as a whole, in words."""
    if MOTION in name:
        return "motion modules"
    names = name.split(".")
    return ".".join(names[:3]) if names[0] == "guidance" else names[0]


def create_parameters(network: Network, arrays: Flat, seed: int, mesh: Mesh) -> Flat:
    """Values for every variable of the network, created with their final shardings: the given ones, and initial values
    for the others.

    Every process has or makes the whole of one array at a time and puts its devices' share of it on them.
    """
    shapes = network.shapes
    shardings = parameter_shardings(shapes, mesh)
    placed: Flat = {}
    for name, shape in shapes.items():
        value = arrays[name] if name in arrays else initial_value(name, shape.shape, seed)
        value = np.asarray(value, shape.dtype)
        placed[name] = jax.make_array_from_callback(shape.shape, shardings[name], value.__getitem__)
    return placed
