"""The paper's ablations (Tables 3 and 4) on the small model: stage 1 without one part.

    python -m champ_jax.train --config=configs/people/ablations.py:NAME --workdir=work/NAME \\
        --config.data.path=work/builtin/dataset --config.init=work/builtin/autoencoder \\
        --config.validation.path=work/builtin/people/test

NAME is full, without_smpl (the skeleton alone), without_geometry (no depth, no normal), without_skeleton or
without_guidance_attention. A run ends with the line "validation at step 1000: psnr ..., ssim ...", on people it was not
trained on; it took 10 to 14 minutes on one core beside another one. --config.steps and --config.validation.every for
longer ones. docs/results.md has the figures.
The paper's other ablation, shape alignment, needs no training: tools/make_drivers.py.
"""

from champ_jax.training.people import ablation as get_config

__all__ = ["get_config"]
