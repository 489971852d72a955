"""Stage 1 of the built-in model, its end: the error of pictures joins that of latents, and the decoder learns along.

    python -m champ_jax.train --config=configs/people/stage1_pixels.py --workdir=work/builtin/stage1_pixels \\
        --config.data.path=work/builtin/dataset --config.init=work/builtin/stage1

Hardware: any CPU; a step takes three times as long as one of stage 1. tools/train_builtin.py runs the whole recipe.
"""

from pathlib import Path
from runpy import run_path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = run_path(str(Path(__file__).with_name("stage1.py")))["get_config"]()
    config.model.guidance.attention = True
    config.trainable = "stage1_pixels"
    config.loss.pixel_weight = 10.0
    config.steps = config.validation.every = 1000
    config.optimizer.learning_rate = 5e-4
    config.average.decay = 0.99
    return config
