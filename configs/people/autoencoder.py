"""Stage 0 of the built-in model: a KL-VAE on 64x64 windows of pictures of synthetic people.

    python -m champ_jax.train --config=configs/people/autoencoder.py --workdir=work/builtin/autoencoder \\
        --config.data.path=work/builtin/dataset

Hardware: any CPU. tools/train_builtin.py runs the whole recipe.
"""

from pathlib import Path
from runpy import run_path

from ml_collections import ConfigDict

from champ_jax.training.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model = ConfigDict(run_path(str(Path(__file__).with_name("model.py")))["MODEL"].to_json())
    config.stage = 0
    config.trainable = "autoencoder"
    config.steps = 2000

    config.data.batch_size = 8  # twice the samples take two cores twice the time
    config.data.image_size = (64, 64)
    config.data.area = (0.25, 0.25)  # of 128x128: pixels as they are
    config.data.margin = 4
    config.data.workers = 0

    config.loss.noise_offset = 0.0
    # The conditions determine much of the picture at any noise: every timestep weighs alike, pure noise too.
    config.loss.snr_gamma = 0.0

    config.optimizer.learning_rate = 1e-3
    config.optimizer.b2 = 0.99
    config.optimizer.weight_decay = 0.0
    config.optimizer.warmup = 50
    config.optimizer.schedule = "cosine"
    config.optimizer.final_fraction = 0.02
    config.average.decay = 0.995

    config.dtype = config.frozen_dtype = "float32"
    config.remat = "none"
    config.attention = "xla"

    config.checkpoint.every = 100
    config.checkpoint.keep = 1
    config.checkpoint.keep_every = 0
    config.validation.every = 1000
    config.validation.samples = 16
    config.validation.steps = 10
    config.validation.guidance_scale = 1.5
    config.validation.fps = 24
    return config
