"""The fields of `python -m champ_jax.animate`: defaults, ranges, help. docs/animate.md describes them."""

import dataclasses

import jax
import ml_collections
from ml_collections import config_dict

from champ_jax.body.aspect import FITS
from champ_jax.common import compilation_cache, distributed
from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.configs import Guide
from champ_jax.common.errors import InputError
from champ_jax.common.field_meanings import attributes_of, comments_of
from champ_jax.common.ranges import Choice, Integer, Items, Number, Rule
from champ_jax.diffusion import windows
from champ_jax.diffusion.windows import Windows
from champ_jax.inference import settings
from champ_jax.inference.settings import Settings
from champ_jax.weights.checkpoint import DTYPES

FPS = 24.0
"""Frames per second of a video whose motion does not say."""

# Fields that belong to the whole command, not to a job.
SHARED = (
    *("weights", "untrained", "lora", "dtype", "devices", "deterministic"),
    *("jobs", "quiet", "distributed", "compilation_cache"),
)
# Fields that do not bear on the result.
UNRECORDED = ("jobs", "quiet", "distributed", "compilation_cache", "profile")

FPS_RULE = Number(minimum=0.1, maximum=1000, optional=True)
RULES: dict[str, Rule] = {
    "conditions": Items(Choice(*CONDITIONS), minimum=1, distinct=True),
    "fit": Choice(*FITS),
    "fps": FPS_RULE,
    "dtype": Choice("auto", *DTYPES),
    "devices": Integer(minimum=0, maximum=65536),
    **settings.RULES,
    "steps": dataclasses.replace(settings.STEPS, optional=True),
    "guidance_scale": dataclasses.replace(settings.GUIDANCE_SCALE, optional=True),
}
"""{dotted field: the values it may have}."""

GROUPS = {
    "Inputs": ("weights", "untrained", "lora", "reference", "motion", "driving", "body", "jobs"),
    "Outputs": ("output", "comparison", "frames_output", "latents_output", "picture_size", "quiet"),
    "The clip": ("width", "height", "frames", "fps", "fit", "conditions"),
    "Sampling": ("steps", "guidance_scale", "seed", "noise", "sampler", "eta"),
    "Windows of long clips": ("windows.",),
    "Where it runs": ("dtype", "devices", "chunk", "deterministic", "compilation_cache", "profile."),
    "Several processes": ("distributed.",),
}
"""{heading in --help: its fields}."""


def get_config() -> ml_collections.ConfigDict:
    """The default configuration. --help prints the comments."""
    config = ml_collections.ConfigDict()
    # a converted checkpoint, a training work folder or a packed model; empty: the small built-in model
    config.weights = ""
    config.untrained = False  # accepts weights that hold parts no training of a Champ has seen
    # LoRA files added to the denoiser, FILE[:SCALE],...; reference:FILE for the ReferenceNet (docs/weights.md)
    config.lora = ""
    config.reference = ""  # the picture of the person; empty: the built-in one
    config.motion = ""  # a motion folder, motion.npz or mesh_sequence.npz; empty: the built-in motion
    # in place of a motion: a video, or a tracker's points, whose person is fitted
    config.driving = ""
    config.body = ""  # the body model file for a motion.npz; empty: the open body
    config.fit = "crop"  # how a motion gets the picture's aspect: crop, pad, or none to stretch it
    config.output = ""  # the video to write; empty: results/PICTURE-MOTION/animation.mp4
    config.comparison = True  # also writes OUTPUT_comparison.mp4: picture, conditions, result side by side
    config.frames_output = ""  # a folder for the frames as PNG; empty: none
    config.latents_output = ""  # a .npy for the final latents (F, height/8, width/8, channels); empty: none
    config.picture_size = False  # gives the video (and PNG frames) the picture's size

    config.conditions = CONDITIONS  # the guidance maps that the model is given
    config.frames = ""  # A:B or A:B:STEP, a slice of the motion's frames; empty: all of them
    # frames per second of the video; None: the motion's, or 24; divided by the step of `frames`
    config.fps = config_dict.placeholder(float)
    config.noise = ""  # a .npy (F, height/8, width/8, channels) in place of the seed's noise
    config.update(Settings().to_config())  # how the clip is made: size, steps, guidance_scale, seed, windows
    # width of the video in pixels; None: by the picture's aspect, about 512x512 pixels
    config.width = config_dict.placeholder(int)
    config.height = config_dict.placeholder(int)  # height of the video in pixels; None: as `width`
    config.steps = config_dict.placeholder(int)  # denoising steps; None: 20, and 1 of the built-in model
    # weight of classifier-free guidance, 1 or less turns it off; None: 3.5, and 1 of the built-in model
    config.guidance_scale = config_dict.placeholder(float)

    config.dtype = "auto"  # the dtype of the computation; auto: float32 on CPUs, bfloat16 elsewhere
    config.devices = 0  # how many of this host's devices to use; 0: all
    config.deterministic = False  # on a GPU: only algorithms that repeat bit for bit, slower
    config.jobs = ""  # a .jsonl of jobs, {"reference", "motion", "output", ...} a line; empty: one animation
    config.quiet = False  # prints no progress
    config.compilation_cache = compilation_cache.DEFAULT  # a folder for GPU and TPU programs; empty: none

    config.profile = ml_collections.ConfigDict()
    # A:B: also writes OUTPUT_profile, a profiler's trace of the denoising steps from A to the one before B; empty: none
    config.profile.steps = ""

    config.distributed = distributed.defaults()  # jobs are split among processes
    return config


def guide() -> Guide:
    """What --help says of the fields."""
    meanings = {
        **attributes_of(Settings),
        **attributes_of(Windows, "windows."),
        "sampler": "how the noise is taken away",
        "windows.scheme": "how a long clip is cut into windows (docs/animate.md)",
        "windows.batch": attributes_of(Settings).get("batch", ""),
        **comments_of(get_config),
        **distributed.meanings(),
    }
    of_windows = {f"windows.{name}": rule for name, rule in windows.RULES.items()}
    return Guide({**RULES, **of_windows, **distributed.RULES}, meanings, GROUPS)


def select_devices(config: ml_collections.ConfigDict) -> list[jax.Device]:
    """The devices that the config asks for; raises InputError if this host has fewer."""
    there = jax.local_devices()
    if config.devices > len(there):
        raise InputError(f"--config.devices={config.devices}: this host has {len(there)}; 0 takes them all")
    return there[: config.devices or None]
