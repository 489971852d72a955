"""A network as a pure function of its parameters, for plain jax.jit: split outside, merged inside.

Modules are built without values: their variables hold shapes and dtypes. Values come from a file, or from
`champ_jax.models.initial_values`:

    network, parameters = PureNetwork.split(UNet(config))    # parameters: shapes and dtypes
    parameters = fill(parameters, arrays)
    predict = jax.jit(lambda parameters, *inputs: network.bind(parameters)(*inputs))
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from champ_jax.models.options import REMAT_POLICIES


class Buffer(nnx.Variable):
    """A tensor the forward pass reads and training leaves alone (the motion modules' position table)."""


class Unused(nnx.Variable):
    """A tensor that users' files hold and that takes no part in the forward pass.

    It is carried through loading and saving so that a checkpoint can be handed back to PyTorch whole; gradients,
    optimizers and compute never see it.
    """


def mark_unused(module: nnx.Module) -> nnx.Module:
    """Turns every nnx.Param inside `module` into an Unused variable, in place; returns `module`."""
    for _, node in nnx.iter_modules(module):
        for name, value in list(vars(node).items()):
            if isinstance(value, nnx.Param):
                setattr(node, name, Unused(value.get_value()))
    return module


@dataclasses.dataclass(frozen=True, eq=False)
class PureNetwork:
    """What of a network is not parameters: its graph, and the shapes of the tensors that take no part in it.

    Unused tensors are never put on a device this way.

    Attributes:
      graph: the structure that nnx.merge needs.
      unused: shapes of the `Unused` tensors.
    """

    graph: nnx.GraphDef
    unused: nnx.State

    @classmethod
    def split(cls, module: Any) -> tuple["PureNetwork", nnx.State]:
        """The parts of a module, or of a tuple of modules: the network, and parameters and buffers.

        These are shapes where the module holds no values.
        """
        graph, unused, parameters = nnx.split(module, Unused, ...)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), unused)
        return cls(graph, shapes), parameters

    def bind(self, parameters: nnx.State) -> Any:
        """The module with these parameters; to be called inside a jitted function."""
        return nnx.merge(self.graph, self.unused, parameters)


def fill(parameters: nnx.State, arrays: Mapping[Any, Any]) -> nnx.State:
    """`parameters` with values, in the dtypes they have; `arrays` (pure nested dicts) may hold more than they name."""
    flat = dict(nnx.traversals.flatten_mapping(arrays))
    return nnx.State.from_flat_path(
        (path, variable.replace(flat[path].astype(variable.get_value().dtype)))
        for path, variable in nnx.to_flat_state(parameters)
    )


def remat_call(policy: str, module: nnx.Module, *inputs: Any) -> Any:
    """`module(*inputs)`, whose intermediates the backward pass recomputes as `policy` says.

    Args:
      policy: 'none' or a name in REMAT_POLICIES.
      module: any module with values.
      inputs: pytrees of arrays (or None).
    """
    if policy == "none":
        return module(*inputs)
    network, parameters = PureNetwork.split(module)

    def apply(parameters: nnx.State, *inputs: Any) -> Any:
        return network.bind(parameters)(*inputs)

    return jax.checkpoint(apply, policy=REMAT_POLICIES[policy])(parameters, *inputs)
