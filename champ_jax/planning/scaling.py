"""How a step's memory and time depend on the mesh: arithmetic from shapes, one compiled step and data sheets.

What is known exactly: parameters, optimizer state and batch of one device (their shardings), and the FLOPs
(`models.network_flops`). What is taken from a step that was compiled for one mesh: the temporaries, in proportion to a
device's samples, and the bytes that parameters and gradients are gathered and reduced in. What is assumed is an
argument: the share of the peak that the networks reach.
"""

import dataclasses
from collections.abc import Sequence

import jax
from jax.sharding import AbstractMesh
from ml_collections import ConfigDict

from champ_jax.models.network_flops import image_encoder_flops, vae_encode_flops
from champ_jax.planning.report import Report
from champ_jax.training.batches import abstract_batch
from champ_jax.training.config import DTYPES
from champ_jax.training.optimizer import make_optimizer
from champ_jax.training.parameters import Network
from champ_jax.training.sharding import AXES
from champ_jax.training.sharding_table import device_bytes
from champ_jax.training.state import abstract_frozen, abstract_state
from champ_jax.training.throughput import useful_flops

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """A TPU chip, from Google's data sheets (cloud.google.com/tpu/docs/v5e, v5p, v6e).

    Attributes:
      memory: bytes of HBM.
      flops: dense bf16 FLOP/s.
      link: bytes a second over one link to a neighbor, in one direction.
    """

    memory: float
    flops: float
    link: float


CHIPS = {
    "v5e": Chip(16 * GIB, 197e12, 1600e9 / 8 / 4),  # 1600 Gbit/s over 4 ports
    "v5p": Chip(95 * GIB, 459e12, 1200e9 / 2 / 6),  # 1200 GB/s both ways over 6 ports
    "v6e": Chip(32 * GIB, 918e12, 3200e9 / 8 / 4),  # 3200 Gbit/s over 4 ports
}

USABLE = 0.95  # share of the memory; the rest is for the program and the runtime

# Recomputing the blocks of the trained path costs one more forward pass, besides one forward and two backward.
RECOMPUTE = 4 / 3


@dataclasses.dataclass(frozen=True)
class Estimate:
    """One device's part of a step.

    Attributes:
      mesh: (data, fsdp).
      samples: The number of samples of the batch on a device.
      state: bytes of trained parameters, optimizer state and average.
      frozen: bytes of the other parameters.
      batch: bytes of the batch.
      temporaries: bytes of everything between.
      flops: FLOPs, with recomputation and the frozen encoders.
      sent: bytes that the device sends.
    """

    mesh: tuple[int, int]
    samples: int
    state: int
    frozen: int
    batch: int
    temporaries: float
    flops: float
    sent: float

    @property
    def memory(self) -> float:
        return self.state + self.frozen + self.batch + self.temporaries

    def compute_seconds(self, chip: Chip, utilization: float) -> float:
        """At a share of the chip's peak."""
        return self.flops / (utilization * chip.flops)

    def communication_seconds(self, chip: Chip) -> float:
        """Along one line or ring of chips, whose two directions each carry half."""
        return self.sent / (2 * chip.link)


def estimate(config: ConfigDict, network: Network, report: Report, data: int, fsdp: int) -> Estimate:
    """A device's memory, FLOPs and traffic on another mesh than the one that `report` was compiled for.

    Raises:
      InputError: the rules refuse the mesh.
    """
    mesh = AbstractMesh((data, fsdp), AXES)
    optimizer = make_optimizer(config.optimizer, config.steps)
    state = abstract_state(network, optimizer, mesh, averaged=config.average.decay > 0)
    frozen = abstract_frozen(network, DTYPES[config.frozen_dtype], mesh)
    batch = abstract_batch(config, network.config, mesh)
    samples = config.data.batch_size // mesh.size
    compiled_samples = report.batch_size // (report.mesh[0] * report.mesh[1])
    gathered, reduced = traffic(report)
    sent = (gathered + reduced) * (fsdp - 1) / fsdp + 2 * reduced / fsdp * (data - 1) / data
    return Estimate(
        mesh=(data, fsdp),
        samples=samples,
        state=_bytes(state),
        frozen=_bytes(frozen),
        batch=_bytes(batch),
        temporaries=(report.memory.temporaries + report.memory.program) * samples / compiled_samples,
        flops=step_flops(config, network) / mesh.size,
        sent=sent,
    )


def traffic(report: Report) -> tuple[int, int]:
    """(bytes gathered, bytes reduced) in a step: whole parameters on their way to where they are read, whole gradients
    on their way back. Gradients that were reduced over both axes count once."""
    _, fsdp = report.mesh
    gathered = sum(one.payload for one in report.collectives if one.kind == "all-gather")
    # The loops that scatter a gradient end with permutations outside of them.
    scattered = sum(one.payload for one in report.collectives if one.kind in ("reduce-scatter", "collective-permute"))
    whole = sum(one.payload for one in report.collectives if one.kind == "all-reduce" and one.group >= fsdp)
    return gathered, scattered + whole


def step_flops(config: ConfigDict, network: Network) -> float:
    """FLOPs of a step over all devices: useful ones, recomputed ones, and the frozen encoders'."""
    model, data = network.config, config.data
    width, height = data.image_size
    flops = useful_flops(config, network) * (1 if config.remat == "none" else RECOMPUTE)
    if not data.cached:
        frames = data.frames if config.stage == 2 else 1
        pictures = data.batch_size * (frames + 1)
        flops += pictures * vae_encode_flops(model, height, width)
        flops += data.batch_size * image_encoder_flops(model)
    return flops


def meshes(devices: Sequence[int], batch_size: int) -> list[tuple[int, int]]:
    """(data, fsdp) for numbers of devices that the batch spreads over: fsdp 1, 4, 8, 16, ... and all."""
    shapes = []
    for count in devices:
        if batch_size % count == 0:
            shapes += [(count // fsdp, fsdp) for fsdp in (1, 4, 8, 16, 32) if count % fsdp == 0 and fsdp <= count]
    return shapes


def scaling_table(config: ConfigDict, network: Network, report: Report, utilization: float) -> str:
    """Memory and step time against the mesh for every kind of chip, as a Markdown table."""
    head = ["chips", "data x fsdp", "samples/chip", "state", "frozen", "batch", "temporaries", "memory, GiB", "fits"]
    head += ["sent, GiB", *(f"{name}: compute + links, ms" for name in CHIPS)]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for data, fsdp in meshes((1, 2, 4, 8, 16, 32), config.data.batch_size):
        one = estimate(config, network, report, data, fsdp)
        fitting = ", ".join(name for name, chip in CHIPS.items() if one.memory < USABLE * chip.memory) or "none"
        sizes = [f"{size / GIB:.2f}" for size in (one.state, one.frozen, one.batch, one.temporaries, one.memory)]
        times = [
            f"{1e3 * one.compute_seconds(chip, utilization):.0f} + {1e3 * one.communication_seconds(chip):.0f}"
            for chip in CHIPS.values()
        ]
        cells = [str(data * fsdp), f"{data} x {fsdp}", str(one.samples), *sizes, fitting, f"{one.sent / GIB:.2f}"]
        cells += times
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _bytes(tree: object) -> int:
    return sum(device_bytes(leaf) for leaf in jax.tree.leaves(tree))
