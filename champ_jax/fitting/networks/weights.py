"""The weights of the networks, as the package ships them."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.common.errors import InputError
from champ_jax.fitting.networks.layers import nested
from champ_jax.weights.tensor_files import open_tensors

FOLDER = Path(__file__).parents[2] / "assets" / "pose_networks"


@functools.cache
def load_weights(name: str) -> dict[str, Any]:
    """The weights of a network of this package, as float32 (most are stored as float16).

    Args:
      name: 'person_detector', 'pose_landmarks', 'hand_landmarks', 'hand_recrop' or 'face_mesh'.

    Raises:
      InputError: the file is missing or damaged; it says that the package is to be installed again.
    """
    try:
        with open_tensors(FOLDER / f"{name}.safetensors") as file:
            return nested({key: file.read(key).astype(np.float32) for key in file.tensors})
    except InputError as error:
        raise InputError(f"{error}; it belongs to champ_jax: install the package again") from error
