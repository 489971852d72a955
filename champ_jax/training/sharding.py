"""Where every array lives: a mesh with axes ('data', 'fsdp') and rules from parameter path to PartitionSpec.

The batch is split over both axes. Parameters and optimizer state are split over 'fsdp' and repeated over 'data', so
that 'fsdp' divides their memory and 'data' does not.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from champ_jax.errors import InputError

AXES = ("data", "fsdp")
BATCH = PartitionSpec(AXES)

# (pattern on the dotted path, spec of the *last* dimensions); the first that matches decides.
RULES: tuple[tuple[str, PartitionSpec], ...] = (
    # (..., in, out) of a product or convolution: split along its outputs. Tables of embeddings likewise.
    (r"\.(kernel|embedding)$", PartitionSpec("fsdp")),
    (r"\.(bias|scale|pe|class_embedding|position_ids)$", PartitionSpec()),
)

# A tensor whose split dimension 'fsdp' does not divide stays whole, if it has at most this many elements (a conv_out
# with 4 outputs); anything larger is refused rather than repeated on every device.
MAX_WHOLE = 2**20


def make_mesh(data: int, fsdp: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of a run.

    Args:
      data: how many groups of devices repeat the parameters; 0: as many as there are. One process may leave devices
        unused, several may not.
      fsdp: over how many devices each copy of the parameters is split.
      devices: None: all of them.

    Raises:
      InputError: the devices do not make up the mesh; gives the numbers.
    """
    devices = list(jax.devices() if devices is None else devices)
    if fsdp < 1 or data < 0:
        raise InputError(f"mesh.data={data}, mesh.fsdp={fsdp}: fsdp is at least 1, data too (or 0 for all there are)")
    if data == 0:
        if len(devices) % fsdp:
            raise InputError(f"mesh.fsdp={fsdp} does not divide the {len(devices)} devices there are")
        data = len(devices) // fsdp
    if data * fsdp > len(devices) or (jax.process_count() > 1 and data * fsdp < len(devices)):
        raise InputError(
            f"mesh.data={data} x mesh.fsdp={fsdp} needs {data * fsdp} devices, there are {len(devices)}; "
            "choose another mesh or make that many visible"
        )
    devices = devices[: data * fsdp]
    return jax.make_mesh((data, fsdp), AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def check_batch(mesh: Mesh, batch_size: int, accumulate: int) -> None:
    """Raises InputError, with the numbers, if a global batch does not spread over the mesh and the pieces."""
    if batch_size < 1 or accumulate < 1:
        raise InputError(f"data.batch_size={batch_size}, optimizer.accumulate={accumulate}: both are at least 1")
    if batch_size % (mesh.size * accumulate):
        pieces = f" x {accumulate} accumulated pieces" if accumulate > 1 else ""
        raise InputError(
            f"data.batch_size={batch_size} is not a multiple of {mesh.size} devices "
            f"(mesh {mesh.shape['data']} x {mesh.shape['fsdp']}){pieces}; "
            f"take {-(-batch_size // (mesh.size * accumulate)) * mesh.size * accumulate} or another mesh"
        )


def spec_of(name: str, shape: Sequence[int], mesh: Mesh) -> PartitionSpec:
    """The PartitionSpec of the parameter `name`.

    Raises:
      InputError: no rule for it, or a large tensor that the mesh does not divide; names the parameter.
    """
    spec = next((spec for pattern, spec in RULES if re.search(pattern, name)), None)
    if spec is None:
        raise InputError(f"parameter {name}: no sharding rule matches")
    spec = PartitionSpec(*(None,) * (len(shape) - len(spec)), *spec) if spec else spec
    for size, axis in zip(shape, spec):
        if axis is not None and size % mesh.shape[axis]:
            if math.prod(shape) > MAX_WHOLE:
                raise InputError(
                    f"parameter {name} {tuple(shape)}: mesh.{axis}={mesh.shape[axis]} does not divide {size}; "
                    f"choose a divisor"
                )
            return PartitionSpec()
    return spec


def parameter_shardings(shapes: Mapping[str, Any], mesh: Mesh) -> dict[str, NamedSharding]:
    """{name: NamedSharding} for {name: anything with a shape}."""
    return {name: NamedSharding(mesh, spec_of(name, leaf.shape, mesh)) for name, leaf in shapes.items()}


def state_shardings(state: Any, parameters: Mapping[str, Any], mesh: Mesh) -> Any:
    """Shardings of a whole train state (a pytree of shapes, as jax.eval_shape gives it), in its structure.

    A leaf below a parameter's name and of its shape (the parameter, its average, its moments) lives as the parameter
    does; everything else (counters, Adafactor's factored moments) is repeated on every device.
    """
    shardings = parameter_shardings(parameters, mesh)

    def one(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        for entry in reversed(path):
            name = getattr(entry, "key", None)
            if name in shardings and tuple(leaf.shape) == tuple(parameters[name].shape):
                return shardings[name]
        return NamedSharding(mesh, PartitionSpec())

    return jax.tree_util.tree_map_with_path(one, state)


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Global arrays, split over the mesh, from this process's share of a batch (numpy, leading axis the samples)."""
    sharding = NamedSharding(mesh, BATCH)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch)
