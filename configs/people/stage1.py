"""Stage 1 of the built-in model: single frames at 128x128, the image encoder trained along.

    python -m champ_jax.train --config=configs/people/stage1.py --workdir=work/builtin/stage1 \\
        --config.data.path=work/builtin/dataset --config.init=work/builtin/autoencoder

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
    config.stage = 1
    config.trainable = "stage1_image_encoder"  # which no checkpoint gives
    config.steps = 5000

    config.data.batch_size = 4
    config.data.image_size = (128, 128)
    config.data.margin = 4
    config.data.workers = 0
    config.data.cached = True
    config.data.cached_embeddings = False
    config.data.crop = "center"

    config.loss.noise_offset = 0.0
    # The conditions determine much of the picture at any noise: every timestep weighs alike, pure noise too.
    config.loss.snr_gamma = 0.0

    config.optimizer.learning_rate = 1e-3
    config.optimizer.b2 = 0.99
    config.optimizer.weight_decay = 0.0
    config.optimizer.warmup = 50
    config.optimizer.schedule = "cosine"
    config.optimizer.final_fraction = 0.02
    config.average.decay = 0.998

    config.dtype = config.frozen_dtype = "float32"
    config.remat = "none"
    config.attention = "xla"

    config.checkpoint.every = 100
    config.checkpoint.keep = 1
    config.checkpoint.keep_every = 0
    config.validation.every = 2500
    config.validation.samples = 8
    config.validation.steps = 10
    config.validation.guidance_scale = 1.5
    config.validation.fps = 24
    return config
