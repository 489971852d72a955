"""Scores predicted videos against ground truth.

    champ evaluate --config.predictions=DIR --config.ground_truth=DIR --config.output=report.json
    champ evaluate --config.predictions=DIR --config.ground_truth=DIR --config.protocol=tiktok --config.weights=DIR

Both sides are a folder of videos (files, or folders of frames) matched by name, one folder of frames, or one video
file. Writes report.json, a Markdown report beside it and a picture of the worst frames. docs/evaluation.md defines
every metric. `python -m champ_jax.evaluate` is the same command.
"""

from collections.abc import Sequence

from champ_jax.common.cli import Parser, run
from champ_jax.common.cluster import join_cluster
from champ_jax.common.configs import config_parser, parse_config
from champ_jax.evaluation.config import get_config, guide
from champ_jax.evaluation.run import evaluate


def parser() -> Parser:
    """What the command takes, for completion."""
    return config_parser(get_config(), description=__doc__, guide=guide())


def main(argv: Sequence[str]) -> None:
    """Parses the arguments and evaluates."""
    config, _ = parse_config(argv, get_config, description=__doc__, guide=guide)
    with join_cluster(config.distributed):
        evaluate(config)


if __name__ == "__main__":
    run(main)
