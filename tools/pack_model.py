"""Writes a stage-2 run's model as the one file that ships with the package (champ_jax/builtin.py).

python tools/pack_model.py --run=work/builtin/stage2 --output=champ_jax/assets/model/model.safetensors
"""

from collections.abc import Sequence

from champ_jax import builtin
from champ_jax.cli import Parser, run


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--run", required=True, help="the work folder")
    parser.add_argument("--output", required=True, help="the .safetensors file")
    options = parser.parse_args(argv)
    builtin.pack(options.run, options.output)
    parameters, size = builtin.size_of(options.output)
    print(f"{options.output}: {parameters:,} parameters, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run(main)
