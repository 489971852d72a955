"""Trains Champ, or resumes a training.

    champ train --config=configs/stage1.py --workdir=DIR --config.data.path=DATASET --config.init=WEIGHTS

The work folder gets config.json, metrics.jsonl, checkpoints/, samples/ and TensorBoard's event files. Run the same
command again to resume from the newest checkpoint; SIGTERM saves one and ends the run with status 0. Started on many
hosts at once it is one run (docs/launch.md). `python -m champ_jax.train` is the same command.
"""

from collections.abc import Sequence

from champ_jax.common.cli import Parser, run
from champ_jax.common.configs import config_parser, parse_config
from champ_jax.common.errors import InputError
from champ_jax.training.config import default_config, guide

OPTIONS = {"workdir": "The work folder, for checkpoints, samples and logs; a run that is there goes on."}


def parser() -> Parser:
    """What the command takes, for completion."""
    return config_parser(default_config(), description=__doc__, options=OPTIONS, guide=guide())


def main(argv: Sequence[str]) -> int:
    """Parses the arguments and trains."""
    config, options = parse_config(argv, default_config, description=__doc__, options=OPTIONS, guide=guide)
    if "workdir" not in options:
        raise InputError("--workdir=DIR: missing; name the folder for checkpoints and logs")
    from champ_jax.common.cluster import join_cluster  # JAX and Orbax load after the arguments are read
    from champ_jax.training.loop import train
    from champ_jax.weights.orbax_arrays import ignore_orphaned_writes

    ignore_orphaned_writes()
    with join_cluster(config.distributed, preemption=True):
        train(config, options["workdir"])
    return 0


if __name__ == "__main__":
    run(main)
