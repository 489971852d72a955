"""Where the time of one denoising step goes: a profile, reduced to a table by kind of operation and by module."""

import dataclasses
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from benchmarks.inference import Prepared
from benchmarks.program import Operation, operations
from champ_jax.inference.settings import Settings

STEPS = 3  # in the profile


@dataclasses.dataclass(frozen=True)
class Share:
    """What operations of one kind and module take of a step.

    Attributes:
      kind, module: as in `benchmarks.program.Operation`.
      seconds: The time of a step that the device spends in them.
      count: how often they run in a step.
    """

    kind: str
    module: str
    seconds: float
    count: float


def run(model: str, size: int, frames: int, settings: Settings, dtype: str) -> list[Share]:
    """Profiles denoising steps at `size` x `size`; arguments as those of `benchmarks.inference.run`."""
    prepared = Prepared(model, size, frames, settings, dtype)
    return profile(prepared.step, prepared.programs.denoiser.program.as_text(), STEPS)


def profile(work: Callable[[], Any], program: str, repeats: int) -> list[Share]:
    """What a call of `work` spends in the operations of a compiled program, the costliest first.

    Args:
      work: runs the program, among others.
      program: the program's text.
      repeats: calls that are profiled.
    """
    jax.block_until_ready(work())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(repeats):
                jax.block_until_ready(work())
        events = [event for path in Path(folder).rglob("*.xplane.pb") for event in read_events(path)]
    return reduce_events(events, operations(program), repeats)


def read_events(path: Path) -> Iterable[tuple[str, float]]:
    """(operation, seconds) of every operation in a profile that a device ran."""
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                name = dict(event.stats).get("hlo_op")
                if name is None and line.name == "XLA Ops":  # a TPU's, which are named by their whole text
                    name = event.name.split(" = ")[0].lstrip("%")
                if name is not None:
                    yield str(name), event.duration_ns / 1e9


def reduce_events(events: Iterable[tuple[str, float]], known: Mapping[str, Operation], repeats: int) -> list[Share]:
    """Sums events by kind and module; what the program does not know is 'outside of the program'."""
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for name, duration in events:
        operation = known.get(name)
        key = ("outside of the program", "") if operation is None else (operation.kind, operation.module)
        seconds[key] += duration
        counts[key] += 1
    shares = [Share(*key, seconds[key] / repeats, counts[key] / repeats) for key in seconds]
    return sorted(shares, key=lambda share: -share.seconds)


def table(shares: list[Share]) -> str:
    """Two Markdown tables: by kind, and by module."""
    return "\n\n".join(_by(shares, field) for field in ("kind", "module"))


def _by(shares: list[Share], field: str) -> str:
    total = sum(share.seconds for share in shares)
    seconds: dict[str, float] = defaultdict(float)
    counts: dict[str, float] = defaultdict(float)
    for share in shares:
        seconds[getattr(share, field)] += share.seconds
        counts[getattr(share, field)] += share.count
    lines = [f"| {field} | ms a step | share | operations |", "| --- | --- | --- | --- |"]
    for name in sorted(seconds, key=lambda name: -seconds[name]):
        lines.append(f"| {name} | {1e3 * seconds[name]:.3f} | {seconds[name] / total:.1%} | {counts[name]:g} |")
    return "\n".join(lines)
