"""How a clip is made: everything a run can choose, checked before anything is loaded or compiled."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from champ_jax.common.errors import InputError
from champ_jax.diffusion.samplers import SAMPLERS, Path
from champ_jax.diffusion.schedules import Schedule
from champ_jax.diffusion.windows import Windows
from champ_jax.models.champ import ChampConfig

PIXELS = 512 * 512  # of a video whose size was not asked for


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a clip is made.

    Attributes:
      width, height: of the video, rounded to what the model needs; None follows the picture's aspect (both None: about
        512 x 512 pixels).
      steps: denoising steps.
      guidance_scale: of classifier-free guidance; 1 or less turns it off and halves the work.
      seed: of the noise.
      sampler: a name of `diffusion.samplers.SAMPLERS`.
      eta: fresh noise in each step (ddim).
      windows: how long clips are cut.
      batch: windows a device denoises at once.
      chunk: frames a device encodes or decodes at once.

    Raises:
      InputError: names the field that cannot work.
    """

    width: int | None = None
    height: int | None = None
    steps: int = 20
    guidance_scale: float = 3.5
    seed: int = 42
    sampler: str = "ddim"
    eta: float = 0.0
    windows: Windows = Windows()
    batch: int = 1
    chunk: int = 4

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise InputError(f"sampler={self.sampler}: not one of {', '.join(SAMPLERS)}")
        if not 0 <= self.eta <= 1 or (self.eta and not SAMPLERS[self.sampler].stochastic):
            raise InputError(f"eta={self.eta}: must be within 0..1, and 0 for every sampler but ddim")
        for name in ("width", "height", "batch", "chunk"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: must be 1 or more")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed={self.seed}: must be within 0..{2**32 - 1}")
        if not np.isfinite(self.guidance_scale):
            raise InputError(f"guidance_scale={self.guidance_scale}: must be a number")

    @property
    def guided(self) -> bool:
        return self.guidance_scale > 1

    def check(self, config: ChampConfig, conditions: Sequence[str]) -> None:
        """Raises InputError if a model cannot run with these settings on conditions of these names."""
        Path.of(Schedule.of(config.inference), self.steps)
        for name in conditions:
            if name not in config.conditions:
                raise InputError(f"conditions: the model has no {name}; it has {', '.join(config.conditions)}")
        if config.motion is None:
            raise InputError("weights: hold no motion modules (a stage-1 model); a video needs a stage-2 model")
        if self.windows.frames > config.motion.max_length:
            raise InputError(
                f"windows.frames={self.windows.frames}: the motion modules know {config.motion.max_length} frames"
            )

    def size(self, config: ChampConfig, picture: tuple[int, ...]) -> tuple[int, int]:
        """The (width, height) of the video for a picture of shape (H, W, ...)."""
        aspect = picture[1] / picture[0]
        width = self.width or (self.height * aspect if self.height else (PIXELS * aspect) ** 0.5)
        height = self.height or width / aspect
        multiple = config.vae.downscale
        return multiple * max(round(width / multiple), 1), multiple * max(round(height / multiple), 1)

    def latent_shape(self, config: ChampConfig, picture: tuple[int, ...], frames: int) -> tuple[int, int, int, int]:
        """(F, h, w, C) of the clip's latents for a picture of shape (H, W, ...)."""
        width, height = self.size(config, picture)
        shrink = config.vae.downscale
        return frames, height // shrink, width // shrink, config.unet.in_channels


def check_noise(noise: np.ndarray, shape: tuple[int, ...], source: str = "noise") -> np.ndarray:
    """The noise as float32 (F, h, w, C); raises InputError, naming `source`, if it is not of `shape` or not finite."""
    if noise.shape != shape or noise.dtype.kind != "f":
        raise InputError(
            f"{source}: is {noise.shape} {noise.dtype}, this run needs floats of shape {shape}: "
            "frames, height / 8, width / 8, channels"
        )
    if not np.isfinite(noise).all():
        raise InputError(f"{source}: holds numbers that are not finite")
    return noise.astype(np.float32)
