r"""Table 3 of the paper: which guidance the motion needs, on the TikTok test set, a row a trained model.

Each row is a model trained with its conditions alone; animate and score it with the same ones:

    for video in data/tiktok/test/*; do
      python -m champ_jax.animate --config.weights=WEIGHTS --config.conditions=CONDITIONS \
        --config.reference=$video/images/0001.png --config.motion=$video \
        --config.output=results/table3/ROW/$(basename $video).mp4
    done
    python -m champ_jax.evaluate --config=configs/tables/table3.py --config.weights=EVALUATION_WEIGHTS \
      --config.predictions=results/table3/ROW

    row            CONDITIONS                             WEIGHTS
    w/o. SMPL      dwpose                                 a training folder with these conditions
    w/o. geo.      semantic_map,dwpose                    likewise
    w/o. skl.      depth,normal,semantic_map              likewise
    ours           depth,normal,semantic_map,dwpose       the converted published weights
"""

import ml_collections

from champ_jax.evaluation import config as evaluation


def get_config() -> ml_collections.ConfigDict:
    config = evaluation.get_config()
    config.protocol = "tiktok"
    config.metrics = ("l1_legacy", "psnr_legacy", "ssim_legacy", "lpips_legacy", "fid_vid", "fvd")
    config.predictions = "results/table3/ours"
    config.ground_truth = "data/tiktok/test"
    config.output = "results/table3/report.json"
    config.published = "guidance"
    return config
