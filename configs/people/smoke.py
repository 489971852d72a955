"""The smallest training there is, from random weights: for tests and first tries on a CPU.

    python -m champ_jax.train --config=configs/people/smoke.py --workdir=work/smoke --config.data.path=DIR

Hardware: any CPU. 20 steps of 8 samples at 64x64, most of whose time is compiling; a longer run is faster with
--config.fast_compile=false. `--config.stage=2 --config.trainable=stage2` trains motion modules on clips of 4. What it
makes is noise.
"""

from ml_collections import ConfigDict

from champ_jax.models.champ import ChampConfig
from champ_jax.models.clip import CLIPVisionConfig
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.motion_module import MotionConfig
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig
from champ_jax.training.config import default_config

# 0.7 million parameters, of which stage 1 trains 0.4.
MODEL = ChampConfig(
    unet=UNetConfig(
        block_out_channels=(16, 32),
        layers_per_block=1,
        attention_levels=(True, False),
        heads=(2, 2),
        cross_attention_dim=32,
        norm_num_groups=8,
    ),
    motion=MotionConfig(heads=2),
    guidance=GuidanceConfig((8, 8, 16, 16), out_channels=16, heads=2, norm_num_groups=8),
    vae=VAEConfig(block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=8),
    image_encoder=CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        patch_size=32,
        projection_dim=32,
    ),
)


def get_config() -> ConfigDict:
    config = default_config()
    config.model = ConfigDict(MODEL.to_json())
    config.stage = 1
    config.trainable = "stage1"
    config.steps = 20

    config.data.batch_size = 8
    config.data.image_size = (64, 64)
    config.data.margin = 2
    config.data.frames = 4
    config.data.stride = 1
    config.data.workers = 0

    config.optimizer.learning_rate = 1e-3
    config.average.decay = 0.9

    config.dtype = config.frozen_dtype = "float32"
    config.remat = "none"
    config.attention = "xla"
    config.fast_compile = True

    config.checkpoint.every = 5
    config.checkpoint.keep_every = 0
    config.validation.every = 0
    config.validation.steps = 4
    config.validation.samples = 2
    config.log_every = 1
    return config
