"""Synchronized medians, peak memory, and the table and JSON they go into."""

import dataclasses
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

import champ_jax
from champ_jax.common.files import atomic_path


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured piece of work.

    Attributes:
      name: what was done.
      seconds: median over the repeats.
      fastest, slowest: the extremes.
      per: what `seconds` is for, as '24 frames'.
      tflop: analytic work of it, None where it is not counted.
      moved: bytes read and written (of a program: as its compiler counts them), None where they are not counted.
      reference_seconds: the PyTorch reference's time for the same on an H100 (README of the benchmark), if known.
      memory: peak bytes on the device, or the compiled program's arguments, outputs and temporaries on a CPU.
      reference_memory: the PyTorch reference's peak, if known.
    """

    name: str
    seconds: float
    fastest: float
    slowest: float
    per: str = ""
    tflop: float | None = None
    reference_seconds: float | None = None
    memory: int | None = None
    reference_memory: int | None = None
    moved: int | None = None

    @property
    def tflops(self) -> float | None:
        """Achieved TFLOP/s."""
        return None if self.tflop is None else self.tflop / self.seconds

    @property
    def bandwidth(self) -> float | None:
        """Achieved bytes a second."""
        return None if self.moved is None else self.moved / self.seconds

    @property
    def speedup(self) -> float | None:
        """How many times as fast as the reference."""
        return None if self.reference_seconds is None else self.reference_seconds / self.seconds


def measure(
    name: str,
    work: Callable[[], Any],
    *,
    repeats: int,
    per: str = "",
    flop: float | None = None,
    reference_seconds: float | None = None,
    memory: int | None = None,
    moved: int | None = None,
) -> Row:
    """Runs `work` once to warm up and `repeats` times for the record, each waiting for the device."""
    jax.block_until_ready(work())
    times = []
    for _ in tqdm(range(repeats), desc=name, leave=False):
        start = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - start)
    tflop = None if flop is None else flop / 1e12
    peak = device_peak() or memory
    extremes = min(times), max(times)
    return Row(name, statistics.median(times), *extremes, per, tflop, reference_seconds, peak, moved=moved)


def device_peak() -> int | None:
    """Peak bytes in use on the first device since the process began; None where the backend reports none (CPU)."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def program_bytes(compiled: jax.stages.Compiled) -> int:
    """Arguments, outputs and temporaries of a compiled program, less what they share."""
    memory = compiled.memory_analysis()
    sizes = (memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes)
    return sum(sizes) - memory.alias_size_in_bytes


def program_moved(compiled: jax.stages.Compiled) -> int | None:
    """Bytes that the operations of a compiled program read and write, as XLA counts them; None where it does not.

    What stays in a cache counts as well, and the body of a loop counts once.
    """
    try:
        analysis = compiled.cost_analysis()
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        return None
    moved = (analysis or {}).get("bytes accessed")
    return None if moved is None else int(moved)


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "devices": jax.device_count(),
        "platform": device.platform,
        "jax": jax.__version__,
        "champ_jax": champ_jax.__version__,
        "python": platform.python_version(),
    }


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""

    def cell(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    lines = [
        "| work | for | median s | min..max | TFLOP | TFLOP/s | GB/s | GiB | reference s, GiB | times as fast |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        memory = None if row.memory is None else row.memory / 2**30
        cells = [row.name, row.per, f"{row.seconds:.4g}", f"{row.fastest:.4g}..{row.slowest:.4g}"]
        bandwidth = None if row.bandwidth is None else row.bandwidth / 1e9
        cells += [cell(row.tflop, ".4g"), cell(row.tflops, ".4g"), cell(bandwidth, ".4g"), cell(memory, ".2f")]
        reference = cell(row.reference_seconds, ".4g")
        if row.reference_memory is not None:
            reference += f", {row.reference_memory / 2**30:.1f}"
        cells += [reference, cell(row.speedup, ".2f")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_json(path: str, rows: list[Row], settings: dict[str, Any], **more: Any) -> None:
    """Writes settings, machine, rows, and what else there is."""
    with atomic_path(Path(path)) as temporary:
        content = {
            "machine": machine(),
            "settings": settings,
            "rows": [dataclasses.asdict(row) for row in rows],
            **more,
        }
        temporary.write_text(json.dumps(content, indent=1) + "\n")
