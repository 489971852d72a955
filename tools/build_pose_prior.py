"""Builds the pose prior of the fit from the motions of synthetic people, and where the 134 key points are on the body.

    python tools/build_pose_prior.py [--output=FILE] [--without=run,jump]

The shipped file comes from the default options; half a minute. `--without` leaves actions out, for a test on motions
that the prior has not seen.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import champ_jax
from champ_jax.common.cli import Parser, run
from champ_jax.common.files import atomic_path
from champ_jax.common.outputs import NPZ, Output, claim
from champ_jax.common.ranges import Choice, Integer, Items
from champ_jax.data.synthetic.actions import ACTIONS
from champ_jax.data.synthetic.anatomy import load_anatomy
from champ_jax.data.synthetic.pose_statistics import pose_statistics


def main(argv: Sequence[str]) -> None:
    parser = Parser(description=__doc__)
    default = Path(champ_jax.__file__).parent / "assets/fitting/pose_prior.npz"
    parser.add_argument("--output", type=Path, default=default, help="the file to write (default: the package's own)")
    parser.add_argument("--seed", type=Integer(minimum=0), default=20, help="the seed of the motions (%(default)s)")
    parser.add_argument("--motions", type=Integer(minimum=10, maximum=100_000), default=1500, help="(%(default)s)")
    parser.add_argument("--without", type=Items(Choice(*ACTIONS)), default=(), help="actions to leave out")
    options = parser.parse_args(argv)
    claim([Output("--output", options.output, NPZ)])
    statistics = pose_statistics(options.seed, options.motions, without=options.without)
    anatomy = load_anatomy()
    with atomic_path(options.output) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            **statistics,
            landmarks=anatomy.landmarks.astype(np.int32),
            landmark_weights=anatomy.landmark_weights.astype(np.float32),
        )
    print(f"{options.output}: {options.motions} motions")


if __name__ == "__main__":
    run(main)
