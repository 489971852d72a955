"""Stage 2, clips of 24 frames (every 4th of the video), with the paper's numbers: batch 8, 20,000 steps, AdamW 1e-5.

    python -m champ_jax.train --config=configs/stage2.py --workdir=work/stage2 --config.init=work/stage1 \\
        --config.data.path=DATASET

Trains the motion modules only, at 512x512; they come from the stage-1 run if that was given some (AnimateDiff's), or
from --config.init_motion=CHECKPOINT. Hardware: 8 GPUs or TPU chips of 80 GB, one clip each; fewer with
--config.optimizer.accumulate=N. Cost: the reference implementation takes 0.77 s for a clip on one H100, so 20,000 steps
of 8 are about 34 hours on one, 4.3 on eight, at its speed.
"""

from ml_collections import ConfigDict

from champ_jax.training.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.stage = 2
    config.trainable = "stage2"
    config.steps = 20_000
    config.conditions = ("depth", "normal", "semantic_map", "dwpose")

    # Velocity under scaled-linear betas, rescaled to zero terminal SNR.
    config.schedule.betas = "scaled_linear"
    config.schedule.beta_start = 0.00085
    config.schedule.beta_end = 0.012
    config.schedule.length = 1000
    config.schedule.zero_terminal_snr = True
    config.schedule.prediction = "v_prediction"

    config.data.batch_size = 8
    config.data.image_size = (512, 512)  # width, height
    config.data.frames = 24
    config.data.stride = 4
    config.data.crop = "random"
    config.data.area = (0.9, 1.0)  # share of the picture

    config.loss.noise_offset = 0.05
    config.loss.snr_gamma = 5.0
    config.loss.drop_rate = 0.1

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-5
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 1e-2
    config.optimizer.clip_norm = 1.0
    config.optimizer.schedule = "constant"

    config.dtype = config.frozen_dtype = "bfloat16"
    config.remat = "full"
    config.checkpoint.every = 2000
    config.validation.every = 2000
    return config
