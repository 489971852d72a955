"""A network as a pure function of its parameters, for plain jax.jit: split outside, merged inside."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from champ_jax.models.layers import Unused


@dataclasses.dataclass(frozen=True, eq=False)
class PureNetwork:
    """What of a network is not parameters: its graph, and the shapes of the tensors that take no part in it.

    Unused tensors (layers.Unused) are never put on a device this way.
    """

    graph: nnx.GraphDef
    unused: nnx.State

    @classmethod
    def split(cls, module: nnx.Module) -> tuple["PureNetwork", nnx.State]:
        """The network and its parameters (or their shapes, if `module` is abstract)."""
        graph, unused, parameters = nnx.split(module, Unused, ...)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), unused)
        return cls(graph, shapes), parameters

    def bind(self, parameters: nnx.State) -> Any:
        """The module with these parameters; to be called inside a jitted function."""
        return nnx.merge(self.graph, self.unused, parameters)


def fill(parameters: nnx.State, tree: Mapping[Any, Any]) -> nnx.State:
    """`parameters` (abstract) with the arrays of `tree` (pure nested dicts) that they name; the rest is left alone."""
    flat = dict(nnx.traversals.flatten_mapping(tree))
    return nnx.State.from_flat_path(
        [(path, variable.replace(flat[path])) for path, variable in nnx.to_flat_state(parameters)]
    )
