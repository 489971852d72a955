"""A whole model as one small file, to ship with a package: every parameter that is read, bfloat16, as .safetensors.

Tensors have their dotted paths; the metadata hold, as JSON, the sizes (`ChampConfig.to_json`), the shapes of tensors
that are left out because nothing reads them, and of position tables, which are computed.
"""

import json
import math
import os
from typing import Any

import ml_dtypes
import numpy as np
import safetensors.numpy
from flax import nnx

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path, parse_json
from champ_jax.models.champ import Champ, ChampConfig
from champ_jax.models.functional import Unused
from champ_jax.models.motion_module import position_table
from champ_jax.weights.flat import Flat, dotted, from_components, to_components
from champ_jax.weights.tensor_files import open_tensors
from champ_jax.weights.work_folder import RunCheckpoint

_LARGEST = 2**28  # elements of a tensor that is not stored


def pack_run(workdir: str | os.PathLike, path: str | os.PathLike) -> None:
    """Packs the newest weights of a stage-2 work folder, their average if there is one.

    Raises:
      InputError: no such run, or one without motion modules.
    """
    snapshot = RunCheckpoint.find(workdir)
    if snapshot.model.motion is None:
        raise InputError(f"{workdir}: is not a stage-2 run; its model has no motion modules")
    pack(path, snapshot.model, from_components(snapshot.load()))


def pack(path: str | os.PathLike, model: ChampConfig, arrays: Flat) -> None:
    """Writes a model.

    Args:
      path: the .safetensors file.
      model: its sizes, with motion modules.
      arrays: {dotted path: array} of all its variables.
    """
    unread = _unread(model)
    tables = {name for name in arrays if name.endswith(".pe")}
    stored = {
        name: array.astype(ml_dtypes.bfloat16) if array.dtype == np.float32 else array
        for name, array in arrays.items()
        if name not in unread | tables
    }
    shapes = {kind: {name: arrays[name].shape for name in names} for kind, names in (("zeros", unread), ("pe", tables))}
    metadata = {name: json.dumps(value) for name, value in ({"model": model.to_json()} | shapes).items()}
    with atomic_path(path) as temporary:
        safetensors.numpy.save_file(stored, temporary, metadata=metadata)


def is_packed(path: str | os.PathLike) -> bool:
    """Whether a .safetensors file is a packed model."""
    with open_tensors(path) as file:
        return "model" in file.metadata


def read_model(path: str | os.PathLike) -> ChampConfig:
    """The sizes of a packed model."""
    return ChampConfig.from_json(_metadata(path)["model"])


def unpack(path: str | os.PathLike) -> dict[str, Any]:
    """{component: pure nested dict of arrays} of a packed model, float32; what nothing reads is 0."""
    metadata = _metadata(path)
    arrays: Flat = {name: np.zeros(shape, np.float32) for name, shape in metadata["zeros"].items()}
    arrays |= {name: position_table(shape[1], shape[2]) for name, shape in metadata["pe"].items()}
    with open_tensors(path) as file:
        for name in file.tensors:
            array = file.read(name)
            arrays[name] = array if array.dtype.kind == "i" else array.astype(np.float32)
    return to_components(arrays)


def size_of(path: str | os.PathLike) -> tuple[int, int]:
    """(parameters, bytes) of a packed model."""
    with open_tensors(path) as file:
        return sum(math.prod(info.shape) for info in file.tensors.values()), os.path.getsize(path)


def _unread(model: ChampConfig) -> set[str]:
    """The dotted paths of the variables that users' files hold and that no network reads."""
    state = nnx.state(Champ(model))
    return {dotted(path) for path, variable in nnx.to_flat_state(state) if isinstance(variable, Unused)}


def _metadata(path: str | os.PathLike) -> dict[str, Any]:
    """The metadata as values: model (a dict), zeros and pe ({dotted path: shape}).

    Raises:
      InputError: the file holds no packed model, or shapes that no model has.
    """
    with open_tensors(path) as file:
        texts = file.metadata
    if not {"model", "zeros", "pe"} <= set(texts):
        raise InputError(f"{path}: is not a packed model; make one with tools/pack_model.py")
    values = {name: parse_json(texts[name], f"{path}: {name}") for name in ("model", "zeros", "pe")}
    if not all(isinstance(value, dict) for value in values.values()):
        raise InputError(f"{path}: is damaged (its metadata are not objects); pack the model again")
    for name, shape in (values["zeros"] | values["pe"]).items():
        sides = shape if isinstance(shape, list) and all(type(side) is int and side > 0 for side in shape) else [0]
        if not 0 < math.prod(sides) <= _LARGEST or (name in values["pe"] and len(sides) != 3):
            raise InputError(f"{path}: is damaged ({name} has shape {str(shape)[:60]}); pack the model again")
    return values
