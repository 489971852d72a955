"""Stage 2 of the built-in model: its motion modules, on clips of 24 frames at 128x128.

    python -m champ_jax.train --config=configs/people/stage2.py --workdir=work/builtin/stage2 \\
        --config.data.path=work/builtin/dataset --config.init=work/builtin/stage1

Hardware: any CPU. Needs the latent cache, as stage 1 does. tools/train_builtin.py runs the whole recipe.
"""

from champ_jax.training.people import stage2 as get_config

__all__ = ["get_config"]
