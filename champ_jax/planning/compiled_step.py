"""Compiles a run's step ahead of time, for devices that need not be there.

Every input is a shape with a sharding; nothing is allocated.
"""

import time
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from champ_jax.common.errors import InputError
from champ_jax.diffusion.schedules import Schedule
from champ_jax.planning.collectives import parse_collectives
from champ_jax.planning.report import Memory, Report
from champ_jax.training.autoencoder import loss_of
from champ_jax.training.batches import abstract_batch, check_batch
from champ_jax.training.config import DTYPES, check_size
from champ_jax.training.objective import Objective
from champ_jax.training.optimizer import make_optimizer
from champ_jax.training.parameters import Network
from champ_jax.training.state import abstract_frozen, abstract_state, shardings_of
from champ_jax.training.step import StepOptions, jit_step, make_step


def tpu_devices(topology: str) -> list[jax.Device]:
    """The devices of a TPU slice by name, for example 'v5e:4x4' or 'v5p:2x2x2'.

    Raises:
      InputError: libtpu is missing or does not know the name.
    """
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    except Exception as error:  # of many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"--topology={topology}: cannot be described ({reason}); names are like v5e:4x4, v5p:2x2x2, v6e:4x4, and "
            "libtpu must be installed: pip install 'champ_jax[tpu]'"
        ) from error


def lower_step(config: ConfigDict, network: Network, mesh: Mesh) -> jax.stages.Lowered:
    """Lowers the step of `champ_jax.training.loop`.

    Args:
      config: The config of the run.
      network: what it trains, built for the mesh's platform.
      mesh: A mesh of devices, described or present.

    Raises:
      InputError: the batch does not spread over the mesh.
    """
    check_size(config, network.config)
    check_batch(mesh, config.data.batch_size, config.optimizer.accumulate)
    network = network.on(mesh)
    device = mesh.devices.flat[0]
    optimizer = make_optimizer(config.optimizer, config.steps)
    options = StepOptions.of(config, device.platform)
    state = abstract_state(network, optimizer, mesh, averaged=options.averaged)
    frozen = abstract_frozen(network, DTYPES[config.frozen_dtype], mesh)
    objective = Objective(Schedule.of(network.config.training), **config.loss.to_dict())
    step = make_step(network, optimizer, objective, options, loss=loss_of(config.stage))
    step = jit_step(step, shardings_of(state), mesh)
    with jax.set_mesh(mesh):
        return step.lower(state, frozen, abstract_batch(config, network.config, mesh))


def compile_step(config: ConfigDict, network: Network, mesh: Mesh) -> tuple[Report, str]:
    """Compiles the step of `champ_jax.training.loop`.

    Args:
      config: The config of the run.
      network: what it trains, built for the mesh's platform.
      mesh: A mesh of devices, described or present.

    Returns:
      What the compiler reports of it, and the program as text.

    Raises:
      InputError: the batch does not spread over the mesh, or the step does not fit the devices' memory.
    """
    began = time.monotonic()
    memory, text = compile_lowered(lower_step(config, network, mesh))
    seconds = time.monotonic() - began
    return make_report(config, mesh, memory, text, complete=True, seconds=seconds), text


def compile_lowered(lowered: jax.stages.Lowered, options: Mapping[str, Any] | None = None) -> tuple[Memory, str]:
    """Compiles a program: the memory it takes of a device, and its optimized text.

    Args:
      lowered: The program.
      options: the compiler's options.

    Raises:
      InputError: it does not fit the device's memory.
    """
    try:
        compiled = lowered.compile(None if options is None else dict(options))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        words = " ".join(str(error).split())[:600]
        raise InputError(f"the program does not fit a device's memory: {words}") from error
    stats, text = compiled.memory_analysis(), compiled.as_text()
    memory = Memory(
        stats.argument_size_in_bytes,
        stats.output_size_in_bytes,
        stats.alias_size_in_bytes,
        stats.temp_size_in_bytes,
        stats.generated_code_size_in_bytes,
    )
    return memory, text


def make_report(config: ConfigDict, mesh: Mesh, memory: Memory, text: str, *, complete: bool, seconds: float) -> Report:
    """Of a program `text`."""
    return Report(
        config.stage,
        f"{mesh.size} x {mesh.devices.flat[0].device_kind}",
        (mesh.shape["data"], mesh.shape["fsdp"]),
        config.data.batch_size,
        memory,
        parse_collectives(text, mesh.size),
        complete,
        seconds,
    )
