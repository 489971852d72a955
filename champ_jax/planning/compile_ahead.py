"""Compiles a run's step ahead of time, for devices that need not be there.

Every input is a shape with a sharding; nothing is allocated. The result says what a device's memory would hold and what
devices would say to each other. Both are known once the compiler has optimised and scheduled the program and placed
its buffers; the machine code, which takes ten times as long, adds itself and some scratch. `Plan` reads the dump of
the former.
"""

import dataclasses
import json
import os
import re
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.diffusion.schedules import Schedule
from champ_jax.models.champ import ChampConfig
from champ_jax.planning.collectives import Collective, parse_collectives
from champ_jax.training import initial_state
from champ_jax.training.autoencoder import loss_of
from champ_jax.training.config import check_size
from champ_jax.training.objective import Batch, Objective
from champ_jax.training.optimizer import make_optimizer
from champ_jax.training.parameters import Network
from champ_jax.training.sharding import BATCH, check_batch
from champ_jax.training.step import StepOptions, jit_step, make_step

_PLACED = "after_optimizations_after_buffer_assignment"


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device, as the compiler plans them.

    Attributes:
      arguments: state, frozen parameters and batch.
      outputs: the next state and the metrics.
      aliased: outputs that take the place of arguments (the donated state).
      temporaries: everything between.
      program: the program itself; 0 where its machine code was not made.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    program: int

    @property
    def total(self) -> int:
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.program


@dataclasses.dataclass(frozen=True)
class Report:
    """A compiled step.

    Attributes:
      stage: 1 or 2.
      devices: kind and number of devices, by name.
      mesh: its (data, fsdp).
      batch_size: over all devices.
      memory: of one device.
      collectives: of one step and device.
      complete: whether machine code was made, too.
      seconds: to trace and compile so far.
    """

    stage: int
    devices: str
    mesh: tuple[int, int]
    batch_size: int
    memory: Memory
    collectives: tuple[Collective, ...]
    complete: bool
    seconds: float

    def save(self, path: str | os.PathLike) -> None:
        """Writes it as JSON."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Report":
        """Reads what `save` wrote; raises InputError if it is something else."""
        try:
            fields = json.loads(Path(path).read_text())
            fields["memory"] = Memory(**fields["memory"])
            fields["collectives"] = tuple(Collective(**each) for each in fields["collectives"])
            return cls(**fields | {"mesh": tuple(fields["mesh"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path}: is no report of tools/compile_for_tpu.py ({error})") from error


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


def abstract_batch(config: ConfigDict, model: ChampConfig, mesh: Mesh) -> Batch:
    """A global batch as `champ_jax.data.pipeline` makes it, as jax.ShapeDtypeStructs."""
    samples, (width, height) = config.data.batch_size, config.data.image_size
    frames = config.data.frames if config.stage == 2 else 1
    sharding = NamedSharding(mesh, BATCH)

    def array(*shape: int, dtype: DTypeLike = jnp.uint8) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((samples, *shape), dtype, sharding=sharding)

    batch: Batch = {"conditions": {name: array(frames, height, width, 3) for name in config.conditions if config.stage}}
    size = model.image_encoder.image_size
    if config.data.cached:
        shrink = model.vae.downscale
        latent = (height // shrink, width // shrink, model.vae.latent_channels)
        for name, shape in (("latents", (frames, *latent)), ("reference", latent)):
            batch |= {f"{name}_{kind}": array(*shape, dtype=jnp.float32) for kind in ("mean", "std")}
        if config.data.cached_embeddings:
            return batch | {"embedding": array(model.image_encoder.projection_dim, dtype=jnp.float32)}
        return batch | {"clip_pixels": array(size, size, 3)}
    batch["pixels"], batch["reference"] = array(frames, height, width, 3), array(height, width, 3)
    batch["clip_pixels"] = array(size, size, 3)
    return batch


def compile_step(config: ConfigDict, network: Network, mesh: Mesh) -> tuple[Report, str]:
    """Compiles the step of `champ_jax.training.loop`.

    Args:
      config: of the run.
      network: what it trains, built for the mesh's platform.
      mesh: of any devices, described or there.

    Returns:
      What the compiler says of it, and the program as text.

    Raises:
      InputError: the batch does not spread over the mesh, or the step does not fit the devices' memory.
    """
    check_size(config, network.config)
    check_batch(mesh, config.data.batch_size, config.optimizer.accumulate)
    network = network.on(mesh)
    device = mesh.devices.flat[0]
    optimizer = make_optimizer(config.optimizer, config.steps)
    options = StepOptions.of(config, device.platform)
    state = initial_state.abstract_state(network, optimizer, options, mesh)
    frozen = initial_state.abstract_frozen(network, config.frozen_dtype, mesh)
    objective = Objective(Schedule.of(network.config.training), **config.loss.to_dict())
    step = make_step(network, optimizer, objective, options, loss=loss_of(config.stage))
    step = jit_step(step, initial_state.shardings_of(state), mesh)
    with jax.set_mesh(mesh):
        began = time.monotonic()
        lowered = step.lower(state, frozen, abstract_batch(config, network.config, mesh))
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            words = " ".join(str(error).split())[:600]
            raise InputError(f"the step does not fit a device's memory: {words}") from error
    seconds = time.monotonic() - began
    stats, text = compiled.memory_analysis(), compiled.as_text()
    memory = Memory(
        stats.argument_size_in_bytes,
        stats.output_size_in_bytes,
        stats.alias_size_in_bytes,
        stats.temp_size_in_bytes,
        stats.generated_code_size_in_bytes,
    )
    return make_report(config, mesh, memory, text, complete=True, seconds=seconds), text


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


class Plan:
    """The dump of a compilation that goes on in another process: the step's program and its buffers.

    That process needs XLA_FLAGS = `flags` from its start.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = Path(folder)
        self._size = -1

    @property
    def flags(self) -> str:
        return f"--xla_dump_to={self._folder} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=jit_step"

    def poll(self) -> bool:
        """Whether the compiler has placed all buffers: the program with them, the last file that it writes of this, is
        there and has not grown since the last call."""
        before = self._size
        self._size = sum(path.stat().st_size for path in self._folder.glob(f"*.{_PLACED}.txt"))
        return 0 < self._size == before

    def read(self) -> tuple[Memory, str]:
        """A device's memory, and the optimised program."""
        (program,) = self._folder.glob(f"*.{_PLACED}.txt")
        (buffers,) = self._folder.glob("*.after_optimizations-buffer-assignment.txt")
        return read_buffers(buffers.read_text()), program.read_text()


def read_buffers(text: str) -> Memory:
    """The memory in XLA's buffer assignment: its allocations in HBM, which is the space without a color."""
    sizes = {"argument": 0, "aliased": 0, "output": 0, "temporary": 0}
    for size, kind in re.findall(r"^allocation \d+: size (\d+), (.*)$", text, re.MULTILINE):
        if re.match(r"color [1-9]", kind):
            continue
        if "parameter" in kind:
            sizes["argument"] += int(size)
            sizes["aliased"] += int(size) if "maybe-live-out" in kind else 0
        else:
            sizes["output" if "maybe-live-out" in kind else "temporary"] += int(size)
    return Memory(
        sizes["argument"], sizes["output"] + sizes["aliased"], sizes["aliased"], sizes["temporary"], program=0
    )
