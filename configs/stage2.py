"""Stage 2, clips of 24 frames (every 4th of the video), with the paper's numbers: batch 8, 20,000 steps, AdamW 1e-5.

    python -m champ_jax.train --config=configs/stage2.py --workdir=work/stage2 --config.init=work/stage1 \\
        --config.data.path=DATASET

Trains the motion modules only, at 512x512; they come from the stage-1 run if that was given some (AnimateDiff's), or
from --config.init_motion=CHECKPOINT. Hardware: 8 GPUs or TPU chips of 80 GB, one clip each; fewer with
--config.optimizer.accumulate=N. Cost: the reference implementation takes 0.77 s for a clip on one H100, so 20,000 steps
of 8 are about 34 hours on one, 4.3 on eight, at its speed.
"""

from champ_jax.training.config import stage2 as get_config

__all__ = ["get_config"]
