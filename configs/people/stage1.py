"""Stage 1 of the built-in model: single frames at 128x128, the image encoder trained along.

    python -m champ_jax.train --config=configs/people/stage1.py --workdir=work/builtin/stage1 \\
        --config.data.path=work/builtin/dataset --config.init=work/builtin/autoencoder

Hardware: any CPU. Needs the latent cache
(tools/build_dataset.py --cache_latents --weights=work/builtin/autoencoder).
tools/train_builtin.py runs the whole recipe.
"""

from champ_jax.training.people import stage1 as get_config

__all__ = ["get_config"]
