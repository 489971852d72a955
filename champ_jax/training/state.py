"""The train state: what it holds, its shapes and shardings, and how it is created on the mesh."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.typing import DTypeLike

from champ_jax.training.parameters import Network
from champ_jax.training.sharding import parameter_shardings, state_shardings
from champ_jax.weights.flat import Flat, cast


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What a step changes; everything else about a run is constant.

    Attributes:
      step: () int32, steps taken, skipped ones included.
      params: trained parameters, float32.
      opt_state: The optimizer's state, over `params` only.
      average: exponential moving average of `params`; {} without one.
      skipped: () int32, steps skipped because the loss or a gradient was not finite.
      skipped_in_row: () int32, how many of them came last without a good one between.
    """

    step: jax.Array
    params: Flat
    opt_state: Any
    average: Flat
    skipped: jax.Array
    skipped_in_row: jax.Array


def initial_state(params: Flat, optimizer: optax.GradientTransformation, *, averaged: bool) -> TrainState:
    """The state before the first step; `averaged` keeps a moving average."""
    # Copies: the state is donated to the step, and no buffer may be donated twice.
    average = jax.tree.map(jnp.copy, params) if averaged else {}
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, params, optimizer.init(params), average, zero, zero)


def create_state(params: Flat, optimizer: optax.GradientTransformation, like: TrainState) -> TrainState:
    """The state before the first step, created with its final sharding; `params` are donated.

    Args:
      params: trained parameters, on the mesh.
      optimizer: The optimizer of the run.
      like: The shapes and shardings from `abstract_state`.
    """
    make = functools.partial(initial_state, optimizer=optimizer, averaged=bool(like.average))
    return jax.jit(make, donate_argnums=0, out_shardings=shardings_of(like))(params)


def abstract_state(
    network: Network, optimizer: optax.GradientTransformation, mesh: Mesh, *, averaged: bool
) -> TrainState:
    """The train state as jax.ShapeDtypeStructs with their shardings."""
    shapes = network.shapes
    params = {name: shapes[name] for name in network.trainable}
    state = jax.eval_shape(functools.partial(initial_state, optimizer=optimizer, averaged=averaged), params)
    return _with_shardings(state, state_shardings(state, params, mesh))


def abstract_frozen(network: Network, dtype: DTypeLike, mesh: Mesh) -> Flat:
    """The frozen parameters as jax.ShapeDtypeStructs with their shardings; float32 is what they are stored in."""
    shapes = {name: network.shapes[name] for name in network.frozen}
    shapes = jax.eval_shape(lambda arrays: cast(arrays, dtype), shapes)
    return _with_shardings(shapes, parameter_shardings(shapes, mesh))


def shardings_of(tree: TrainState) -> TrainState:
    """The shardings of a tree of jax.ShapeDtypeStructs."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def _with_shardings(shapes: Any, shardings: Any) -> Any:
    def one(leaf: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(one, shapes, shardings)
