"""DOCstage2

    python -m champ_jax.train --config=configs/people/stage2.py --workdir=work/builtin/stage2 \\
        --config.data.path=work/builtin/dataset INITstage2

COSTstage2
"""

from champ_jax.training.people import stage2 as get_config

__all__ = ["get_config"]
