"""The configs of training runs: every field, its default and its meaning, and what they say about each other.

`stage1`, `stage2` and `smoke` are the `get_config` of configs/stage1.py, configs/stage2.py and configs/people/smoke.py.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from champ_jax.common import distributed
from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.models.attention import recommended_kernels
from champ_jax.models.champ import ChampConfig, ScheduleConfig
from champ_jax.models.clip import CLIPVisionConfig
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.motion_module import MotionConfig
from champ_jax.models.options import AttentionKernels
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def base() -> ConfigDict:
    """What both stages share."""
    config = ConfigDict()
    config.stage = 1  # 0: the autoencoder; 1: single frames, no motion modules; 2: clips
    config.trainable = "stage1"  # a name in champ_jax.training.parameters.TRAINABLE
    config.steps = 60_000
    config.seed = 0
    config.init = ""  # a checkpoint directory or a work folder; '' starts from random weights
    config.init_motion = ""  # the same, for the motion modules alone; '' takes those of `init`
    config.conditions = CONDITIONS
    # Sizes (ChampConfig.to_json) of a model trained from random weights; empty takes those of `init`, or Champ's.
    config.model = ConfigDict()
    config.schedule = ConfigDict(dataclasses.asdict(ScheduleConfig(betas="scaled_linear")))

    config.data = ConfigDict()
    config.data.path = ""  # a dataset that tools/build_dataset.py wrote, or folders of videos
    config.data.batch_size = 32  # samples of a step, over all devices
    config.data.image_size = (768, 768)  # width, height
    config.data.cached = False  # train on cached latents and embeddings
    config.data.cached_embeddings = True  # False: cached latents, but the image encoder runs (because it is trained)
    config.data.crop = "random"
    config.data.resize = "cover"
    config.data.area = (0.9, 1.0)
    config.data.box_scale = (0.8, 1.2)
    config.data.margin = 30  # stage 1: least distance of reference and target, frames
    config.data.frames = 24  # stage 2: length of a clip ...
    config.data.stride = 4  # ... and the distance of its frames in the video
    config.data.workers = 8  # processes that read and decode; 0: threads of this one
    config.data.read_ahead = 2  # batches

    config.loss = ConfigDict()
    config.loss.noise_offset = 0.05
    config.loss.snr_gamma = 5.0  # 0: all timesteps weigh alike
    config.loss.drop_rate = 0.1
    config.loss.drop_per = "sample"  # or 'batch', as the published model was trained
    config.loss.kl_weight = 1e-3  # stage 0

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # or 'adafactor'
    config.optimizer.learning_rate = 1e-5
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 1e-2
    config.optimizer.decayed = "all"  # or 'kernels': no biases, norms, embeddings
    config.optimizer.clip_norm = 1.0  # 0: no clipping
    config.optimizer.warmup = 1  # steps
    config.optimizer.schedule = "constant"  # 'cosine', 'linear'
    config.optimizer.final_fraction = 0.0  # of the learning rate, at the end of 'cosine' and 'linear'
    config.optimizer.accumulate = 1  # pieces a batch goes through the networks in
    config.optimizer.unroll = "auto"  # 'unroll' or 'scan' the pieces; 'auto' unrolls on CPU

    config.average = ConfigDict()
    config.average.decay = 0.0  # of the parameters' moving average; 0: none

    config.dtype = "bfloat16"  # of the computation; trained parameters are float32
    config.frozen_dtype = "bfloat16"  # of the parameters that are not trained
    config.remat = "full"  # 'none', 'full', 'dots', 'all_dots': what the backward pass recomputes
    config.attention = "auto"  # the kernels recommended for the platform, or 'xla'
    config.fast_compile = False  # on CPU: half the compile time for twice the step's

    config.print_sharding = False  # print every tensor's shape, spec and bytes a device before anything is allocated
    config.mesh = ConfigDict()
    config.mesh.data = 0  # groups of devices that repeat the parameters; 0: as many as there are
    config.mesh.fsdp = 1  # devices that one copy of the parameters is split over

    config.distributed = distributed.defaults()

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 2000  # steps
    config.checkpoint.keep = 3  # newest
    config.checkpoint.keep_every = 20_000  # steps whose multiples are kept for good; 0: none

    config.validation = ConfigDict()
    config.validation.every = 2000  # steps; 0: never
    config.validation.path = ""  # a dataset; '' takes the training data's
    config.validation.samples = 4
    config.validation.steps = 20
    config.validation.guidance_scale = 3.5
    config.validation.fps = 8

    config.nonfinite = ConfigDict()
    config.nonfinite.in_row = 10  # steps skipped one after the other that stop the run
    config.nonfinite.total = 1000  # steps skipped in all that stop it

    config.log_every = 10  # steps between progress lines where there is no terminal
    return config


def stage1() -> ConfigDict:
    """Single frames: denoiser, ReferenceNet and guidance encoders (the paper's stage 1)."""
    return base()


def stage2() -> ConfigDict:
    """Clips of 24 frames: the motion modules alone (the paper's stage 2)."""
    config = base()
    config.stage = 2
    config.trainable = "stage2"
    config.steps = 20_000
    config.data.batch_size = 8
    config.data.image_size = (512, 512)
    return config


def smoke() -> ConfigDict:
    """A model of 0.7 million parameters, of which stage 1 trains 0.4, on 64x64 pictures, in steps of 8: for CPUs."""
    config = base()
    model = ChampConfig(
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
    config.model = ConfigDict(model.to_json())
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


def check(config: ConfigDict) -> None:
    """Raises InputError, naming the field, for values that cannot work or contradict each other."""
    if config.stage not in (0, 1, 2):
        raise InputError(f"stage={config.stage}: there are stages 0 (the autoencoder), 1 and 2")
    if (config.stage == 0) != (config.trainable == "autoencoder"):
        raise InputError(
            f"stage={config.stage}, trainable={config.trainable}: stage 0, and no other, trains autoencoder"
        )
    if config.stage == 0 and config.data.cached:
        raise InputError("data.cached=True: stage 0 trains the autoencoder, whose latents are not there yet")
    if config.data.cached and config.data.cached_embeddings and config.trainable == "stage1_image_encoder":
        raise InputError(
            f"trainable={config.trainable}: trains the image encoder, whose embeddings cannot be cached; "
            "pass --config.data.cached_embeddings=false"
        )
    for field in ("dtype", "frozen_dtype"):
        if config[field] not in DTYPES:
            raise InputError(f"{field}={config[field]}: choose {' or '.join(DTYPES)}")
    if config.attention not in ("auto", "xla"):
        raise InputError(f"attention={config.attention}: choose auto or xla")
    at_least_one = ("steps", "checkpoint.every", "checkpoint.keep", "nonfinite.in_row", "nonfinite.total", "log_every")
    for field in at_least_one:
        if _field(config, field) < 1:
            raise InputError(f"{field}={_field(config, field)}: must be 1 or more")
    for field in ("checkpoint.keep_every", "validation.every"):
        if _field(config, field) < 0:
            raise InputError(f"{field}={_field(config, field)}: must be 0 (never) or more")
    if config.validation.every and (config.validation.samples < 1 or config.validation.steps < 1):
        raise InputError("validation.samples and validation.steps: must be 1 or more")
    if len(config.data.image_size) != 2:
        raise InputError(f"data.image_size={config.data.image_size}: give width,height")
    if config.stage < 2 and config.init_motion:
        raise InputError(f"init_motion: stage {config.stage} trains no motion modules; give it to stage 2")


def check_size(config: ConfigDict, model: ChampConfig) -> None:
    """Raises InputError if the pictures or clips asked for do not suit the networks."""
    shrink = model.vae.downscale
    if any(side < 1 or side % shrink for side in config.data.image_size):
        width, height = config.data.image_size
        raise InputError(f"data.image_size={width},{height}: both must be multiples of {shrink}, the VAE's reduction")
    if config.stage == 2 and config.data.frames > model.motion.max_length:
        raise InputError(
            f"data.frames={config.data.frames}: the motion modules know {model.motion.max_length} positions; use fewer"
        )


def kernels(config: ConfigDict, model: ChampConfig, platform: str | None = None) -> AttentionKernels:
    """The attention kernels of a run on `platform`; None: JAX's default backend."""
    if config.attention == "xla" or ((platform or jax.default_backend()) == "gpu" and config.dtype == "float32"):
        return AttentionKernels(platform=platform)  # cuDNN computes in 16 bits only
    return recommended_kernels(platform, tokens=tokens(config, model))


def tokens(config: ConfigDict, model: ChampConfig) -> list[int]:
    """Pixels of the UNet's levels, finest first."""
    width, height = (side // model.vae.downscale for side in config.data.image_size)
    return [-(-width // 2**level) * -(-height // 2**level) for level in range(model.unet.levels)]


def _field(config: ConfigDict, dotted: str) -> float:
    return functools.reduce(lambda node, name: node[name], dotted.split("."), config)
