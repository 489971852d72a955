"""Scores predicted videos against ground truth.

    python -m champ_jax.evaluate --config.predictions=DIR --config.ground_truth=DIR --config.output=report.json
      [--config.protocol=correct|tiktok] [--config.weights=DIR] [--config.metrics=psnr,ssim,...]

Both sides are a folder of videos (files, or folders of frames) matched by name, one folder of frames, or one video
file. Writes report.json, a Markdown report beside it and a picture of the worst frames. docs/evaluation.md defines
every metric.
"""

from collections.abc import Sequence

from champ_jax.common.cli import parse_config, run
from champ_jax.common.cluster import join_cluster
from champ_jax.evaluation.config import get_config
from champ_jax.evaluation.run import evaluate


def main(argv: Sequence[str]) -> None:
    config, _ = parse_config(argv, get_config, description=__doc__)
    with join_cluster(config.distributed):
        evaluate(config)


if __name__ == "__main__":
    run(main)
