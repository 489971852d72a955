"""Runs functions and networks on all local devices: the batch is split, the weights are on every one."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from champ_jax.models.functional import PureNetwork


class LocalDevices:
    """The devices of this process as one axis of batches.

    Args:
      devices: all local ones if left out.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        devices = list(jax.local_devices() if devices is None else devices)
        self.count = len(devices)
        self.platform = devices[0].platform
        self.mesh = Mesh(np.array(devices), ("data",))

    def share(self, cpu: int, accelerator: int) -> int:
        """How many items each device takes at once: `accelerator` of them, or its share of `cpu` for all together."""
        return -(-cpu // self.count) if self.platform == "cpu" else accelerator

    def put(self, batch: np.ndarray | jax.Array) -> jax.Array:
        """A batch (B, ...) split over the devices; B is a multiple of their count."""
        return jax.device_put(batch, NamedSharding(self.mesh, P("data")))

    def replicate(self, tree: Any) -> Any:
        """The arrays of a tree, whole on every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, P()))

    def bind(self, model: nnx.Module, method: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        """`method(model, *batches)` compiled, each device on its part of the batches."""
        network, parameters = PureNetwork.split(model)
        parameters = self.replicate(parameters)

        def on_one_device(parameters: nnx.State, batches: tuple[jax.Array, ...]) -> jax.Array:
            return method(network.bind(parameters), *batches)

        compiled = jax.jit(jax.shard_map(on_one_device, mesh=self.mesh, in_specs=(P(), P("data")), out_specs=P("data")))
        return lambda *batches: compiled(parameters, tuple(map(self.put, batches)))


def pad_batch(batch: np.ndarray, size: int) -> np.ndarray:
    """`batch` with its last item repeated up to `size`, so that one compiled shape serves every batch."""
    missing = size - len(batch)
    return batch if missing <= 0 else np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
