"""Stage 1 of the built-in model: single frames at 128x128, the image encoder trained along, for samples of one step.

    python -m champ_jax.train --config=configs/people/stage1.py --workdir=work/builtin/stage1 \\
        --config.data.path=work/builtin/dataset --config.init=work/builtin/autoencoder

Hardware: any CPU. tools/train_builtin.py runs the whole recipe; stage1_pixels.py beside this file comes next.
"""

from pathlib import Path
from runpy import run_path

from ml_collections import ConfigDict

from champ_jax.training.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model = ConfigDict(run_path(str(Path(__file__).with_name("model.py")))["MODEL"].to_json())
    # The encoders' self-attention, over 1,024 latents of four maps, takes more than half of a step on a CPU. It begins
    # as the identity, and joins in stage1_pixels.
    config.model.guidance.attention = False
    config.stage = 1
    config.trainable = "stage1_image_encoder"  # which no checkpoint gives
    config.steps = 6000

    config.data.batch_size = 4
    config.data.image_size = (128, 128)
    config.data.margin = 4
    config.data.workers = 0
    config.data.cached = config.data.cached_embeddings = False
    config.data.recolored = 0.7  # of a thousand people's clothes too many are known by heart
    config.data.crop = "center"

    config.loss.noise_offset = 0.0
    # The conditions determine much of the picture at any noise: every timestep weighs alike, pure noise too.
    config.loss.snr_gamma = 0.0
    # Samples of one step, from pure noise, in which nothing is to be seen: a network as small as this one learns to
    # leave it alone, and then it no longer shows through. Trained at every timestep, the same network lets noise mottle
    # walls and clothes, and spends most of its steps on timesteps that its samples do not pass through.
    config.loss.first_timestep = config.schedule.length - 1
    config.loss.person_weight = 3.0  # two thirds of a frame are wall
    config.loss.drop_rate = 0.05  # guidance costs a step as small as this more than it gives

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
    config.validation.every = 1000
    config.validation.samples = 16
    config.validation.steps = 1
    config.validation.guidance_scale = 1.0
    config.validation.fps = 24
    return config
