r"""Table 1 of the paper: the TikTok test set (the ten videos MagicAnimate tests on), a row a weights folder.

Animate every test video with its own first frame as reference, once a row, then score:

    for video in data/tiktok/test/*; do
      python -m champ_jax.animate --config.weights=WEIGHTS --config.reference=$video/images/0001.png \
        --config.motion=$video --config.output=results/table1/ROW/$(basename $video).mp4
    done
    python -m champ_jax.evaluate --config=configs/tables/table1.py --config.weights=EVALUATION_WEIGHTS \
      --config.predictions=results/table1/ROW

    row                             WEIGHTS
    Champ ("Ours")                  the converted published weights
    Champ, fine-tuned ("Ours*")     a training folder of stage 2 continued on the TikTok training videos
"""

import ml_collections

from champ_jax.evaluation import config as evaluation


def get_config() -> ml_collections.ConfigDict:
    config = evaluation.get_config()
    config.protocol = "tiktok"
    config.metrics = ("l1_legacy", "psnr_legacy", "ssim_legacy", "lpips_legacy", "fid_vid", "fvd")
    config.predictions = "results/table1/ours"
    config.ground_truth = "data/tiktok/test"
    config.output = "results/table1/report.json"
    config.published = "tiktok"
    return config
