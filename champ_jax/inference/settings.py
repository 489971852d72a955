"""How a clip is made: everything a run can choose, with its range, checked before anything is loaded or compiled.

`Settings` is the one list of these fields. The command's config (`champ_jax.inference.config`), the pipeline's Python
call and the checks derive from it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Choice, Integer, Number, Rule, check_config
from champ_jax.diffusion.samplers import SAMPLERS, Path
from champ_jax.diffusion.schedules import Schedule
from champ_jax.diffusion.windows import Windows
from champ_jax.models.champ import ChampConfig

PIXELS = 512 * 512
"""Pixels of a video whose size is not asked for."""

MAX_SIDE = 16384
"""Pixels of a side that an H.264 encoder takes."""

_SIDE = Integer(minimum=8, maximum=MAX_SIDE, optional=True)
STEPS = Integer(minimum=1, maximum=100_000)
GUIDANCE_SCALE = Number(minimum=0, maximum=1000)


def _setting(default: Any, rule: Rule, path: str | None = None) -> Any:
    """A field with its range; `path` is its dotted name in the command's config, where that is another."""
    return dataclasses.field(default=default, metadata={"rule": rule, "path": path})


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a clip is made.

    Attributes:
      width, height: size of the video, rounded to what the model needs; None follows the picture's aspect (both None:
        about 512 x 512 pixels).
      steps: number of denoising steps.
      guidance_scale: weight of classifier-free guidance (Ho & Salimans 2022); 1 or less turns it off and halves the
        work.
      seed: seed of the noise.
      sampler: a name of `champ_jax.diffusion.samplers.SAMPLERS`.
      eta: amount of fresh noise in each step of ddim, 1 being DDPM's, and of tcd, whose authors take 0.3.
      windows: how long clips are cut.
      batch: number of windows that a device denoises at once.
      chunk: number of frames that a device encodes or decodes at once.

    Raises:
      InputError: names the field that is out of its range.
    """

    width: int | None = _setting(None, _SIDE)
    height: int | None = _setting(None, _SIDE)
    steps: int = _setting(20, STEPS)
    guidance_scale: float = _setting(3.5, GUIDANCE_SCALE)
    seed: int = _setting(42, Integer(minimum=0, maximum=2**32 - 1))
    sampler: str = _setting("ddim", Choice(*SAMPLERS))
    eta: float = _setting(0.0, Number(minimum=0, maximum=1))
    windows: Windows = Windows()
    batch: int = _setting(1, Integer(minimum=1, maximum=4096), "windows.batch")
    chunk: int = _setting(4, Integer(minimum=1, maximum=4096))

    def __post_init__(self) -> None:
        check_config(self.to_config(), RULES, prefix="")
        if self.eta and not SAMPLERS[self.sampler].takes_eta:
            taking = " and ".join(name for name, sampler in SAMPLERS.items() if sampler.takes_eta)
            raise InputError(f"eta={self.eta}: {self.sampler} takes no eta, only {taking} do; leave it 0")

    def to_config(self) -> dict[str, Any]:
        """The values by their names in the command's config, windows as a group."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["windows"] = dataclasses.asdict(self.windows)
        for name, path in _PATHS.items():
            group, field = path.split(".")
            values[group][field] = values.pop(name)
        return values

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Settings":
        """The settings in a config that has the fields of `to_config`, and others.

        Raises:
          InputError: names the field, as `--config.FIELD`, that is out of its range.
        """
        check_config(config, RULES)
        windows = Windows(**{field.name: config["windows"][field.name] for field in dataclasses.fields(Windows)})
        values: dict[str, Any] = {"windows": windows}
        for field in dataclasses.fields(cls):
            if field.name != "windows":
                values[field.name] = _value(config, _PATHS.get(field.name, field.name))
        return cls(**values)

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on."""
        return self.guidance_scale > 1

    def check(self, model: ChampConfig, conditions: Sequence[str]) -> None:
        """Raises InputError if a model cannot run with these settings on conditions of these names."""
        Path.of(Schedule.of(model.inference), self.steps)
        for name in conditions:
            if name not in model.conditions:
                raise InputError(f"conditions: the model has no {name}; it has {', '.join(model.conditions)}")
        if model.motion is None:
            raise InputError("weights: hold no motion modules (a stage-1 model); a video needs a stage-2 model")
        if self.windows.frames > model.motion.max_length:
            raise InputError(
                f"windows.frames={self.windows.frames}: the motion modules know {model.motion.max_length} frames"
            )

    def size(self, model: ChampConfig, picture: tuple[int, ...]) -> tuple[int, int]:
        """The (width, height) of the video for a picture of shape (H, W, ...)."""
        aspect = picture[1] / picture[0]
        width = self.width or (self.height * aspect if self.height else (PIXELS * aspect) ** 0.5)
        height = self.height or width / aspect
        multiple = model.vae.downscale
        return multiple * max(round(width / multiple), 1), multiple * max(round(height / multiple), 1)

    def latent_shape(self, model: ChampConfig, picture: tuple[int, ...], frames: int) -> tuple[int, int, int, int]:
        """(F, h, w, C) of the clip's latents for a picture of shape (H, W, ...)."""
        width, height = self.size(model, picture)
        shrink = model.vae.downscale
        return frames, height // shrink, width // shrink, model.unet.in_channels


_PATHS = {field.name: field.metadata["path"] for field in dataclasses.fields(Settings) if field.metadata.get("path")}
RULES: dict[str, Rule] = {
    _PATHS.get(field.name, field.name): field.metadata["rule"]
    for field in dataclasses.fields(Settings)
    if "rule" in field.metadata
}
"""{dotted name in the command's config: the values it may have}; `Windows` knows those of its fields."""


def _value(config: Mapping[str, Any], path: str) -> Any:
    for name in path.split("."):
        config = config[name]
    return config


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
