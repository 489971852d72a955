"""The jitted step: a pure function from (state, frozen parameters, batch) to (state, metrics)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from champ_jax.common.errors import InputError
from champ_jax.models.champ import Champ
from champ_jax.training.objective import Batch, Draws, Objective, draw, latent_shape, loss
from champ_jax.training.parameters import Network
from champ_jax.training.state import TrainState
from champ_jax.weights.flat import Flat

UNROLL = ("auto", "unroll", "scan")


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """How a step is computed.

    Attributes:
      seed: The seed of all randomness; a step's draws depend on it and the step's number alone.
      accumulate: The number of pieces in which a batch goes through the networks, one after the other.
      unroll: 'unroll' writes the pieces out, 'scan' loops over them; 'auto' unrolls on CPU, whose convolutions'
        backward pass is 40 to 90 times slower inside a loop, and scans elsewhere.
      average_decay: The decay of the moving average; 0 keeps none.
      platform: 'cpu', 'gpu' or 'tpu' to compile for; None takes JAX's default backend.
    """

    seed: int = 0
    accumulate: int = 1
    unroll: str = "auto"
    average_decay: float = 0.0
    platform: str | None = None

    def __post_init__(self) -> None:
        if self.unroll not in UNROLL:
            raise InputError(f"optimizer.unroll={self.unroll}: unknown; choose {', '.join(UNROLL)}")
        if not 0 <= self.average_decay < 1:
            raise InputError(f"average.decay={self.average_decay}: must be in 0 ... 1, without 1")

    @property
    def averaged(self) -> bool:
        return self.average_decay > 0

    @classmethod
    def of(cls, config: ConfigDict, platform: str | None = None) -> "StepOptions":
        """Those of a run."""
        optimizer = config.optimizer
        return cls(config.seed, optimizer.accumulate, optimizer.unroll, config.average.decay, platform)


def make_step(
    network: Network,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    options: StepOptions,
    *,
    draws: Callable[[jax.Array, tuple[int, ...], Objective], Draws] = draw,
    loss: Callable[[Champ, Batch, Draws, Objective], jax.Array] = loss,
) -> Callable[[TrainState, Flat, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The step, not yet jitted.

    Args:
      network: what is trained.
      optimizer: over flat dicts of its trainable parameters.
      objective: the loss.
      options: seed, accumulation, averaging.
      draws: makes the step's random numbers from its key; tests put known ones in place.
      loss: what is minimized; `autoencoder.reconstruction_loss` in stage 0.

    Returns:
      step(state, frozen, batch) -> (state, metrics). Metrics are () arrays: 'loss', 'gradient_norm' (before clipping),
      'finite' (whether the step was taken), 'skipped', 'skipped_in_row'. A step whose loss or gradient is not finite
      changes nothing but the counters.
    """
    config = network.config

    def step(state: TrainState, frozen: Flat, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(options.seed), state.step)
        shape = latent_shape(batch, config.vae.downscale, config.vae.latent_channels)
        numbers = draws(key, shape, objective)

        def piece_loss(params: Flat, batch: Batch, numbers: Draws) -> jax.Array:
            return loss(network.merge(params, frozen), batch, numbers, objective)

        value, gradients = accumulated_gradients(piece_loss, state.params, (batch, numbers), options)
        norm = optax.global_norm(gradients)
        finite = jnp.isfinite(value) & jnp.isfinite(norm)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = options.average_decay
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.average, params if decay else {})

        def if_finite(new: Any, old: Any) -> Any:
            return jax.tree.map(functools.partial(jnp.where, finite), new, old)

        skipped = jnp.where(finite, 0, 1)
        state = TrainState(
            step=state.step + 1,
            params=if_finite(params, state.params),
            opt_state=if_finite(opt_state, state.opt_state),
            average=if_finite(average, state.average),
            skipped=state.skipped + skipped,
            skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1),
        )
        metrics = {
            "loss": value,
            "gradient_norm": norm,
            "finite": finite,
            "skipped": state.skipped,
            "skipped_in_row": state.skipped_in_row,
        }
        return state, metrics

    return step


def jit_step(
    step: Callable[..., Any], shardings: TrainState, mesh: Mesh, *, fast_compile: bool = False
) -> Callable[..., Any]:
    """`step` jitted for `mesh`: the state is donated and keeps its shardings.

    `fast_compile` takes `fast_compiler_options`.
    """
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.jit(
        step,
        donate_argnums=0,
        out_shardings=(shardings, everywhere),
        compiler_options=fast_compiler_options(mesh.devices.flat[0].platform) if fast_compile else None,
    )


def fast_compiler_options(platform: str) -> dict[str, Any] | None:
    """XLA's options that compile fastest; None where there are none, on anything but a CPU.

    They leave LLVM's optimization out: half the compile time (42 s of processor time against 85 for the smoke config)
    for twice the step's (0.6 s against 0.3). For a few steps of a tiny model.
    """
    if platform == "cpu":
        return {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return None


def accumulated_gradients(
    piece_loss: Callable[..., jax.Array], params: Flat, inputs: Any, options: StepOptions
) -> tuple[jax.Array, Flat]:
    """Loss and gradients of `piece_loss(params, *inputs)`, the mean over equal pieces of the leading axis."""
    pieces = options.accumulate
    compute = jax.value_and_grad(piece_loss)
    if pieces == 1:
        return compute(params, *inputs)
    # Piece i takes samples i, i + pieces, ...: every device keeps the samples it has.
    split = jax.tree.map(lambda x: x.reshape(x.shape[0] // pieces, pieces, *x.shape[1:]).swapaxes(0, 1), inputs)

    def add(total: tuple[jax.Array, Flat], piece: Any) -> tuple[tuple[jax.Array, Flat], None]:
        return jax.tree.map(jnp.add, total, compute(params, *piece)), None

    total = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    on_cpu = (options.platform or jax.default_backend()) == "cpu"
    if options.unroll == "unroll" or (options.unroll == "auto" and on_cpu):
        for i in range(pieces):
            total, _ = add(total, jax.tree.map(lambda x, i=i: x[i], split))
    else:
        total, _ = jax.lax.scan(add, total, split)
    return jax.tree.map(lambda x: x / pieces, total)
