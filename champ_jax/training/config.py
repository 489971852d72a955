"""The config of a training run: every field with its default and its meaning, what it may be, what excludes what.

The files in configs/ start from `default_config` and set what makes a run the one that it is.
"""

import argparse
import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from champ_jax.common import compilation_cache, distributed
from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.configs import Guide
from champ_jax.common.errors import InputError
from champ_jax.common.field_meanings import attributes_of, comments_of
from champ_jax.common.profiler import parse_steps
from champ_jax.common.ranges import Choice, Integer, Items, Number, Rule, check_config, did_you_mean
from champ_jax.data.framing import CROPS, RESIZES
from champ_jax.models.attention import recommended_kernels
from champ_jax.models.champ import SCHEDULE_RULES, ChampConfig, ScheduleConfig
from champ_jax.models.options import REMAT_POLICIES, AttentionKernels
from champ_jax.training.objective import DROP_PER
from champ_jax.training.optimizer import DECAYED, OPTIMIZERS, SCHEDULES
from champ_jax.training.parameters import LORA, TRAINABLE
from champ_jax.training.step import UNROLL

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def default_config() -> ConfigDict:
    """Every field, with stage 1's values, which the command runs if no config is named. --help prints the comments."""
    config = ConfigDict()
    config.stage = 1  # 0: the autoencoder; 1: single frames, no motion modules; 2: clips
    config.trainable = "stage1"  # the networks that are trained (docs/training.md)
    config.steps = 60_000  # steps of the whole run
    config.seed = 0  # seed of all randomness
    config.init = ""  # a checkpoint directory, a work folder or a packed model to start from; empty: random weights
    # the same, or a file of motion modules (AnimateDiff's), for them alone; empty: those of `init`
    config.init_motion = ""
    config.lora = ConfigDict()
    config.lora.rank = 16  # trainable=lora: the rank of every adapter
    # trainable=lora: parts of the names of the denoiser's layers that get one; reference:PART for the ReferenceNet's
    config.lora.targets = ("to_q", "to_k", "to_v", "to_out")
    config.conditions = CONDITIONS  # the guidance maps that the model is given
    # sizes (ChampConfig.to_json) of a model trained from random weights; empty takes those of `init`, or Champ's
    config.model = ConfigDict()
    config.schedule = ConfigDict(dataclasses.asdict(ScheduleConfig(betas="scaled_linear")))

    config.data = ConfigDict()
    config.data.path = ""  # a dataset that tools/build_dataset.py wrote, or folders of videos
    config.data.batch_size = 32  # samples of a step, over all devices
    config.data.image_size = (768, 768)  # width, height in pixels
    config.data.cached = False  # trains on cached latents and embeddings
    # false with cached latents: the image encoder runs (because it is trained)
    config.data.cached_embeddings = True
    config.data.crop = "random"  # how pictures are cut to size
    config.data.resize = "cover"  # how pictures are scaled to size
    config.data.area = (0.9, 1.0)  # crop random: least and largest share of the picture's area
    config.data.box_scale = (0.8, 1.2)  # crop box: least and largest side as a multiple of the person's box
    # share of samples in other colors, reference and targets alike; needs cached=false
    config.data.recolored = 0.0
    config.data.margin = 30  # stage 1: least distance of reference and target in frames
    config.data.frames = 24  # stage 2: length of a clip in frames
    config.data.stride = 4  # stage 2: distance of a clip's frames in the video
    config.data.workers = 8  # processes that read and decode; 0: threads of this one
    config.data.read_ahead = 2  # batches read ahead

    config.loss = ConfigDict()
    config.loss.noise_offset = 0.05  # weight of noise that is the same for all pixels of a channel
    config.loss.snr_gamma = 5.0  # gamma of min-SNR weights; 0: all timesteps weigh alike
    # the least timestep drawn; 999 trains for samples of one step, from pure noise
    config.loss.first_timestep = 0
    # weight of latents on the person, those of the background weighing 1; stages 1 and 2
    config.loss.person_weight = 1.0
    # weight of the decoded pictures' error beside that of the latents; needs cached=false
    config.loss.pixel_weight = 0.0
    config.loss.drop_rate = 0.1  # probability of training without the reference, for classifier-free guidance
    config.loss.drop_per = "sample"  # what it is drawn for; the published model was trained by batch
    config.loss.kl_weight = 1e-3  # stage 0: weight of the divergence from a normal distribution

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # the optimizer
    config.optimizer.learning_rate = 1e-5  # learning rate after the warm-up
    config.optimizer.b1 = 0.9  # decay of the mean of gradients
    config.optimizer.b2 = 0.999  # decay of the mean of their squares
    config.optimizer.eps = 1e-8  # added to the denominator
    config.optimizer.weight_decay = 1e-2  # weight decay, times the learning rate
    config.optimizer.decayed = "all"  # the parameters that decay; kernels: no biases, norms, embeddings
    config.optimizer.clip_norm = 1.0  # largest norm of the gradient; 0: no clipping
    config.optimizer.warmup = 1  # steps of the warm-up
    config.optimizer.schedule = "constant"  # the learning rate after the warm-up
    # share of the learning rate left at the end of cosine and linear
    config.optimizer.final_fraction = 0.0
    config.optimizer.accumulate = 1  # pieces a batch goes through the networks in
    config.optimizer.unroll = "auto"  # how the pieces are compiled; auto unrolls on CPUs

    config.average = ConfigDict()
    config.average.decay = 0.0  # decay of the parameters' moving average; 0: none

    config.dtype = "bfloat16"  # the dtype of the computation; trained parameters are float32
    config.frozen_dtype = "bfloat16"  # the dtype of the parameters that are not trained
    config.remat = "full"  # what the backward pass recomputes: more saves memory
    config.attention = "auto"  # attention kernels; auto: those recommended for the platform
    config.fast_compile = False  # on CPUs: half the compile time for twice the step's

    # prints every tensor's shape, spec and bytes a device before anything is allocated
    config.print_sharding = False
    config.mesh = ConfigDict()
    config.mesh.data = 0  # groups of devices that repeat the parameters; 0: as many as there are
    config.mesh.fsdp = 1  # devices that one copy of the parameters is split over

    config.distributed = distributed.defaults()

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 2000  # steps from checkpoint to checkpoint
    config.checkpoint.keep = 3  # how many of the newest are kept
    config.checkpoint.keep_every = 20_000  # steps whose multiples are kept for good; 0: none

    config.validation = ConfigDict()
    config.validation.every = 2000  # steps from validation to validation; 0: never
    config.validation.path = ""  # a dataset; empty: the training data's
    config.validation.samples = 4  # clips that are sampled
    config.validation.steps = 20  # denoising steps
    config.validation.guidance_scale = 3.5  # weight of classifier-free guidance
    config.validation.fps = 8  # frames per second of the videos

    config.compilation_cache = compilation_cache.DEFAULT  # a folder for GPU and TPU programs; empty: none
    config.profile = ConfigDict()
    config.profile.steps = ""  # A:B: writes a profiler's trace of the steps from A to the one before B; empty: none

    config.nonfinite = ConfigDict()
    config.nonfinite.in_row = 10  # steps skipped one after the other that stop the run
    config.nonfinite.total = 1000  # steps skipped in all that stop it

    config.log_every = 10  # steps between progress lines where there is no terminal
    return config


