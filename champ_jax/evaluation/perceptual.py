"""LPIPS of a result, whole and in the person's region, where the published weights are given."""

import os

import jax
import numpy as np
from flax import nnx

from champ_jax.common.errors import InputError
from champ_jax.evaluation import network_weights
from champ_jax.evaluation.devices import pad_batch
from champ_jax.evaluation.networks.lpips import SMALLEST, to_range
from champ_jax.evaluation.regions import Values
from champ_jax.models.functional import PureNetwork

_NETWORKS = ("lpips_alex", "lpips_vgg")
_AT_ONCE = 8


class Perceptual:
    """The LPIPS networks of a folder, compiled.

    Args:
      folder: what `champ convert` wrote.

    Raises:
      InputError: the folder is missing, has none of them, or a file of it is damaged.
    """

    def __init__(self, folder: str | os.PathLike):
        loaded = {name: network_weights.load(folder, name) for name in _NETWORKS}
        self._networks = {name: _compiled(network) for name, network in loaded.items() if network is not None}
        if not self._networks:
            files = " or ".join(f"{name}.safetensors" for name in _NETWORKS)
            raise InputError(f"{folder}: has no {files}; `champ convert` makes them of the published files")
        self._smallest = max(SMALLEST[name.removeprefix("lpips_")] for name in self._networks)

    def measure(self, truth: np.ndarray, result: np.ndarray, inside: np.ndarray) -> dict[str, Values]:
        """Distances of frames (T, H, W, 3) uint8, and '_person': of the true frame with the result pasted into it
        inside a region (T, H, W), so that nothing else can differ.

        Raises:
          InputError: the frames are too small for the networks.
        """
        if min(truth.shape[1:3]) < self._smallest:
            raise InputError(
                f"frames of {truth.shape[2]}x{truth.shape[1]} are too small for LPIPS, which needs {self._smallest} "
                "pixels a side; leave out --lpips"
            )
        pasted = np.where(inside[..., None], result, truth)
        some = inside.any((1, 2))
        measures = {}
        for name, run in self._networks.items():
            measures[name] = Values.of(_in_batches(run, truth, result))
            measures[f"{name}_person"] = Values.of(np.where(some, _in_batches(run, truth, pasted), np.nan))
        return measures


def _compiled(module: nnx.Module):
    network, parameters = PureNetwork.split(module)

    @jax.jit
    def run(parameters: nnx.State, truth: jax.Array, result: jax.Array) -> jax.Array:
        return network.bind(parameters)(to_range(result), to_range(truth))

    return lambda truth, result: run(parameters, truth, result)


def _in_batches(run, truth: np.ndarray, result: np.ndarray) -> np.ndarray:
    found = []
    for start in range(0, len(truth), _AT_ONCE):
        pair = (side[start : start + _AT_ONCE] for side in (truth, result))
        found.append(np.asarray(run(*(pad_batch(side, _AT_ONCE) for side in pair)), np.float64))
    return np.concatenate(found)[: len(truth)]
