"""Writes a stage-2 run's model as one small file (champ_jax/weights/packed.py), to ship with a package.

python tools/pack_model.py --run=work/builtin/stage2 --output=model.safetensors
"""

from collections.abc import Sequence

from champ_jax.common.cli import Parser, run
from champ_jax.common.outputs import Kind, Output, claim
from champ_jax.weights.packed import is_packed, pack_run, size_of

PACKED = Kind("a packed model", is_packed)


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--run", required=True, help="the work folder")
    parser.add_argument("--output", required=True, help="the .safetensors file")
    options = parser.parse_args(argv)
    claim([Output("--output", options.output, PACKED)], [options.run])
    pack_run(options.run, options.output)
    parameters, size = size_of(options.output)
    print(f"{options.output}: {parameters:,} parameters, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run(main)
