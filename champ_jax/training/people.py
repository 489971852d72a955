"""The recipe of the built-in model: a small model trained on synthetic people at 128x128, from random weights.

`autoencoder`, `stage1` and `stage2` are the `get_config` of the files of the same names in configs/people/, the legs of
`tools/train_builtin.py`.
"""

from ml_collections import ConfigDict

from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.models.champ import ChampConfig, ScheduleConfig
from champ_jax.models.clip import CLIPVisionConfig
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.motion_module import MotionConfig
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig
from champ_jax.training.config import base

SIZE = (128, 128)
FRAMES = 24  # of a clip

# Zero terminal SNR with v-prediction: the first sampling step starts from noise alone, as in training.
SCHEDULE = ScheduleConfig(betas="scaled_linear")

# Latents an eighth the size of the pictures, as Stable Diffusion's, but of eight channels, for a face is three of them
# wide: what is learned first is to copy from the reference, and a sample costs little more than half of one with
# latents of a quarter. The guidance encoders' first convolution runs on every pixel, so it is narrow. Few groups where
# layers are narrow: normalising one or two channels by themselves leaves nothing of a flat colour.
MODEL = ChampConfig(
    unet=UNetConfig(
        in_channels=8,
        out_channels=8,
        block_out_channels=(64, 64),
        layers_per_block=1,
        attention_levels=(True, True),
        heads=(2, 2),
        cross_attention_dim=64,
        norm_num_groups=8,
    ),
    motion=MotionConfig(heads=4, attention_blocks=1),
    guidance=GuidanceConfig((8, 16, 32, 32), out_channels=64, heads=1, norm_num_groups=2),
    vae=VAEConfig(latent_channels=8, block_out_channels=(16, 32, 48, 48), layers_per_block=1, norm_num_groups=1),
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


def autoencoder() -> ConfigDict:
    """Stage 0: the KL-VAE, on 64x64 windows of the pictures."""
    config = _base(learning_rate=1e-3, decay=0.995)
    config.stage = 0
    config.trainable = "autoencoder"
    config.steps = 3000
    config.data.image_size = (64, 64)
    config.data.area = (0.25, 0.25)  # pixels as they are
    return config


def stage1() -> ConfigDict:
    """Single frames; the image encoder, which no checkpoint gives, is trained along."""
    config = _base(learning_rate=1e-3, decay=0.998)
    config.trainable = "stage1_image_encoder"
    config.steps = 5000
    config.data.batch_size = 4
    config.validation.every = 2500
    _cached(config)
    return config


def stage2() -> ConfigDict:
    """Clips of 24 frames: the motion modules alone."""
    config = _base(learning_rate=1e-3, decay=0.98)
    config.stage = 2
    config.trainable = "stage2"
    config.steps = 160
    config.data.batch_size = 1
    config.data.frames = FRAMES
    config.data.stride = 1
    _cached(config)
    return config


def _base(learning_rate: float, decay: float) -> ConfigDict:
    config = base()
    config.model = ConfigDict(MODEL.to_json())
    config.data.batch_size = 8  # twice the samples take two cores twice the time
    config.data.image_size = SIZE
    config.data.margin = 4
    config.data.workers = 0
    config.loss.noise_offset = 0.0
    # The conditions say much about the picture at any noise: every timestep weighs alike, pure noise too.
    config.loss.snr_gamma = 0.0
    config.optimizer.learning_rate = learning_rate
    config.optimizer.b2 = 0.99
    config.optimizer.weight_decay = 0.0
    config.optimizer.warmup = 50
    config.optimizer.schedule = "cosine"
    config.optimizer.final_fraction = 0.02
    config.average.decay = decay
    config.dtype = config.frozen_dtype = "float32"
    config.remat = "none"
    config.attention = "xla"
    config.checkpoint.every = 100
    config.checkpoint.keep = 1
    config.checkpoint.keep_every = 0
    config.validation.every = 500
    config.validation.samples = 8
    config.validation.steps = 10
    config.validation.guidance_scale = 1.5
    config.validation.fps = 24
    return config


def _cached(config: ConfigDict) -> None:
    config.data.cached = True
    config.data.cached_embeddings = False
    config.data.crop = "center"


# Conditions left by each ablation of the paper's Tables 3 and 4.
ABLATIONS = {
    "full": CONDITIONS,
    "without_smpl": ("dwpose",),
    "without_geometry": ("semantic_map", "dwpose"),
    "without_skeleton": ("depth", "normal", "semantic_map"),
    "without_guidance_attention": CONDITIONS,
}


def ablation(name: str) -> ConfigDict:
    """A shorter stage 1 without one part, measured at its end on one frame of 64 clips.

    Raises:
      InputError: a name that is not in ABLATIONS.
    """
    if name not in ABLATIONS:
        raise InputError(f"ablation {name}: unknown; choose {', '.join(ABLATIONS)}")
    config = stage1()
    config.conditions = ABLATIONS[name]
    config.steps = config.validation.every = 1000
    config.validation.samples = 64
    if name == "without_guidance_attention":
        config.model.guidance.attention = False
    return config
