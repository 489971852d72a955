"""What a program compiled for a GPU costs, as a table and as JSON, and what changed between two.

The times are a roofline's, no measurement: each kernel takes at least what its FLOPs or its bytes need, one after the
other, at the shares of the peaks in `champ_jax.planning.gpus`.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from champ_jax.common.errors import InputError
from champ_jax.common.files import read_json, write_json
from champ_jax.common.ranges import Integer, Number, check_config
from champ_jax.planning.gpus import ATTAINED_FLOPS, Gpu
from champ_jax.planning.kernel_costs import Kernel
from champ_jax.planning.report import Memory

FORMAT = "champ_jax gpu program costs"
VERSION = 1
LINES = 20
"""Source lines that a report lists, the costliest."""

GROUPS = ("kind", "module", "source")
_COUNT = Integer(minimum=0, maximum=2**63)
_COST_RULES = {
    **dict.fromkeys(("kernels", "read", "written", "flops"), _COUNT),
    "seconds": Number(minimum=0, maximum=1e9),
}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of some kernels.

    Attributes:
      kernels: how many run.
      read, written: bytes from and to memory.
      flops: FLOPs of products and convolutions.
      seconds: the sum of their rooflines.
    """

    kernels: int
    read: int
    written: int
    flops: int
    seconds: float

    @property
    def moved(self) -> int:
        return self.read + self.written

    @classmethod
    def of(cls, kernels: Sequence[Kernel], gpu: Gpu) -> "Cost":
        totals = (sum(getattr(each, name) for each in kernels) for name in ("count", "read", "written", "flops"))
        return cls(*totals, sum(gpu.seconds(each.flops, each.moved) for each in kernels))


@dataclasses.dataclass(frozen=True)
class CostReport:
    """A program's.

    Attributes:
      program: The program's name.
      gpu: The GPU's name, one of `champ_jax.planning.gpus.GPUS`.
      size: (width, height) of the pictures.
      frames: of a window or a clip.
      batch: clips of a training step; windows in flight.
      reduction: what the channels of the UNets are divided by.
      options: The compiler's options.
      jax: JAX's version.
      memory: bytes of the device.
      total: of all kernels.
      groups: by kind, by module, and by source line (the costliest `LINES`), costliest first.
      seconds: of tracing and compiling.
    """

    program: str
    gpu: str
    size: tuple[int, int]
    frames: int
    batch: int
    reduction: int
    options: Mapping[str, str]
    jax: str
    memory: Memory
    total: Cost
    groups: Mapping[str, Mapping[str, Cost]]
    seconds: float

    @classmethod
    def make(cls, kernels: Sequence[Kernel], target: Gpu, **fields: Any) -> "CostReport":
        """Of a program's kernels on `target`; the other fields are the attributes'."""
        groups = {}
        for attribute in GROUPS:
            parts: dict[str, list[Kernel]] = {}
            for kernel in kernels:
                parts.setdefault(getattr(kernel, attribute) or "elsewhere", []).append(kernel)
            costs = {name: Cost.of(part, target) for name, part in parts.items()}
            ordered = sorted(costs.items(), key=lambda each: -each[1].seconds)
            groups[attribute] = dict(ordered[:LINES] if attribute == "source" else ordered)
        return cls(total=Cost.of(kernels, target), groups=groups, **fields)

    @property
    def key(self) -> str:
        """What tells it from the others of a file."""
        width = f" at 1/{self.reduction} of the width" if self.reduction > 1 else ""
        batch = f" {self.batch} x" if self.batch > 1 else ""
        return f"{self.program}{width}, {self.size[0]}x{self.size[1]},{batch} {self.frames} frames, {self.gpu}"

    def compute_share(self, gpu: Gpu) -> float:
        """The share of the roofline's time that its FLOPs alone would take."""
        return self.total.flops / (ATTAINED_FLOPS * gpu.flops) / self.total.seconds if self.total.seconds else 0.0


def save_reports(path: str | os.PathLike, reports: Sequence[CostReport]) -> None:
    """Writes reports as JSON: {format, version, reports: [{program, gpu, ...}]}."""
    write_json(path, {"format": FORMAT, "version": VERSION, "reports": [dataclasses.asdict(each) for each in reports]})


