r"""Table 4 of the paper: the guidance encoders' self-attention, on the TikTok test set.

    for video in data/tiktok/test/*; do
      python -m champ_jax.animate --config.weights=WEIGHTS --config.reference=$video/images/0001.png \
        --config.motion=$video --config.output=results/table4/ROW/$(basename $video).mp4
    done
    python -m champ_jax.evaluate --config=configs/tables/table4.py --config.weights=EVALUATION_WEIGHTS \
      --config.predictions=results/table4/ROW

    row     WEIGHTS
    w/o.    a training folder of a model whose guidance encoders have no self-attention
    w/.     the converted published weights
"""

import ml_collections

from champ_jax.evaluation import config as evaluation


def get_config() -> ml_collections.ConfigDict:
    config = evaluation.get_config()
    config.protocol = "tiktok"
    config.metrics = ("l1_legacy", "psnr_legacy", "ssim_legacy", "lpips_legacy", "fid_vid", "fvd")
    config.predictions = "results/table4/with"
    config.ground_truth = "data/tiktok/test"
    config.output = "results/table4/report.json"
    config.published = "attention"
    return config
