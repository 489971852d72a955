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

from pathlib import Path
from runpy import run_path

from ml_collections import ConfigDict

from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError

# The conditions that each ablation leaves.
ABLATIONS = {
    "full": CONDITIONS,
    "without_smpl": ("dwpose",),
    "without_geometry": ("semantic_map", "dwpose"),
    "without_skeleton": ("depth", "normal", "semantic_map"),
    "without_guidance_attention": CONDITIONS,
}


def get_config(name: str) -> ConfigDict:
    if name not in ABLATIONS:
        raise InputError(f"ablation {name}: unknown; choose {', '.join(ABLATIONS)}")
    config = run_path(str(Path(__file__).with_name("stage1.py")))["get_config"]()
    config.conditions = ABLATIONS[name]
    config.model.guidance.attention = name != "without_guidance_attention"
    config.steps = config.validation.every = 1000
    config.validation.samples = 64
    return config
