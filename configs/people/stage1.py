"""DOCstage1

    python -m champ_jax.train --config=configs/people/stage1.py --workdir=work/builtin/stage1 \\
        --config.data.path=work/builtin/dataset INITstage1

COSTstage1
"""

from champ_jax.training.people import stage1 as get_config

__all__ = ["get_config"]
