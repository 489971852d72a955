"""Animates a picture of a person.

    champ animate --config.reference=person.png --config.motion=motion.npz --config.weights=DIR --config.output=out.mp4
    champ animate --config.reference=person.png --config.driving=dance.mp4 --config.weights=DIR

Without arguments it runs on built-in inputs. `python -m champ_jax.animate` is the same command. docs/animate.md
describes every field.
"""

from collections.abc import Sequence

from champ_jax.common.cli import Parser, run
from champ_jax.common.cluster import join_cluster
from champ_jax.common.configs import config_parser, parse_config
from champ_jax.inference import batch
from champ_jax.inference.config import get_config, guide


def parser() -> Parser:
    """What the command takes, for completion."""
    return config_parser(get_config(), description=__doc__, guide=guide())


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    config, _ = parse_config(argv, get_config, description=__doc__, guide=guide)
    with join_cluster(config.distributed):
        return batch.run(config)


if __name__ == "__main__":
    run(main)