def load_reports(path: str | os.PathLike) -> list[CostReport]:
    """Reads what `save_reports` wrote.

    Raises:
      InputError: the file is something else, or damaged.
    """
    file = read_json(path)
    if not isinstance(file, dict) or file.get("format") != FORMAT or file.get("version") != VERSION:
        raise InputError(f"{path}: is not a report of tools/compile_for_gpu.py")
    try:
        return [_report(fields) for fields in file["reports"]]
    except (InputError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: is a damaged report of tools/compile_for_gpu.py ({error}); write it anew") from error


def _report(fields: Mapping[str, Any]) -> CostReport:
    def cost(values: Mapping[str, Any]) -> Cost:
        check_config(values, _COST_RULES, prefix="")
        return Cost(**values)

    groups = {
        str(name): {str(key): cost(values) for key, values in group.items()} for name, group in fields["groups"].items()
    }
    if tuple(groups) != GROUPS:
        raise InputError(f"groups are {', '.join(groups)}")
    memory = Memory(**fields["memory"])
    check_config(dataclasses.asdict(memory), dict.fromkeys(dataclasses.asdict(memory), _COUNT), prefix="memory.")
    width, height = (int(side) for side in fields["size"])
    Gpu.load(fields["gpu"])
    changed = {"groups": groups, "memory": memory, "total": cost(fields["total"]), "size": (width, height)}
    return CostReport(**dict(fields) | changed)


def report_table(report: CostReport, gpu: Gpu) -> str:
    """A report as Markdown."""
    memory, total, gib = report.memory, report.total, 2**30
    lines = [
        f"## {report.key}",
        "",
        f"memory, GiB: {memory.total / gib:.2f} of {gpu.memory / gib:.0f} (arguments {memory.arguments / gib:.2f}, "
        f"temporaries {memory.temporaries / gib:.2f}, outputs {(memory.outputs - memory.aliased) / gib:.2f})",
        f"kernels {total.kernels}, moved {total.moved / 1e9:.1f} GB, computed {total.flops / 1e12:.2f} TFLOP",
        f"roofline {1e3 * total.seconds:.1f} ms, of which computing is {report.compute_share(gpu):.0%}",
        f"compiled in {report.seconds:.0f} s by JAX {report.jax}",
    ]
    for attribute in GROUPS:
        lines += ["", f"| {attribute} | kernels | read GB | written GB | TFLOP | roofline ms |"]
        lines.append("| --- | --- | --- | --- | --- | --- |")
        lines += [
            f"| {name} | {cost.kernels} | {cost.read / 1e9:.2f} | {cost.written / 1e9:.2f} | {cost.flops / 1e12:.3f} "
            f"| {1e3 * cost.seconds:.2f} |"
            for name, cost in report.groups[attribute].items()
        ]
    return "\n".join(lines)


def comparison(before: Sequence[CostReport], after: Sequence[CostReport]) -> str:
    """What changed, as Markdown: totals of each program that both have, and the kinds and modules that differ most."""
    old = {report.key: report for report in before}
    lines = [
        "| | kernels | GB moved | TFLOP | roofline ms | temporaries GiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    both = [(old[report.key], report) for report in after if report.key in old]
    for one, two in both:
        pairs = [
            (one.total.kernels, two.total.kernels, "{:.0f}"),
            (one.total.moved / 1e9, two.total.moved / 1e9, "{:.1f}"),
            (one.total.flops / 1e12, two.total.flops / 1e12, "{:.2f}"),
            (1e3 * one.total.seconds, 1e3 * two.total.seconds, "{:.1f}"),
            (one.memory.temporaries / 2**30, two.memory.temporaries / 2**30, "{:.2f}"),
        ]
        lines.append(f"| {two.key} | " + " | ".join(_change(*pair) for pair in pairs) + " |")
        for attribute in ("kind", "module"):
            lines += _largest_changes(one.groups[attribute], two.groups[attribute])
    missing = [report.key for report in after if report.key not in old]
    lines += [f"\nnot in the other file: {key}" for key in missing]
    if not both:
        raise InputError(f"the files have no program in common: one has {'; '.join(old)}")
    return "\n".join(lines)


def _change(before: float, after: float, form: str) -> str:
    share = f" ({after / before - 1:+.1%})" if before else ""
    return f"{form.format(before)} to {form.format(after)}{share}"


def _largest_changes(before: Mapping[str, Cost], after: Mapping[str, Cost]) -> Iterator[str]:
    nothing = Cost(0, 0, 0, 0, 0.0)
    pairs = {name: (before.get(name, nothing), after.get(name, nothing)) for name in {**before, **after}}
    ordered = sorted(pairs.items(), key=lambda each: -abs(each[1][1].seconds - each[1][0].seconds))
    for name, (one, two) in ordered[:5]:
        if one != two:
            yield (
                f"| {name} | {one.kernels} to {two.kernels} | {one.moved / 1e9:.1f} to {two.moved / 1e9:.1f} | "
                f"{one.flops / 1e12:.2f} to {two.flops / 1e12:.2f} | "
                f"{1e3 * one.seconds:.1f} to {1e3 * two.seconds:.1f} | |"
            )
