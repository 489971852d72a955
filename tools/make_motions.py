"""Writes the authored motions of champ_jax.body.authored as motion.npz files.

python tools/make_motions.py [--output=DIR]
"""

from collections.abc import Sequence
from pathlib import Path

import champ_jax
from champ_jax.body.authored import MOTIONS
from champ_jax.common.cli import Parser, run
from champ_jax.common.outputs import NPZ, Output, claim


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    default = Path(champ_jax.__file__).parent / "assets/motions"
    parser.add_argument("--output", type=Path, default=default, help="folder (default: the package's assets)")
    options = parser.parse_args(argv)
    paths = {name: options.output / f"{name}.npz" for name in MOTIONS}
    claim([Output("--output", path, NPZ) for path in paths.values()])
    for name, make in MOTIONS.items():
        motion = make()
        motion.save(paths[name])
        print(f"{paths[name]}: {len(motion)} frames")


if __name__ == "__main__":
    run(main)
