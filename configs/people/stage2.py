"""Stage 2 of the built-in model: its motion modules, on clips of 24 frames at 128x128.

    python -m champ_jax.train --config=configs/people/stage2.py --workdir=work/builtin/stage2 \\
        --config.data.path=work/builtin/dataset --config.init=work/builtin/stage1_pixels

Hardware: any CPU. Needs the latent cache
(tools/build_dataset.py --cache_latents --weights=work/builtin/autoencoder).
tools/train_builtin.py runs the whole recipe.
"""

from pathlib import Path
from runpy import run_path

from ml_collections import ConfigDict

from champ_jax.training.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model = ConfigDict(run_path(str(Path(__file__).with_name("model.py")))["MODEL"].to_json())
    config.stage = 2
    config.trainable = "stage2"
    config.steps = 160

    config.data.batch_size = 1
    config.data.image_size = (128, 128)
    config.data.frames = 24
    config.data.stride = 1
    config.data.margin = 4
    config.data.workers = 0
    config.data.cached = True
    config.data.cached_embeddings = False
    config.data.crop = "center"

    config.loss.noise_offset = 0.0
    # The conditions determine much of the picture at any noise: every timestep weighs alike, pure noise too.
    config.loss.snr_gamma = 0.0
    config.loss.first_timestep = config.schedule.length - 1  # as in stage 1
    config.loss.person_weight = 3.0
    config.loss.drop_rate = 0.05

    config.optimizer.learning_rate = 1e-3
    config.optimizer.b2 = 0.99
    config.optimizer.weight_decay = 0.0
    config.optimizer.warmup = 50
    config.optimizer.schedule = "cosine"
    config.optimizer.final_fraction = 0.02
    config.average.decay = 0.98

    config.dtype = config.frozen_dtype = "float32"
    config.remat = "none"
    config.attention = "xla"

    config.checkpoint.every = 100
    config.checkpoint.keep = 1
    config.checkpoint.keep_every = 0
    config.validation.every = 500
    config.validation.samples = 16
    config.validation.steps = 1
    config.validation.guidance_scale = 1.0
    config.validation.fps = 24
    return config
