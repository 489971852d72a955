"""The model, the pictures and the motions that come with the package: what a run without arguments works on.

The model lies in assets/model/model.safetensors: every parameter that is read, bfloat16, by dotted path; its metadata
hold the sizes, the names of tensors that are left out because nothing reads them, and of tables that are computed.
`tools/train_builtin.py` trains it and writes the file.
"""

import functools
import hashlib
import json
import math
import os
from importlib import resources
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors.numpy

from champ_jax.body.motion import Motion
from champ_jax.body.smpl import BodyModel, load_body
from champ_jax.errors import InputError
from champ_jax.files import atomic_path
from champ_jax.media import read_image
from champ_jax.models.champ import ChampConfig
from champ_jax.models.motion import position_table
from champ_jax.training.checkpoints import Snapshot
from champ_jax.training.parameters import Network, from_components, to_components
from champ_jax.weights.readers import open_tensors

ASSETS = Path(str(resources.files("champ_jax"))) / "assets"
MODEL = ASSETS / "model" / "model.safetensors"
PEOPLE = ASSETS / "people"  # PERSON/{reference.png, motion.npz, truth.mp4}, none of whom the model was trained on

HEIGHT = 128  # of the video, where none is asked for: what the model was trained on
STEPS = 10
GUIDANCE_SCALE = 1.5
NOTICE = (
    "note: no --config.weights given. The built-in model is a small one, trained on synthetic people at 128x128 "
    "(docs/results.md): it shows how the system works and knows no real people. Convert Champ's weights with "
    "tools/convert_weights.py"
)


@functools.cache
def config() -> ChampConfig:
    """Sizes and schedules of the built-in model."""
    return ChampConfig.from_json(_metadata(MODEL)["model"])


@functools.cache
def identity() -> str:
    """A hash of the built-in model's file."""
    return "built-in-" + hashlib.sha256(MODEL.read_bytes()).hexdigest()


def weights() -> dict[str, Any]:
    """{component: pure nested dict of arrays} of the built-in model."""
    return unpack(MODEL)


def pack(workdir: str | os.PathLike, path: str | os.PathLike) -> ChampConfig:
    """Writes the newest weights of a stage-2 work folder (their average, if there is one) as one file.

    Returns:
      The model's sizes.

    Raises:
      InputError: no such run, or one without motion modules.
    """
    snapshot = Snapshot.find(workdir)
    if snapshot.model.motion is None:
        raise InputError(f"{workdir}: is no stage-2 run; its model has no motion modules")
    arrays = from_components(snapshot.load())
    unread = Network.build(snapshot.model, "stage2").unused
    zeros = {name: list(arrays.pop(name).shape) for name in unread}
    tables = {name: list(arrays.pop(name).shape) for name in list(arrays) if name.endswith(".pe")}
    stored = {
        name: array.astype(ml_dtypes.bfloat16) if array.dtype == np.float32 else array for name, array in arrays.items()
    }
    metadata = {"model": snapshot.model.to_json(), "zeros": zeros, "tables": tables, "step": snapshot.step}
    with atomic_path(path) as temporary:
        safetensors.numpy.save_file(
            stored, temporary, metadata={name: json.dumps(value) for name, value in metadata.items()}
        )
    return snapshot.model


def unpack(path: str | os.PathLike) -> dict[str, Any]:
    """{component: pure nested dict of arrays} of a file that `pack` wrote, float32."""
    metadata = _metadata(path)
    arrays: dict[str, np.ndarray] = {name: np.zeros(shape, np.float32) for name, shape in metadata["zeros"].items()} | {
        name: position_table(shape[1], shape[2]) for name, shape in metadata["tables"].items()
    }
    with open_tensors(path) as file:
        for name in file.tensors:
            array = file.read(name)
            arrays[name] = array if array.dtype.kind == "i" else array.astype(np.float32)
    return to_components(arrays)


def people() -> list[str]:
    """Names of the held-out people that come with the package."""
    return sorted(path.name for path in PEOPLE.iterdir() if path.is_dir())


def picture() -> np.ndarray:
    """The first held-out person: (H, W, 3) uint8."""
    return read_image(PEOPLE / people()[0] / "reference.png")


def motion() -> tuple[Motion, BodyModel]:
    """What that person does, and the body that does it."""
    return Motion.load(PEOPLE / people()[0] / "motion.npz"), load_body()


def _metadata(path: str | os.PathLike) -> dict[str, Any]:
    """The JSON that `pack` wrote into the file's header."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {name: json.loads(value) for name, value in header["__metadata__"].items()}


def size_of(path: str | os.PathLike) -> tuple[int, int]:
    """(parameters, bytes) of a packed model."""
    with open_tensors(path) as file:
        count = sum(math.prod(info.shape) for info in file.tensors.values())
    return count, os.path.getsize(path)
