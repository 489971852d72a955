"""Trains the built-in model from nothing: data, autoencoder, stage 1, stage 2, packing, held-out evaluation.

  python tools/train_builtin.py --output=work/builtin                        # on a CPU
  python tools/train_builtin.py --output=work/accelerator --variant=accelerator --within=15 --minutes=8

Every leg is a command that is printed and can be run by itself; the same command again resumes where it was cut off.
OUTPUT/model.safetensors is the model, OUTPUT/report.md says how good it is, OUTPUT/times.md what each leg took.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import recipe

from champ_jax.common.cli import Parser, run
from champ_jax.common.ranges import Integer, Number

CHECKOUT = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str]) -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("--output", default="work/builtin", help="folder for everything (%(default)s)")
    parser.add_argument(
        "--variant", default="cpu", choices=list(recipe.VARIANTS), help="amount of data and training (%(default)s)"
    )
    parser.add_argument(
        "--seed", type=Integer(minimum=0), default=0, help="seed of the people and the trainings (%(default)s)"
    )
    parser.add_argument(
        "--minutes", type=Number(above=0, maximum=1e6), help="stop after so many; the same command resumes"
    )
    parser.add_argument(
        "--within",
        type=Number(above=0, maximum=1e6),
        help="minutes of all calls together, of which every training of a variant for accelerators gets its share",
    )
    parser.add_argument("--until", help="the last leg to run")
    options = parser.parse_args(argv)
    directory = Path(os.path.relpath(options.output, CHECKOUT))
    variant = recipe.VARIANTS[options.variant]
    if variant.shares and options.within is None:
        parser.error(f"--variant={options.variant}: trains until its time is over; name it with --within=MINUTES")
    todo = recipe.legs(directory, variant, options.seed, carried=recipe.find_carried(Path(options.output)))
    names = [leg.name for leg in todo]
    if options.until:
        if options.until not in names:
            parser.error(f"--until={options.until}: no such leg; choose {', '.join(names)}")
        todo = todo[: names.index(options.until) + 1]
    limits = {"minutes": options.minutes, "within": options.within}
    if recipe.run(Path(options.output), todo, CHECKOUT, **limits) and not options.until:
        print(recipe.write_times(Path(options.output)))
    return 0


if __name__ == "__main__":
    run(main)
