"""Measures speed and memory, against an analytic count of the work and the PyTorch reference's figures.

  python tools/benchmark.py                                            a toy model on a CPU, minutes
  python tools/benchmark.py --model=full --size=512,768                inference at full size, random weights, one GPU
  python tools/benchmark.py --what=conditions --size=512               rendering the motion conditions
  taskset -c 0 python tools/benchmark.py --what=people --size=128      making synthetic people, on one core
  python tools/benchmark.py --what=training --model=full --size=512,768    optimizer steps, one GPU of 80 GB
  python tools/benchmark.py --what=training,data --size=512            and whether the data pipeline keeps up with them
  python tools/benchmark.py --what=peaks,kernels,trace --size=512      the device at best, attention kernels, a profile

Everything is compiled and run once before it counts, waits for the device, and is a median over --repeats runs.
Memory is the device's peak, or on a CPU what the compiled program holds (arguments, outputs, temporaries). "times as
fast" compares with the PyTorch reference on one H100, where its figures are known for the same work.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any

import jax
from benchmarks.timing import Row, machine, table, write_json

from champ_jax.common.cli import Parser, run
from champ_jax.common.ranges import Choice, Integer, Items, Number

SUBJECTS = ("inference", "conditions", "people", "training", "data", "peaks", "kernels", "trace")
# Sides of the toy's pictures.
SIDES = {
    "inference": 128,
    "conditions": 128,
    "people": 128,
    "training": 64,
    "data": 64,
    "peaks": 64,
    "kernels": 128,
    "trace": 64,
}
SECONDS = 10.0  # time for which each data pipeline is measured


def main(argv: Sequence[str]) -> None:
    on_cpu = jax.default_backend() == "cpu"
    counts, sides = Integer(minimum=1, maximum=1024), Integer(minimum=8, maximum=8192)
    remats = Choice("none", "full", "dots", "all_dots")
    parser = Parser(prog="benchmark.py", description=__doc__)
    parser.add_argument(
        "--what",
        type=Items(Choice(*SUBJECTS), 1),
        default="inference",
        help=f"one or more of {', '.join(SUBJECTS)}, by commas",
    )
    parser.add_argument("--model", type=Choice("full", "toy"), default="toy" if on_cpu else "full", help="full or toy")
    parser.add_argument(
        "--size", type=Items(sides, 1), help="sides of the pictures, by commas (full 512, toy 64 or 128)"
    )
    parser.add_argument("--frames", type=Integer(minimum=1, maximum=10_000), default=24)
    parser.add_argument("--steps", type=Integer(minimum=1, maximum=1000), default=20)
    parser.add_argument("--guidance_scale", type=Number(minimum=0, maximum=100), default=3.5)
    parser.add_argument("--batch", type=counts, default=1, help="windows in flight")
    parser.add_argument("--chunk", type=counts, default=4, help="frames encoded and decoded at once")
    parser.add_argument("--dtype", type=Choice("float32", "bfloat16"), default="float32" if on_cpu else "bfloat16")
    parser.add_argument("--remat", type=remats, default="full", help=f"training: {remats}")
    parser.add_argument("--stage", type=Items(Choice(1, 2), 1), default="1,2", help="training: stages (%(default)s)")
    parser.add_argument("--cached", action="store_true", help="training: from cached latents")
    parser.add_argument("--data", default=None, help="data: a dataset; one is made if none is named")
    parser.add_argument("--workers", type=counts, default=os.cpu_count(), help="data: processes (%(default)s)")
    parser.add_argument(
        "--backend", type=Choice("jax", "pyrender"), default="jax", help="what draws the conditions: jax or pyrender"
    )
    parser.add_argument("--repeats", type=counts, default=5)
    parser.add_argument("--output", default=None, help="a JSON file for settings, machine and rows")
    options = parser.parse_args(argv)
    rows: list[Any] = []
    profiles: list[dict[str, Any]] = []
    steps: dict[int, list[Row]] = {}  # measured training steps by size
    for subject in options.what:
        default = 512 if options.model == "full" else SIDES[subject]
        for size in options.size or (default,):
            print(f"\n{subject}, {size} x {size}", file=sys.stderr)
            measured, text = _measure(subject, size, options, steps.get(size, []))
            if subject == "trace":
                profiles.append({"size": size, "shares": [dataclasses.asdict(share) for share in measured]})
            else:
                rows += measured
            if subject == "training":
                steps[size] = measured
            print(f"\n### {subject}, {options.model} model, {size} x {size}\n\n{text}")
    print("\n" + ", ".join(f"{name} {value}" for name, value in machine().items()))
    if options.output:
        write_json(options.output, rows, vars(options), **({"profiles": profiles} if profiles else {}))


def _measure(subject: str, size: int, options, steps: list[Row]) -> tuple[list[Any], str]:
    """Rows and their table; `steps` are the training steps of this size, if they were measured."""
    if subject == "conditions":
        from benchmarks import conditions

        rows = conditions.run(size, options.frames, options.repeats, options.backend)
        return rows, table(rows)
    if subject == "people":
        from benchmarks import people

        rows = people.run(size, options.frames, options.repeats)
        return rows, table(rows)
    if subject == "training":
        from benchmarks import training

        rows = training.run(
            options.model,
            size,
            frames=options.frames,
            dtype=options.dtype,
            remat=options.remat,
            cached=options.cached,
            stages=options.stage,
            repeats=options.repeats,
        )
        return rows, table(rows)
    if subject == "data":
        from benchmarks import data

        feeds = data.run(
            options.data, size, frames=options.frames, workers=options.workers, seconds=SECONDS, steps=steps
        )
        return feeds, data.table(feeds)
    if subject == "peaks":
        from benchmarks import peaks

        rows = peaks.run(options.model, options.dtype, options.repeats)
        return rows, table(rows)
    if subject == "kernels":
        from benchmarks import kernels

        rows, refused = kernels.run(options.model, size, options.frames, options.dtype, options.repeats)
        return rows, "\n".join([table(rows), "", *refused])
    from benchmarks import inference

    from champ_jax.inference.settings import Settings

    settings = Settings(
        width=size,
        height=size,
        steps=options.steps,
        guidance_scale=options.guidance_scale,
        batch=options.batch,
        chunk=options.chunk,
    )
    if subject == "trace":
        from benchmarks import trace

        shares = trace.run(options.model, size, options.frames, settings, options.dtype)
        return shares, trace.table(shares)
    rows = inference.run(options.model, size, options.frames, settings, options.dtype, options.repeats)
    return rows, table(rows)


if __name__ == "__main__":
    run(main)
