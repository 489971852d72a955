"""The smallest training there is, from random weights: for tests and first tries on a CPU.

    python -m champ_jax.train --config=configs/people/smoke.py --workdir=work/smoke --config.data.path=DIR

Hardware: any CPU. 20 steps of 8 samples at 64x64, most of whose time is compiling; a longer run is faster with
--config.fast_compile=false. `--config.stage=2 --config.trainable=stage2` trains motion modules on clips of 4. What it
makes is noise.
"""

from champ_jax.training.config import smoke as get_config

__all__ = ["get_config"]
