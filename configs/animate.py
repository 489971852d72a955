"""Animates a picture: the default configuration, which lives in the package.

python -m champ_jax.animate --config=configs/animate.py --config.weights=DIR --config.reference=person.png \
    --config.motion=DIR --config.output=out.mp4

Hardware: any; Champ's weights in bfloat16 want a GPU or TPU with 10 GiB or more at 512x512.
"""

from champ_jax.animate import get_config

__all__ = ["get_config"]
