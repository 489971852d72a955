"""Where every array lives: a mesh with axes ('data', 'fsdp') and rules from parameter path to PartitionSpec.

The batch is split over both axes. Parameters and optimizer state are split over 'fsdp' and repeated over 'data', so
that 'fsdp' divides their memory and 'data' does not.
"""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from champ_jax.common.errors import InputError

AXES = ("data", "fsdp")
BATCH = PartitionSpec(AXES)

# (pattern on the dotted path, spec of the *last* dimensions); the first that matches decides.
RULES: tuple[tuple[str, PartitionSpec], ...] = (
    # (..., in, out) of a product or convolution: split along its outputs. Tables of embeddings likewise.
    (r"\.(kernel|embedding)$", PartitionSpec("fsdp")),
    (r"\.(bias|scale|pe|class_embedding|position_ids|lora_down|lora_up)$", PartitionSpec()),
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
            raise InputError(f"mesh.fsdp={fsdp} does not divide the {len(devices)} available devices")
        data = len(devices) // fsdp
    if data * fsdp > len(devices) or (jax.process_count() > 1 and data * fsdp < len(devices)):
        raise InputError(
            f"mesh.data={data} x mesh.fsdp={fsdp} needs {data * fsdp} devices, there are {len(devices)}; "
            "choose another mesh or make that many visible"
        )
    shape = (data, fsdp)
    grid = mesh_utils.create_device_mesh(shape, devices[: data * fsdp], allow_split_physical_axes=True)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 2)


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


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def gather(x: jax.Array, sharding: NamedSharding, dtype: DTypeLike) -> jax.Array:
    """The whole of a parameter that is stored in pieces, in `dtype`, on every device; its gradient goes back in pieces.

    Without this the partitioner has a choice, for the batch and the parameters are split over the same axis, and it
    sometimes gathers the activations, which are larger.
    """
    return jax.lax.with_sharding_constraint(x.astype(dtype), NamedSharding(sharding.mesh, PartitionSpec()))


def _gather_forward(x: jax.Array, sharding: NamedSharding, dtype: DTypeLike) -> tuple[jax.Array, jax.Array]:
    return gather(x, sharding, dtype), jnp.zeros((), x.dtype)


def _gather_backward(
    sharding: NamedSharding, dtype: DTypeLike, like: jax.Array, gradient: jax.Array
) -> tuple[jax.Array]:
    return (jax.lax.with_sharding_constraint(gradient, sharding).astype(like.dtype),)


gather.defvjp(_gather_forward, _gather_backward)
