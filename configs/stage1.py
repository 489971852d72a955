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

from champ_jax.training.config import stage1 as get_config

__all__ = ["get_config"]