GROUPS = {
    "The run": (
        "stage",
        "trainable",
        "lora.",
        "steps",
        "seed",
        "init",
        "init_motion",
        "conditions",
        "log_every",
        "nonfinite.",
    ),
    "Data": ("data.",),
    "Loss": ("loss.",),
    "Noise schedule": ("schedule.",),
    "Optimizer": ("optimizer.", "average."),
    "Computation": ("dtype", "frozen_dtype", "remat", "attention", "fast_compile", "compilation_cache", "profile."),
    "Devices": ("mesh.", "print_sharding"),
    "Checkpoints": ("checkpoint.",),
    "Validation": ("validation.",),
    "Several processes": ("distributed.",),
}
"""{heading in --help: its fields}."""


def guide() -> Guide:
    """What --help says of the fields."""
    meanings = comments_of(default_config) | attributes_of(ScheduleConfig, "schedule.") | distributed.meanings()
    return Guide(RULES, meanings, GROUPS)


class LayerPart:
    """A rule: a part of a layer's name, from dot to dot, perhaps after 'reference:'."""

    def __str__(self) -> str:
        return "a part of a layer's name"

    def problem(self, value: Any) -> str | None:
        """The reason why `value` is none; None if it is."""
        good = isinstance(value, str) and re.fullmatch(r"(reference:)?\w{1,100}(\.\w{1,100}){0,20}", value)
        return None if good else f"expected {self}, such as to_q or attn1.to_v"

    def __call__(self, text: str) -> str:
        """Checks an argument."""
        if reason := self.problem(text):
            raise argparse.ArgumentTypeError(f"{reason}, got {text[:60]}")
        return text


