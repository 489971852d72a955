"""Writes the authored motions of champ_jax.body.authored as motion.npz files.

python tools/make_motions.py [--output=DIR]
"""

from collections.abc import Sequence
from pathlib import Path

import champ_jax
from champ_jax.body.authored import MOTIONS
from champ_jax.common.cli import Parser, run


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    default = Path(champ_jax.__file__).parent / "assets/motions"
    parser.add_argument("--output", type=Path, default=default, help="folder (default: the package's assets)")
    options = parser.parse_args(argv)
    for name, make in MOTIONS.items():
        motion = make()
        motion.save(options.output / f"{name}.npz")
        print(f"{options.output / name}.npz: {len(motion)} frames")


if __name__ == "__main__":
    run(main)
