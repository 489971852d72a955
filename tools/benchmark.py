"""Measures speed and memory, against an analytic count of the work and the PyTorch reference's figures.

  python tools/benchmark.py                                            a toy model on a CPU, minutes
  python tools/benchmark.py --model=full --size=512,768                inference at full size, random weights, one GPU
  python tools/benchmark.py --what=conditions --size=512               rendering the motion conditions
  taskset -c 0 python tools/benchmark.py --what=people --size=128      making synthetic people, on one core

Everything is compiled and run once before it counts, waits for the device, and is a median over --repeats runs.
Memory is the device's peak, or on a CPU what the compiled program holds (arguments, outputs, temporaries). "times as
fast" compares with the PyTorch reference on one H100, where its figures are known for the same work.
"""

import sys
from collections.abc import Sequence

import jax
from benchmarks.timing import Row, machine, table, write_json

from champ_jax.cli import Parser, run
from champ_jax.errors import InputError

SUBJECTS = ("inference", "conditions", "people")


def main(argv: Sequence[str]) -> None:
    parser = Parser(prog="benchmark.py", description=__doc__)
    parser.add_argument("--what", default="inference", help=f"one or more of {', '.join(SUBJECTS)}, by commas")
    parser.add_argument("--model", default="full" if jax.default_backend() != "cpu" else "toy", help="full or toy")
    parser.add_argument("--size", default=None, help="sides of the pictures, by commas (toy 128, full 512)")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance_scale", type=float, default=3.5)
    parser.add_argument("--batch", type=int, default=1, help="windows in flight")
    parser.add_argument("--chunk", type=int, default=4, help="frames encoded and decoded at once")
    parser.add_argument("--dtype", default="bfloat16" if jax.default_backend() != "cpu" else "float32")
    parser.add_argument("--backend", default="jax", help="of the conditions: jax or pyrender")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", default=None, help="a JSON file for settings, machine and rows")
    options = parser.parse_args(argv)
    sizes = [int(side) for side in (options.size or ("512" if options.model == "full" else "128")).split(",")]
    rows: list[Row] = []
    for subject in options.what.split(","):
        if subject not in SUBJECTS:
            raise InputError(f"--what={subject}: choose {', '.join(SUBJECTS)}")
        for size in sizes:
            print(f"\n{subject}, {size} x {size}", file=sys.stderr)
            measured = _measure(subject, size, options)
            rows += measured
            print(f"\n### {subject}, {options.model} model, {size} x {size}\n\n{table(measured)}")
    print("\n" + ", ".join(f"{name} {value}" for name, value in machine().items()))
    if options.output:
        write_json(options.output, rows, vars(options))


def _measure(subject: str, size: int, options) -> list[Row]:
    if subject == "conditions":
        from benchmarks import conditions

        return conditions.run(size, options.frames, options.repeats, options.backend)
    if subject == "people":
        from benchmarks import people

        return people.run(size, options.frames, options.repeats)
    from benchmarks import inference

    from champ_jax.settings import Settings

    settings = Settings(
        width=size,
        height=size,
        steps=options.steps,
        guidance_scale=options.guidance_scale,
        batch=options.batch,
        chunk=options.chunk,
    )
    return inference.run(options.model, size, options.frames, settings, options.dtype, options.repeats)


if __name__ == "__main__":
    run(main)