# What each number and name may be. The sizes of `model` are the networks' own to check.
RULES: dict[str, Rule] = {
    "stage": Choice(0, 1, 2),
    "trainable": Choice(*TRAINABLE, LORA),
    "lora.rank": Integer(minimum=1, maximum=4096),
    "lora.targets": Items(LayerPart(), minimum=1, distinct=True),
    "steps": Integer(minimum=1),
    "seed": Integer(minimum=0, maximum=2**32 - 1),
    "conditions": Items(Choice(*CONDITIONS), minimum=1, distinct=True),
    **{f"schedule.{name}": rule for name, rule in SCHEDULE_RULES.items()},
    "data.batch_size": Integer(minimum=1, maximum=2**20),
    "data.image_size": Items(Integer(minimum=8, maximum=2**14), minimum=2, maximum=2),
    "data.crop": Choice(*CROPS),
    "data.resize": Choice(*RESIZES),
    "data.area": Items(Number(above=0, maximum=1), minimum=2, maximum=2, increasing=True),
    "data.box_scale": Items(Number(above=0, maximum=100), minimum=2, maximum=2, increasing=True),
    "data.recolored": Number(minimum=0, maximum=1),
    "data.margin": Integer(minimum=0),
    "data.frames": Integer(minimum=1, maximum=10_000),
    "data.stride": Integer(minimum=1, maximum=10_000),
    "data.workers": Integer(minimum=0, maximum=1024),
    "data.read_ahead": Integer(minimum=0, maximum=1024),
    "loss.noise_offset": Number(minimum=0, maximum=10),
    "loss.snr_gamma": Number(minimum=0, maximum=1e6),
    "loss.first_timestep": Integer(minimum=0),
    "loss.person_weight": Number(above=0, maximum=1e6),
    "loss.pixel_weight": Number(minimum=0, maximum=1e6),
    "loss.drop_rate": Number(minimum=0, maximum=1),
    "loss.drop_per": Choice(*DROP_PER),
    "loss.kl_weight": Number(minimum=0, maximum=1e6),
    "optimizer.name": Choice(*OPTIMIZERS),
    "optimizer.learning_rate": Number(minimum=0, maximum=10),
    "optimizer.b1": Number(minimum=0, below=1),
    "optimizer.b2": Number(minimum=0, below=1),
    "optimizer.eps": Number(minimum=1e-30, maximum=1),
    "optimizer.weight_decay": Number(minimum=0, maximum=10),
    "optimizer.decayed": Choice(*DECAYED),
    "optimizer.clip_norm": Number(minimum=0),
    "optimizer.warmup": Integer(minimum=0),
    "optimizer.schedule": Choice(*SCHEDULES),
    "optimizer.final_fraction": Number(minimum=0, maximum=1),
    "optimizer.accumulate": Integer(minimum=1, maximum=2**20),
    "optimizer.unroll": Choice(*UNROLL),
    "average.decay": Number(minimum=0, below=1),
    "dtype": Choice(*DTYPES),
    "frozen_dtype": Choice(*DTYPES),
    "remat": Choice("none", *REMAT_POLICIES),
    "attention": Choice("auto", "xla"),
    "mesh.data": Integer(minimum=0, maximum=2**20),
    "mesh.fsdp": Integer(minimum=1, maximum=2**20),
    **distributed.RULES,
    "checkpoint.every": Integer(minimum=1),
    "checkpoint.keep": Integer(minimum=1),
    "checkpoint.keep_every": Integer(minimum=0),
    "validation.every": Integer(minimum=0),
    "validation.samples": Integer(minimum=1, maximum=100_000),
    "validation.steps": Integer(minimum=1, maximum=100_000),
    "validation.guidance_scale": Number(minimum=0, maximum=100),
    "validation.fps": Number(above=0, maximum=1000),
    "nonfinite.in_row": Integer(minimum=1),
    "nonfinite.total": Integer(minimum=1),
    "log_every": Integer(minimum=1),
}


