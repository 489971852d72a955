"""Animates a picture of a person: python -m champ_jax.animate --config.reference=person.png --config.motion=DIR ...

Without arguments it runs on built-in inputs. docs/animate.md describes every field.
"""

from collections.abc import Sequence

from champ_jax.common import cli
from champ_jax.common.cluster import join_cluster
from champ_jax.inference import batch
from champ_jax.inference.config import get_config


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    config, _ = cli.parse_config(argv, get_config, description=__doc__)
    with join_cluster(config.distributed):
        return batch.run(config)


if __name__ == "__main__":
    cli.run(main)
