"""HMR 2.0's weights: the checkpoint that 4D-Humans publishes -> one .safetensors file, and that file -> a network.

Tensors of the file have their dotted paths in the Flax state; its metadata hold, as JSON, the sizes (`HMR2Config`). The
mean parameters come from the checkpoint. What a checkpoint holds besides (the body, the discriminator, the state of the
training) is passed over.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from flax import nnx

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path, find_type, parse_json
from champ_jax.common.limits import require_memory
from champ_jax.common.outputs import Kind, Output, claim
from champ_jax.common.ranges import Choice
from champ_jax.fitting.hmr2.network import HMR2, HMR2Config
from champ_jax.models.functional import PureNetwork, fill
from champ_jax.weights.checkpoint import DTYPES
from champ_jax.weights.conversion_plan import Part
from champ_jax.weights.convert import read_file
from champ_jax.weights.flat import dotted
from champ_jax.weights.names import TensorName, flatten, tensor_names, unflatten
from champ_jax.weights.part_files import PartFile
from champ_jax.weights.tensor_files import open_tensors

PUBLISHED = "logs/train/multiruns/hmr2/0/checkpoints/epoch=35-step=1000000.ckpt of hmr2_data.tar.gz"
"""The published checkpoint."""

_WHERE = (
    "HMR2's weights are published by https://github.com/shubham-goel/4D-Humans "
    f"({PUBLISHED}); `champ convert --source=CHECKPOINT --output=hmr2.safetensors` converts them"
)
_EVIDENCE = ("backbone.pos_embed", "smpl_head.decpose.weight")  # keys that no other checkpoint has together
_METADATA = "hmr2"  # the name of the sizes in a converted file


def is_published(path: str | os.PathLike) -> bool:
    """Whether a file is a checkpoint of HMR 2.0.

    Raises:
      InputError: the file is no weights file; as `open_tensors`.
    """
    if find_type(path) != "file":
        return False
    with open_tensors(path) as file:
        return all(key in file.tensors for key in _EVIDENCE)


def _is_converted(path: Path) -> bool:
    with open_tensors(path) as file:
        return _METADATA in file.metadata


CONVERTED = Kind("HMR2's converted weights", _is_converted)


def names_of(config: HMR2Config) -> dict[str, TensorName]:
    """{key in the checkpoint: TensorName} of all tensors of the network."""
    return tensor_names(nnx.to_pure_dict(nnx.state(HMR2(config))))


def convert(
    source: str | os.PathLike,
    output: str | os.PathLike,
    *,
    dtype: str = "float32",
    config: HMR2Config = HMR2Config(),  # noqa: B008 (frozen)
) -> list[str]:
    """Converts a checkpoint.

    Args:
      source: a checkpoint of PyTorch Lightning, or the bare tensors in any of PyTorch's files.
      output: the .safetensors file to write or replace.
      dtype: 'float32' or 'bfloat16', of the arrays written.
      config: the sizes of the network.

    Returns:
      What was read and what was passed over, a line each.

    Raises:
      InputError: `source` is unreadable; tensors are missing, unexpected, misshapen or not finite; `output` may not be
        written over, or cannot be written.
    """
    Choice(*DTYPES).check("--dtype", dtype)
    names = names_of(config)
    with open_tensors(source) as file:
        found = PartFile(Path(source), {key: key for key in file.tensors}, file.tensors, file.others)
    part = Part("hmr2", "hmr2", names, found.limited_to(names))
    if problems := part.problems():
        raise InputError(f"the tensors do not fit HMR2. {problems}")
    size = part.parameters * DTYPES[dtype].itemsize
    claim([Output("--output", output, CONVERTED, int(1.05 * size))], [source])
    require_memory(size, str(source), "convert it on a machine with more, or with --dtype=bfloat16")
    assert part.source is not None
    arrays = {dotted(path): array for path, array in read_file(part.names, part.source, dtype)}
    with atomic_path(output) as temporary:
        metadata = {_METADATA: json.dumps(config.to_json())}
        safetensors.numpy.save_file(arrays, temporary, metadata=metadata)
    return [f"hmr2: {len(names)} tensors, {part.parameters:,} parameters from {part.origin}", *part.source.notes()]


def load(path: str | os.PathLike) -> tuple[PureNetwork, nnx.State]:
    """The network of a converted file, and its parameters in float32, for `models.functional.PureNetwork.bind`.

    Raises:
      InputError: the file is missing, damaged or another one; says where HMR2's weights are published.
    """
    try:
        return _load(Path(path))
    except InputError as error:
        raise InputError(f"{error}; {_WHERE}") from error


def _load(path: Path) -> tuple[PureNetwork, nnx.State]:
    with open_tensors(path) as file:
        if _METADATA not in file.metadata:
            what = "is not converted yet" if all(key in file.tensors for key in _EVIDENCE) else "is not HMR2's weights"
            raise InputError(f"{path}: {what}")
        fields = parse_json(file.metadata[_METADATA], f"{path}: {_METADATA}")
        try:
            network, parameters = PureNetwork.split(HMR2(HMR2Config.from_json(fields)))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        shapes = {dotted(name): tuple(leaf.shape) for name, leaf in flatten(nnx.to_pure_dict(parameters))}
        if {name: info.shape for name, info in file.tensors.items()} != shapes:
            differ = [name for name in shapes if name not in file.tensors or file.tensors[name].shape != shapes[name]]
            raise InputError(f"{path}: does not hold the tensors that its sizes ask for ({[*differ, 'too many'][0]})")
        size = 4 * sum(int(np.prod(shape)) for shape in shapes.values())
        require_memory(size, str(path), "free some, or fit without --hmr2")
        return network, fill(parameters, unflatten(_arrays(path, file.read, parameters)))


def _arrays(path: Path, read: Any, parameters: nnx.State) -> list[tuple[Any, np.ndarray]]:
    tree: Mapping[Any, Any] = nnx.to_pure_dict(parameters)
    arrays = []
    for name, _ in flatten(tree):
        array = read(dotted(name)).astype(np.float32)
        if not np.isfinite(array).all():
            raise InputError(f"{path}: {dotted(name)} holds NaN or infinite numbers")
        arrays.append((name, array))
    return arrays