def check(config: ConfigDict) -> None:
    """Raises InputError, naming the field, for values that cannot work or contradict each other.

    Everything that can be known without reading data or weights is checked here, before anything is compiled.
    """
    _check_fields(config, default_config(), "")
    check_config(config, RULES)
    if (config.stage == 0) != (config.trainable in ("autoencoder", "decoder")):
        raise InputError(
            f"stage={config.stage}, trainable={config.trainable}: stage 0, and no other, trains autoencoder or decoder"
        )
    if config.trainable == LORA and not config.init:
        raise InputError("trainable=lora: without init there are no weights that adapters could be added to; give it")
    if config.stage == 0 and config.data.cached:
        raise InputError("data.cached=True: stage 0 trains the autoencoder, whose latents are not there yet")
    if config.trainable == "stage1_pixels" and not config.loss.pixel_weight:
        raise InputError(
            "trainable=stage1_pixels: trains the decoder by the error of its pictures; give --config.loss.pixel_weight"
        )
    if config.data.cached and config.data.cached_embeddings and config.trainable == "stage1_image_encoder":
        raise InputError(
            f"trainable={config.trainable}: trains the image encoder, whose embeddings cannot be cached; "
            "pass --config.data.cached_embeddings=false"
        )
    if config.stage < 2 and config.init_motion:
        raise InputError(f"init_motion: stage {config.stage} trains no motion modules; give it to stage 2")
    schedule_of(config)
    parse_steps(config.profile.steps, config.steps)
    if config.validation.every and config.validation.steps > config.schedule.length:
        raise InputError(
            f"validation.steps={config.validation.steps}: the schedule has {config.schedule.length} timesteps"
        )
    if config.loss.first_timestep >= config.schedule.length:
        raise InputError(
            f"loss.first_timestep={config.loss.first_timestep}: the schedule's timesteps are "
            f"0 ... {config.schedule.length - 1}"
        )
    if config.data.cached and config.data.recolored:
        raise InputError(
            f"data.recolored={config.data.recolored}: cached latents keep their colors; pass --config.data.cached=false"
        )
    if config.data.cached and config.loss.pixel_weight:
        raise InputError(
            f"loss.pixel_weight={config.loss.pixel_weight}: needs the pictures, not cached latents alone; "
            "pass --config.data.cached=false"
        )
    if config.model:
        model_sizes(config)


def _check_fields(config: Any, schema: ConfigDict, prefix: str) -> None:
    """Raises InputError if a config lacks a field, has one that there is not, or one of another kind of value."""
    if not isinstance(config, ConfigDict):
        raise InputError(f"{prefix.rstrip('.') or 'config'}: expected a group of fields, got {str(config)[:60]!r}")
    for name in [*schema, *config]:
        if name not in config:
            raise InputError(f"{prefix}{name}: the config has no such field; is it of another command?")
        if name not in schema:
            raise InputError(f"{prefix}{name}: unknown field{did_you_mean(name, list(schema))}")
        value, default = config[name], schema[name]
        if isinstance(default, ConfigDict) and f"{prefix}{name}" != "model":
            _check_fields(value, default, f"{prefix}{name}.")
        elif isinstance(default, bool | str | ConfigDict) and not isinstance(value, type(default)):
            kind = {bool: "true or false", str: "text"}.get(type(default), "a group of fields")
            raise InputError(f"{prefix}{name}={str(value)[:60]!r}: expected {kind}")


def schedule_of(config: ConfigDict) -> ScheduleConfig:
    """The noise schedule of a run."""
    return ScheduleConfig(**config.schedule.to_dict())


def model_sizes(config: ConfigDict) -> ChampConfig:
    """The sizes that `config.model` says; Champ's if it is empty.

    Raises:
      InputError: a field is missing, unknown, or cannot work; names it.
    """
    if not config.model:
        return ChampConfig()
    try:
        return ChampConfig.from_json(config.model.to_dict())
    except (InputError, AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"model: {error}") from error


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


def kernels(
    config: ConfigDict, model: ChampConfig, platform: str | None = None, compute_capability: str | None = None
) -> AttentionKernels:
    """The attention kernels of a run on `platform`; None: JAX's default backend, and its GPU's compute capability."""
    if config.attention == "xla" or ((platform or jax.default_backend()) == "gpu" and config.dtype == "float32"):
        return AttentionKernels(platform=platform)  # cuDNN computes in 16 bits only
    return recommended_kernels(platform, compute_capability, tokens(config, model))


def tokens(config: ConfigDict, model: ChampConfig) -> list[int]:
    """Pixels of the UNet's levels, finest first."""
    width, height = (side // model.vae.downscale for side in config.data.image_size)
    return [-(-width // 2**level) * -(-height // 2**level) for level in range(model.unet.levels)]
