r"""Table 2 of the paper: 100 videos of people that no training set has. The paper's own are not public; any will do.

    for video in data/unseen/*; do
      python -m champ_jax.animate --config.weights=WEIGHTS --config.reference=$video/images/0001.png \
        --config.motion=$video --config.output=results/table2/ours/$(basename $video).mp4
    done
    python -m champ_jax.evaluate --config=configs/tables/table2.py --config.weights=EVALUATION_WEIGHTS

WEIGHTS are the converted published weights (row "Ours").
"""

import ml_collections

from champ_jax.evaluation import config as evaluation


def get_config() -> ml_collections.ConfigDict:
    config = evaluation.get_config()
    config.protocol = "tiktok"
    config.metrics = ("psnr_legacy", "ssim_legacy", "lpips_legacy", "fvd")
    config.predictions = "results/table2/ours"
    config.ground_truth = "data/unseen"
    config.output = "results/table2/report.json"
    config.published = "unseen"
    return config
