"""DOCautoencoder

    python -m champ_jax.train --config=configs/people/autoencoder.py --workdir=work/builtin/autoencoder \\
        --config.data.path=work/builtin/dataset INITautoencoder

COSTautoencoder
"""

from champ_jax.training.people import autoencoder as get_config

__all__ = ["get_config"]
