"""The paper's ablations (Tables 3 and 4) on the small model: stage 1 without one part.

    python -m champ_jax.train --config=configs/people/ablations.py:NAME --workdir=work/NAME \\
        --config.data.path=work/builtin/dataset --config.init=work/builtin/autoencoder

NAME is full, without_smpl (the skeleton alone), without_geometry (no depth, no normal), without_skeleton or
without_guidance_attention. docs/results.md says how the paper's other ablation, shape alignment, is run. Cost: that of
stage 1; --config.steps=N for less.
"""

from champ_jax.training.people import ablation as get_config

__all__ = ["get_config"]
