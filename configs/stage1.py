"""Stage 1, single frames, with the paper's numbers: 768x768, batch 32, 60,000 steps, AdamW 1e-5.

    python tools/convert_weights.py --source=stable-diffusion-v1-5 --vae=sd-vae-ft-mse --image_encoder=image_encoder \\
        --motion_module=mm_sd_v15_v2.ckpt --output=weights/sd15
    python tools/build_dataset.py --source=FOLDERS --output=DATASET
    python -m champ_jax.train --config=configs/stage1.py --workdir=work/stage1 --config.init=weights/sd15 \\
        --config.data.path=DATASET

Trains denoiser, ReferenceNet (but for its finest up block) and guidance encoders; the motion modules given are carried
to stage 2. Hardware: 8 GPUs or TPU chips of 80 GB with batch 32, fewer with --config.optimizer.accumulate=N, smaller
ones with --config.mesh.fsdp=N. Cost: the reference implementation takes 0.83 s for a step of batch 4 on one H100, so
60,000 steps of 32 are about 110 hours on one, 14 on eight, at its speed.
"""

from ml_collections import ConfigDict

from champ_jax.training.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.stage = 1
    config.trainable = "stage1"
    config.steps = 60_000
    config.conditions = ("depth", "normal", "semantic_map", "dwpose")

    # Velocity under scaled-linear betas, rescaled to zero terminal SNR.
    config.schedule.betas = "scaled_linear"
    config.schedule.beta_start = 0.00085
    config.schedule.beta_end = 0.012
    config.schedule.length = 1000
    config.schedule.zero_terminal_snr = True
    config.schedule.prediction = "v_prediction"

    config.data.batch_size = 32
    config.data.image_size = (768, 768)  # width, height
    config.data.margin = 30  # frames between reference and target
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
