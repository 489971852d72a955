"""The sizes of the built-in model, which the configs beside this file train on synthetic people at 128x128.

A config file takes them by `run_path(str(Path(__file__).with_name("model.py")))["MODEL"]`, wherever it is run from.
"""

from champ_jax.models.champ import ChampConfig, ScheduleConfig
from champ_jax.models.clip import CLIPVisionConfig
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.motion_module import MotionConfig
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig

# Zero terminal SNR with v-prediction: the first sampling step starts from noise alone, as in training.
SCHEDULE = ScheduleConfig(betas="scaled_linear")

# Latents a quarter the size of the pictures: a face of twelve pixels is a blur in latents of an eighth, as Stable
# Diffusion has them. ReferenceNet and denoiser attend where the features are 16x16 and 8x8; at 32x32 four times the
# pixels would look at four times as many. The guidance encoders' first convolution runs on every pixel, so it is
# narrow. Few groups where layers are narrow: normalizing one or two channels by themselves leaves nothing of a flat
# color.
MODEL = ChampConfig(
    unet=UNetConfig(
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        attention_levels=(False, True, True),
        heads=(2, 2, 2),
        cross_attention_dim=64,
        norm_num_groups=8,
    ),
    motion=MotionConfig(heads=4, attention_blocks=1),
    guidance=GuidanceConfig((8, 16, 32), out_channels=32, heads=1, norm_num_groups=2),
    vae=VAEConfig(latent_channels=4, block_out_channels=(16, 32, 48), layers_per_block=1, norm_num_groups=1),
    image_encoder=CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        patch_size=32,
        projection_dim=64,
    ),
    inference=SCHEDULE,
    training=SCHEDULE,
)
