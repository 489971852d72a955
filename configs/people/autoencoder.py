"""Stage 0 of the built-in model: a KL-VAE on 64x64 windows of pictures of synthetic people.

    python -m champ_jax.train --config=configs/people/autoencoder.py --workdir=work/builtin/autoencoder \\
        --config.data.path=work/builtin/dataset

Hardware: any CPU. tools/train_builtin.py runs the whole recipe.
"""

from champ_jax.training.people import autoencoder as get_config

__all__ = ["get_config"]
