r"""Scores predicted videos against ground truth; docs/evaluation.md defines every metric.

    python -m champ_jax.evaluate --config=configs/evaluate.py --config.predictions=DIR --config.ground_truth=DIR \
      --config.output=report.json [--config.protocol=correct|tiktok] [--config.weights=DIR] [--config.metrics=psnr,ssim]

Any machine. On two CPU cores 1,000 pairs of 256x256 frames take about a quarter of an hour without FVD.
"""

from champ_jax.evaluation.config import get_config

__all__ = ["get_config"]
